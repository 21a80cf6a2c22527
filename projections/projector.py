"""The only loop of the read side: pages, positions, exactly-once, quarantine.

All projections move together: one page, one transaction, one position for each. A page that was applied before is
never applied again, because its position would not grow. Folding does no I/O; the rows live behind `Rows`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from domain.events import Recorded
from projections.tables import Change, Key, Projection, Row, Scalar, Selective, Table

PAGE = 1_000
"""Events per transaction; with one event per transaction a rebuild takes twenty times as long."""


class Log(Protocol):
    """The part of the event store that a projector reads."""

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """The log in order of id, behind `after_id`."""


class Batch(Protocol):
    """One open transaction on the rows."""

    def load(self, table: Table, keys: Collection[Key]) -> dict[Key, Row]:
        """The rows that exist under these keys."""

    def write(self, tables: Mapping[str, Table], changes: Iterable[Change]) -> None:
        """Replace and remove rows."""

    def advance(self, projection: str, position: int) -> None:
        """Record the position; raises unless it is higher than the recorded one."""

    def quarantine(self, projection: str, stuck: Stuck) -> None:
        """Skip this stream in this projection from now on."""


class Rows(Protocol):
    """Where views live. A batch is atomic: rows and positions are stored together or not at all."""

    def batch(self) -> AbstractContextManager[Batch]:
        """Open a transaction; committed if the block ends without an exception."""

    def position(self, projection: str) -> int:
        """Id of the last event that a projection has applied, 0 at the start."""

    def quarantined(self, projection: str) -> dict[str, Stuck]:
        """Streams that a projection skips."""

    def find(self, table: Table, column: str, value: bytes | str | int) -> list[Row]:
        """Rows with this value in an indexed column, in key order."""

    def sums(self, table: Table, by: str, of: Sequence[str]) -> dict[Scalar, tuple[int, ...]]:
        """Per value of a column the number of rows and the sums of other columns, which an index has to hold."""

    def distinct(self, table: Table, column: str, unless: str) -> int:
        """How many values a column has among the rows without a value in another one, which an index has to hold."""

    def count(self, table: Table, column: str, value: Scalar, unless: str, limit: int) -> int:
        """How many of these rows have this value; not counted beyond `limit`."""

    def keys_above(self, table: Table, column: str, bound: int) -> list[Key]:
        """Keys of the rows whose number in an indexed column is greater, in any order."""

    def page(self, table: Table, after: Key | None, limit: int) -> list[Row]:
        """Rows in key order behind a key."""


class Stuck(msgspec.Struct, frozen=True):
    """The event at which a stream was quarantined, and why."""

    stream: str
    id: int
    error: str


class _Applied(msgspec.Struct):
    """One page: its last id, the changes it made, what it put into quarantine."""

    last: int
    changes: list[Change]
    stuck: list[tuple[str, Stuck]]


class Projector:
    """Brings all projections to the end of the log. Not thread-safe; its owner holds the lock."""

    def __init__(self, log: Log, rows: Rows, projections: Sequence[Projection], page: int = PAGE) -> None:
        self._log, self._rows, self._page = log, rows, page
        self._projections = tuple(projections)
        # Asked once: whether a value has a protocol's shape is the dearest question of a short page.
        self._topics = {p.name: p.topics for p in projections if isinstance(p, Selective)}
        self._tables = {table.name: table for p in projections for table in p.tables}
        positions = {rows.position(projection.name) for projection in projections}
        if len(positions) != 1:
            raise ValueError(f"projections stand at different positions {sorted(positions)}; rebuild the views")
        self._position = positions.pop()
        self._doubt: _Applied | None = None
        self._skipped = {p.name: rows.quarantined(p.name) for p in projections}

    @property
    def position(self) -> int:
        """Id of the last applied event."""
        return self._position

    @property
    def quarantined(self) -> dict[str, dict[str, Stuck]]:
        """Streams that are skipped, per projection."""
        return self._skipped

    def catch_up(self, until: int | None = None) -> Iterator[list[Change]]:
        """Apply all committed events (up to id `until`); yields the changes of each committed page.

        If a commit raised, the next call finds out whether it happened, and then yields its changes first.
        """
        yield from self._settle_doubt()
        while until is None or self._position < until:
            limit = self._page if until is None else min(self._page, until - self._position)
            page = self._log.read_log(self._position, limit)
            if not page:
                return
            yield self._apply(page)
            if until is None and len(page) < limit:
                return

    def waiting(self) -> set[str]:
        """Streams of the next page of committed events that were not applied yet."""
        return {recorded.envelope.stream for recorded in self._log.read_log(self._position, self._page)}

    def _settle_doubt(self) -> Iterator[list[Change]]:
        doubt = self._doubt
        if doubt is not None:
            self._doubt = None
            if self._rows.position(self._projections[0].name) == doubt.last:
                yield self._accept(doubt)

    def _apply(self, page: Sequence[Recorded]) -> list[Change]:
        applied = _Applied(page[-1].id, [], [])
        with self._rows.batch() as batch:
            for projection in self._projections:
                folded, stuck = self._fold(projection, batch, page)
                batch.write(self._tables, folded)
                for item in stuck:
                    batch.quarantine(projection.name, item)
                batch.advance(projection.name, applied.last)
                applied.changes.extend(folded)
                applied.stuck.extend((projection.name, item) for item in stuck)
            self._doubt = applied
        self._doubt = None
        return self._accept(applied)

    def _accept(self, applied: _Applied) -> list[Change]:
        self._position = applied.last
        for name, item in applied.stuck:
            self._skipped[name][item.stream] = item
        return applied.changes

    def _fold(self, projection: Projection, batch: Batch, page: Sequence[Recorded]) -> tuple[list[Change], list[Stuck]]:
        skipped = self._skipped[projection.name]
        topics = self._topics.get(projection.name)
        wanted = page if topics is None else [recorded for recorded in page if recorded.envelope.topic in topics]
        if skipped:
            wanted = [recorded for recorded in wanted if recorded.envelope.stream not in skipped]
        if not wanted:
            return [], []
        keys = {key for recorded in wanted for key in projection.keys(recorded)}
        before = batch.load(projection.tables[0], keys) if keys else {}
        try:
            return projection.apply(before, wanted), []
        except Exception:  # noqa: BLE001 - the border of a fold: one broken stream must not stop the others
            return fold_singly(projection, before, wanted)


def fold_singly(
    projection: Projection, before: Mapping[Key, Row], page: Sequence[Recorded]
) -> tuple[list[Change], list[Stuck]]:
    """Fold event by event; a stream whose event cannot be folded is skipped from there on."""
    base, rows = projection.tables[0], dict(before)
    final: dict[tuple[str, Key], Change] = {}
    stuck: dict[str, Stuck] = {}
    for recorded in page:
        stream = recorded.envelope.stream
        if stream in stuck:
            continue
        try:
            changes = projection.apply(rows, [recorded])
        except Exception as error:  # noqa: BLE001 - recorded as quarantine, counted and paged by the caller
            stuck[stream] = Stuck(stream, recorded.id, type(error).__name__)
            continue
        for change in changes:
            earlier = final.get((change.table, change.key))
            final[change.table, change.key] = change if earlier is None else _joined(earlier, change)
            if change.table == base.name:
                put(rows, change)
    return list(final.values()), list(stuck.values())


def _joined(first: Change, second: Change) -> Change:
    return msgspec.structs.replace(second, before=first.before)


def put(rows: dict[Key, Row], change: Change) -> None:
    """Write one change into rows in memory."""
    if change.row is None:
        rows.pop(change.key, None)
    else:
        rows[change.key] = change.row
