"""The projection of channels: one compact fold per stream, and tables that are functions of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import msgspec

from domain.events import Envelope, Recorded
from projections import block_index, channel_info, closings, funding_pending, open_breaches, watch_index
from projections.facts import ChannelFacts
from projections.folding import advance, evolve
from projections.tables import Change, Key, Row, Table, differences

STREAM_LENGTH = 23
"""Category letter and 22 characters."""


class FactsRow(msgspec.Struct, frozen=True):
    """The encoded `ChannelFacts` of a stream."""

    stream: str
    facts: bytes


FACTS = Table("channel_facts", FactsRow)

_SPENDING = ("resolved", "spends", "ends", "double_spend", "bids", "settlements", "soft_final", "terms")
_FUNDING = ("resolved", "registered", "terms", "funding_block", "funding_seen", "funding_inputs", "double_spend")

_DERIVED: tuple[tuple[Table, Callable[[str, ChannelFacts], list[Row]], tuple[str, ...]], ...] = (
    (watch_index.TABLE, watch_index.rows, ("spends", *_FUNDING)),
    (open_breaches.TABLE, open_breaches.rows, ("alerts", *_SPENDING)),
    (closings.TABLE, closings.rows, ("close_complete", *_SPENDING)),
    (funding_pending.TABLE, funding_pending.rows, _FUNDING),
    (block_index.TABLE, block_index.rows, ("claims", *_SPENDING)),
)
"""Tables that change rarely: what each is made of. If an event left those fields alone, the rows stand."""

encode_facts = msgspec.msgpack.Encoder().encode
decode_facts = msgspec.msgpack.Decoder(ChannelFacts).decode


def rows_of(channels: Sequence[tuple[str, bytes]]) -> Iterator[tuple[Table, list[Row]]]:
    """All rows of some channels (stream, encoded facts), table by table."""
    decoded = [(stream, decode_facts(encoded)) for stream, encoded in channels]
    yield FACTS, list(channels)
    for table, rows in ((channel_info.TABLE, channel_info.rows), *((table, rows) for table, rows, _ in _DERIVED)):
        yield table, [row for stream, facts in decoded for row in rows(stream, facts)]


class ChannelViews:
    """Folds channel streams; everything else in the log is passed over."""

    name: ClassVar[str] = "channels"
    version: ClassVar[int] = 4
    tables: ClassVar[tuple[Table, ...]] = (FACTS, channel_info.TABLE, *(table for table, _, _ in _DERIVED))

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
            if stream in new:
                advance(new[stream], recorded.envelope, recorded.id)
            else:
                old[stream] = known = _decode(before.get((stream,)))
                new[stream] = evolve(known, recorded.envelope, recorded.id)
        changes: list[Change] = []
        for stream, facts in new.items():
            changes.append(Change(FACTS.name, (stream,), (stream, encode_facts(facts))))
            changes.append(_info_change(stream, old[stream], facts))
            changes += _derived(stream, old[stream], facts)
        return changes


def is_channel(envelope: Envelope) -> bool:
    """True for an event of a channel's stream."""
    return is_channel_stream(envelope.stream)


def is_channel_stream(stream: str) -> bool:
    """True for the name of a channel's stream; the other names of that length begin with another letter."""
    return len(stream) == STREAM_LENGTH and stream[0] == "c"


def _info_change(stream: str, old: ChannelFacts | None, new: ChannelFacts) -> Change:
    """ChannelInfo shows version and time of the last event: every event changes it. Sums need what it was before."""
    before = None if old is None else channel_info.rows(stream, old)[0]
    (row,) = channel_info.rows(stream, new)
    return Change(channel_info.TABLE.name, (stream,), row, before)


def _decode(row: Row | None) -> ChannelFacts | None:
    if row is None:
        return None
    encoded = row[1]
    assert isinstance(encoded, bytes)
    return decode_facts(encoded)


def _derived(stream: str, old: ChannelFacts | None, new: ChannelFacts) -> list[Change]:
    changes: list[Change] = []
    for table, rows, fields in _DERIVED:
        if old is None:
            changes += differences(table, (), rows(stream, new))
        elif any(getattr(old, field) is not getattr(new, field) for field in fields):
            changes += differences(table, rows(stream, old), rows(stream, new))
    return changes
