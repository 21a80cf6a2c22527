"""Folding a part of the log at once: all events of some channels, each channel's facts changed in place.

What comes out are the rows that a `Projector` would have left, without any of the steps in between. A projection takes
part if it is that of channels, or `Selective`, or `Mergeable`; `can_be_parted` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from domain.events import Payload, Recorded
from projections.channels import ChannelViews, decode_facts, encode_facts, is_channel_stream, rows_of
from projections.facts import ChannelFacts
from projections.folding import advance_by, state_hash
from projections.projector import Stuck, fold_singly, put
from projections.tables import Key, Mergeable, Projection, Row, Selective, Table

HOT = 20_000
"""Channels whose facts are not encoded between two pages: few enough for the caches of a processor."""

CHUNK = 500
"""Channels whose rows are made at once."""

Event = tuple[int, str, int, Payload]
"""Id, stream, version and payload."""


def can_be_parted(projections: Sequence[Projection]) -> bool:
    """True if all rows can be made from parts of the log."""
    return all(isinstance(each, ChannelViews | Selective | Mergeable) for each in projections)


class ChannelsPart:
    """The facts of the channels in a part, and the channels whose events cannot be folded.

    Facts that wait for their next event are kept encoded: a third of the memory, and one place of it instead of many.
    """

    def __init__(self) -> None:
        self.stuck: dict[str, Stuck] = {}
        self._hot: dict[str, ChannelFacts] = {}
        self._cold: dict[str, bytes] = {}
        self._headers: dict[str, bytes] = {}
        """Of the newest states of hot channels: only their hashes are worked out."""

    def fold(self, events: Iterable[Event]) -> None:
        """Apply events in log order; those of other streams are passed over."""
        hot, cold, stuck, headers = self._hot, self._cold, self.stuck, self._headers
        for event_id, stream, version, payload in events:
            facts = hot.get(stream)
            if facts is None:
                if stream[0] != "c" or not is_channel_stream(stream):
                    continue
                if stream in cold:
                    facts = decode_facts(cold[stream])
            if stuck and stream in stuck:
                continue
            try:
                hot[stream] = advance_by(facts, stream, version, payload, event_id, headers)
            except Exception as error:  # noqa: BLE001 - one broken stream must not stop the others; told as quarantine
                stuck[stream] = Stuck(stream, event_id, type(error).__name__)
        if len(hot) > HOT:
            self._cool()

    def rows(self) -> Iterator[tuple[Table, list[Row]]]:
        """All rows, table by table for some channels at a time, in the order of their names."""
        self._cool()
        streams, cold = sorted(self._cold), self._cold
        for first in range(0, len(streams), CHUNK):
            yield from rows_of([(stream, cold[stream]) for stream in streams[first : first + CHUNK]])

    def _cool(self) -> None:
        for stream, header in self._headers.items():
            self._hot[stream].state_hash = state_hash(header)
        self._headers.clear()
        self._cold.update((stream, encode_facts(facts)) for stream, facts in self._hot.items())
        self._hot.clear()


class MergedPart:
    """The rows of a mergeable projection, from any number of parts."""

    def __init__(self, projection: Mergeable) -> None:
        self._projection = projection
        self.rows: dict[Key, Row] = {}

    def add(self, rows: dict[Key, Row]) -> None:
        """The rows of one more part."""
        for key, row in rows.items():
            known = self.rows.get(key)
            self.rows[key] = row if known is None else self._projection.merge(known, row)


def fold_selected(
    projection: Projection, events: Iterable[Sequence[Recorded]]
) -> tuple[dict[str, dict[Key, Row]], list[Stuck]]:
    """The rows by table of a projection that looks at few events, from pages of them in log order; what got stuck."""
    tables: dict[str, dict[Key, Row]] = {table.name: {} for table in projection.tables}
    stuck: dict[str, Stuck] = {}
    base = tables[projection.tables[0].name]
    for page in events:
        wanted = [each for each in page if each.envelope.stream not in stuck]
        before = {key: base[key] for each in wanted for key in projection.keys(each) if key in base}
        try:
            changes = projection.apply(before, wanted)
        except Exception:  # noqa: BLE001 - the border of a fold, as in the projector
            changes, found = fold_singly(projection, before, wanted)
            stuck.update((each.stream, each) for each in found)
        for change in changes:
            put(tables[change.table], change)
    return tables, list(stuck.values())
