"""Every event of every channel is checked again: signatures, secrets, rebuilt transactions, order (`domain.recheck`).

A share of a long log has tens of thousands of channels: only those in use are kept as objects, the others as bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import msgspec

from domain.events import (
    CHAIN_STREAM,
    BlockConnected,
    BlockDisconnected,
    CursorStarted,
    Envelope,
    Recorded,
)
from domain.recheck import ChainView, Flaw, Glance, Subject, Tally, begin, recheck
from watchtower.audit.domain_rules import Counted
from watchtower.audit.findings import ExitCode, Finding
from watchtower.store.source import SourceMeta

CHANNEL_LETTER = "c"
IN_USE = 2_048
"""Channels that are kept as objects."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Subject).decode


class ChannelRules:
    """The rules of the streams of channels. Without `signatures` nothing of the curve is computed that can be left."""

    def __init__(self, *, signatures: bool = True) -> None:
        self.signatures = signatures

    @property
    def name(self) -> str:
        """Which of the two."""
        return "channels and signatures" if self.signatures else "channels"

    @property
    def everywhere(self) -> frozenset[str]:
        """Facts of channels stand in blocks."""
        return frozenset({CHAIN_STREAM})

    def start(self, _log: SourceMeta, /) -> ChannelCheck:
        """Begin with no channel."""
        return ChannelCheck(signatures=self.signatures)


class ChannelCheck:
    """The channels of one share, and the chain that all shares are shown."""

    def __init__(self, *, signatures: bool) -> None:
        self.tally = Tally()
        self._signatures = signatures
        self._chain = ChainView()
        self._kept = _Kept()

    def page(self, events: Sequence[Recorded]) -> Iterator[Finding]:
        """Between two blocks, channel by channel: what was computed for a channel is then used at once."""
        waiting: dict[str, list[Recorded]] = {}
        for recorded in events:
            stream = recorded.envelope.stream
            if stream == CHAIN_STREAM:
                yield from self._look(waiting)
                waiting = {}
                self._follow(recorded.envelope)
            elif stream.startswith(CHANNEL_LETTER):
                waiting.setdefault(stream, []).append(recorded)
        yield from self._look(waiting)

    def end(self) -> tuple[Finding, ...]:
        """Nothing is left over."""
        return ()

    @property
    def counted(self) -> Counted:
        """The tally."""
        return msgspec.structs.asdict(self.tally)

    def _follow(self, event: Envelope) -> None:
        payload = event.payload
        if isinstance(payload, CursorStarted):
            self._chain.start(payload.block)
        elif isinstance(payload, BlockConnected):
            self._chain.connect(payload.block)
        elif isinstance(payload, BlockDisconnected):
            self._chain.disconnect(payload.block, payload.parent)

    def _look(self, streams: dict[str, list[Recorded]]) -> Iterator[Finding]:
        for stream, events in streams.items():
            subject = self._kept.take(stream)
            for recorded in events:
                subject, flaws = self._step(subject, recorded.envelope)
                yield from (_finding(recorded, flaw) for flaw in flaws)
            if subject is not None:
                self._kept.put(stream, subject)

    def _step(self, subject: Subject | None, event: Envelope) -> tuple[Subject | None, list[Flaw]]:
        if subject is None:
            if event.version != 1:
                return None, []  # the beginning of the stream is not here: it is named elsewhere, or out of scope
            return begin(event, self._chain, self.tally, signatures=self._signatures)
        glance = Glance(subject, self._chain, self.tally, self._signatures)
        return subject, list(recheck(glance, event))


class _Kept:
    """Channels by stream: those in use as objects, the others as bytes."""

    def __init__(self) -> None:
        self._warm: OrderedDict[str, Subject] = OrderedDict()
        self._cold: dict[str, bytes] = {}

    def take(self, stream: str) -> Subject | None:
        found = self._warm.pop(stream, None)
        if found is not None:
            return found
        encoded = self._cold.pop(stream, None)
        return None if encoded is None else _decode(encoded)

    def put(self, stream: str, subject: Subject) -> None:
        self._warm[stream] = subject
        if len(self._warm) > IN_USE:
            oldest, left = self._warm.popitem(last=False)
            self._cold[oldest] = _encode(left)


def _finding(recorded: Recorded, flaw: Flaw) -> Finding:
    return Finding(
        code=ExitCode.SIGNATURE if flaw.is_forged else ExitCode.RULE,
        position=recorded.id,
        stream=recorded.envelope.stream,
        topic=recorded.envelope.topic,
        sentence=f"event {recorded.id}: {flaw.sentence}",
    )
