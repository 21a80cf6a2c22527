"""The projection of channels: one compact fold per stream, and tables that are functions of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from domain.events import Envelope, Recorded
from projections import block_index, channel_info, closings, funding_pending, open_breaches, watch_index
from projections.facts import ChannelFacts
from projections.folding import evolve
from projections.tables import Change, Key, Row, Table, differences

STREAM_LENGTH = 23
"""Category letter and 22 characters."""


class FactsRow(msgspec.Struct, frozen=True):
    """The encoded `ChannelFacts` of a stream."""

    stream: str
    facts: bytes


FACTS = Table("channel_facts", FactsRow)

_DERIVED: tuple[tuple[Table, Callable[[str, ChannelFacts], list[Row]]], ...] = (
    (channel_info.TABLE, channel_info.rows),
    (watch_index.TABLE, watch_index.rows),
    (open_breaches.TABLE, open_breaches.rows),
    (closings.TABLE, closings.rows),
    (funding_pending.TABLE, funding_pending.rows),
    (block_index.TABLE, block_index.rows),
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ChannelFacts)


class ChannelViews:
    """Folds channel streams; everything else in the log is passed over."""

    name: ClassVar[str] = "channels"
    version: ClassVar[int] = 1
    tables: ClassVar[tuple[Table, ...]] = (FACTS, *(table for table, _ in _DERIVED))

    def keys(self, recorded: Recorded) -> Sequence[Key]:
        """The facts of the event's channel."""
        return ((recorded.envelope.stream,),) if is_channel(recorded.envelope) else ()

    def apply(self, before: Mapping[Key, Row], page: Iterable[Recorded]) -> list[Change]:
        """Fold each touched stream once and write the rows that differ."""
        old: dict[str, ChannelFacts | None] = {}
        new: dict[str, ChannelFacts] = {}
        for recorded in page:
            if not is_channel(recorded.envelope):
                continue
            stream = recorded.envelope.stream
            if stream not in new:
                old[stream] = known = _decode(before.get((stream,)))
            else:
                known = new[stream]
            new[stream] = evolve(known, recorded.envelope, recorded.id)
        changes: list[Change] = []
        for stream, facts in new.items():
            changes.append(Change(FACTS.name, (stream,), (stream, _encoder.encode(facts))))
            changes += _derived(stream, old[stream], facts)
        return changes


def is_channel(envelope: Envelope) -> bool:
    """True for an event of a channel's stream."""
    return len(envelope.stream) == STREAM_LENGTH and envelope.stream[0] == "c"


def _decode(row: Row | None) -> ChannelFacts | None:
    if row is None:
        return None
    encoded = row[1]
    assert isinstance(encoded, bytes)
    return _decoder.decode(encoded)


def _derived(stream: str, old: ChannelFacts | None, new: ChannelFacts) -> list[Change]:
    changes: list[Change] = []
    for table, rows in _DERIVED:
        before = rows(stream, old) if old is not None else []
        changes += differences(table, before, rows(stream, new))
    return changes
