"""Rows of a realistic log of any size: every channel has constants, keys, an outpoint and a stream of its own.

    write_rows(directory, channel_log(channels=1_000_000, events=3_000_000))     # about 20,000 to 40,000 events/s

What differs between channels is patched into the encoded events of one real registration, which is why it is fast.
Signatures are those of the template: they have the right form, and no fold looks at them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from hashlib import sha256

import msgspec

from domain.chain import BlockRef, OutPoint, double_sha256, make_outpoint
from domain.contract.hashes import tagged_hash
from domain.contract.revocation import commitment_secret
from domain.events import (
    CHAIN_STREAM,
    BlockConnected,
    ChannelProposed,
    ChannelRegistered,
    CursorStarted,
    FundingConfirmed,
    Payload,
    Source,
    StateUpdated,
    encode_payload,
)
from domain.units import Side
from tests.bench.bulk_log import BulkRow
from tests.fakes.store import STREAM_KEY
from tests.support.scenes import Scene, block, secrets_of
from watchtower.store.streams import stream_id

PER_BLOCK = 2_000
"""Channels that are funded in one block: their openings, then the block, then what it confirms."""

SECRET_NUMBERS = 4_096
"""States whose secrets are computed once for all channels."""

_BLANK = bytes(32) + b"\xff" * 4
_OUTPOINT, _RESERVE = slice(34, 70), slice(92, 100)
_AUTHS = (slice(104 + 131, 104 + 163), slice(310 + 131, 310 + 163))
_CHANNEL_ID = slice(8, 40)


class Template:
    """The opening of one real channel: what is stored for it, and where its own constants stand in it."""

    def __init__(self, opening: Sequence[Payload], confirmed: Payload, update: Payload | None = None) -> None:
        """`opening` are its proposal (may be missing), registration and state 0; `update` is any later state."""
        self.opening, self.confirmed, self.update = opening, confirmed, update
        registered = next(event for event in opening if isinstance(event, ChannelRegistered))
        self.params = registered.params

    @classmethod
    def of_scene(cls, *, proposed: bool) -> Template:
        """That of a channel nobody can find on any chain; without its proposal three events open a channel."""
        events = [event.payload for event in Scene(Side.A).opened(2).events]
        return cls(events[0 if proposed else 1 : 3], events[3], events[5])


class Copy(msgspec.Struct, frozen=True):
    """One channel: constants before and after its funding was known, and its stream."""

    stream: str
    blank: bytes
    params: bytes
    outpoint: OutPoint
    channel_id: bytes


def copies(template: Template, stream_key: bytes, outpoints: Iterator[OutPoint], *, own_keys: bool) -> Iterator[Copy]:
    """One channel per outpoint. `own_keys`: each side has an auth key of its own, which is no point on the curve."""
    reserve = int.from_bytes(template.params[_RESERVE], "little")
    for number, outpoint in enumerate(outpoints, start=1):
        made = bytearray(template.params)
        made[_RESERVE] = (reserve + number).to_bytes(8, "little")
        if own_keys:
            for place in _AUTHS:
                made[place] = sha256(b"auth %d %d" % (place.start, number)).digest()
        made[_OUTPOINT] = _BLANK
        blank = bytes(made)
        made[_OUTPOINT] = outpoint
        params = bytes(made)
        stream = stream_id(stream_key, "c", tagged_hash("SCT1/proposal", blank))
        yield Copy(stream, blank, params, outpoint, tagged_hash("SCT1/channel", params))


class _Patched:
    """The stored bytes of an event with one part that is different in every copy."""

    def __init__(self, payload: Payload, part: bytes) -> None:
        encoded = encode_payload(payload)
        self.topic = payload.TOPIC
        self._before, found, self._after = encoded.partition(part)
        if not found:
            raise ValueError(f"{self.topic} does not hold the part that is to be replaced")

    def state(self, part: bytes) -> bytes:
        return self._before + part + self._after


class Opener:
    """Makes the opening events of copies."""

    def __init__(self, template: Template, at: BlockRef) -> None:
        self._opening: list[tuple[_Patched, type[Payload]]] = []
        for event in template.opening:
            plain = msgspec.structs.replace(event, funding_tx=None) if isinstance(event, ChannelRegistered) else event
            self._opening.append((_Patched(plain, _part(plain)), type(event)))
        assert isinstance(template.confirmed, FundingConfirmed)
        self._header = next(event.header for event in template.opening if isinstance(event, StateUpdated))
        self.confirm_in(template.confirmed, at)

    def confirm_in(self, template: FundingConfirmed, at: BlockRef) -> None:
        """From here on the funding of copies is in this block."""
        self._template = template
        self._confirmed = _Patched(msgspec.structs.replace(template, block=at), template.outpoint)

    def in_block(self, at: BlockRef) -> None:
        """The same with another block."""
        self.confirm_in(self._template, at)

    def opening(self, copy: Copy) -> Iterator[BulkRow]:
        """Proposal (if the template has one), registration, state 0."""
        for version, (patched, kind) in enumerate(self._opening, start=1):
            yield copy.stream, version, patched.topic, patched.state(self._own(copy, kind))

    def confirmation(self, copy: Copy) -> BulkRow:
        """The funding is in the block."""
        version = len(self._opening) + 1
        return copy.stream, version, FundingConfirmed.TOPIC, self._confirmed.state(copy.outpoint)

    def _own(self, copy: Copy, kind: type[Payload]) -> bytes:
        if kind is ChannelProposed:
            return copy.blank
        return copy.params if kind is ChannelRegistered else _of_channel(self._header, copy.channel_id)


def _part(event: Payload) -> bytes:
    return event.header if isinstance(event, StateUpdated) else event.params  # type: ignore[attr-defined,no-any-return]


def _of_channel(header: bytes, channel_id: bytes) -> bytes:
    return header[: _CHANNEL_ID.start] + channel_id + header[_CHANNEL_ID.stop :]


class Updater:
    """Makes later states: number, channel and revealed secret are right, everything else is the template's."""

    def __init__(self, template: StateUpdated, peer: Side = Side.B) -> None:
        self._template = template
        self._seed = secrets_of(peer).seed
        self._secrets: dict[int, bytes] = {}

    def update(self, channel_id: bytes, sequence: int) -> bytes:
        """The stored bytes of state `sequence` (from 1) with the counterparty's revocation of the one before."""
        header = bytearray(_of_channel(self._template.header, channel_id))
        header[40:48] = sequence.to_bytes(8, "little")
        state = msgspec.structs.replace(
            self._template, sequence=sequence, header=bytes(header), revoked_secret=self._secret(sequence - 1)
        )
        return encode_payload(state)

    def _secret(self, sequence: int) -> bytes:
        if sequence >= SECRET_NUMBERS:
            return commitment_secret(self._seed, sequence)
        if sequence not in self._secrets:
            self._secrets[sequence] = commitment_secret(self._seed, sequence)
        return self._secrets[sequence]


def made_up_outpoints(count: int) -> Iterator[OutPoint]:
    """Outpoints that exist nowhere; a thousand of them share a transaction."""
    for number in range(count):
        yield make_outpoint(sha256(b"funding %d" % (number // 1000)).digest(), number % 1000)


def channel_log(channels: int, events: int, stream_key: bytes = STREAM_KEY, seed: int = 1) -> Iterator[BulkRow]:
    """So many channels and channel events (at least three for each), and the blocks that fund them.

    With four events or more for each, the proposal is stored too. What is left after the openings are updates of
    channels in random order, as they come in: neighbors in the log belong to different channels.
    """
    if events < 3 * channels:
        raise ValueError(f"{channels} channels have at least {3 * channels} events, got {events}")
    template = Template.of_scene(proposed=events >= 4 * channels)
    opener, height = Opener(template, block(100)), 100
    opened: list[tuple[str, bytes]] = []
    waiting: list[Copy] = []
    yield _cursor(height)
    for copy in copies(template, stream_key, made_up_outpoints(channels), own_keys=True):
        yield from opener.opening(copy)
        waiting.append(copy)
        if len(waiting) == PER_BLOCK or len(opened) + len(waiting) == channels:
            height += 1
            opener.in_block(block(height))
            yield _connected(height)
            yield from map(opener.confirmation, waiting)
            opened += [(each.stream, each.channel_id) for each in waiting]
            waiting = []
    first = len(template.opening) + 2
    yield from _updates(template, opened, events - channels * (first - 1), first, random.Random(seed))


def _updates(
    template: Template, opened: list[tuple[str, bytes]], count: int, first: int, rnd: random.Random
) -> Iterator[BulkRow]:
    assert isinstance(template.update, StateUpdated)
    updater, sequences = Updater(template.update), [0] * len(opened)
    for _ in range(count):
        number = rnd.randrange(len(opened))
        stream, channel_id = opened[number]
        sequences[number] += 1
        sequence = sequences[number]
        yield stream, first + sequence - 1, StateUpdated.TOPIC, updater.update(channel_id, sequence)


def long_channel(updates: int, stream_key: bytes = STREAM_KEY) -> tuple[str, Iterator[BulkRow]]:
    """The stream of one channel with so many updates, and its rows."""
    template = Template.of_scene(proposed=True)
    (copy,) = copies(template, stream_key, made_up_outpoints(1), own_keys=False)
    return copy.stream, _long(template, copy, updates)


def _long(template: Template, copy: Copy, updates: int) -> Iterator[BulkRow]:
    assert isinstance(template.update, StateUpdated)
    opener, updater = Opener(template, block(101)), Updater(template.update)
    yield from opener.opening(copy)
    yield opener.confirmation(copy)
    first = len(template.opening) + 1
    for sequence in range(1, updates + 1):
        yield copy.stream, first + sequence, StateUpdated.TOPIC, updater.update(copy.channel_id, sequence)


def _cursor(height: int) -> BulkRow:
    started = CursorStarted(recorded_at=0, block=block(height), chain_hash=bytes(32), chainwork=b"\x01")
    return CHAIN_STREAM, 1, started.TOPIC, encode_payload(started)


def _connected(height: int) -> BulkRow:
    header = block(height).hash * 2 + double_sha256(block(height).hash)[:16]
    connected = BlockConnected(
        recorded_at=0,
        block=block(height),
        prev=block(height - 1).hash,
        header=header,
        chainwork=height.to_bytes(4, "big"),
        source=Source.BLOCK,
    )
    return CHAIN_STREAM, height - 99, connected.TOPIC, encode_payload(connected)
