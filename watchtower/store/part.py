"""One process of a large rebuild: folds all channels of some ranges of streams and writes their rows to a file.

The tables of that file have no key and no index yet: rows are appended, and `assemble.py` puts the parts together.
"""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from domain.events import decode_payload
from projections.catalog import PROJECTIONS
from projections.channels import ChannelViews
from projections.parts import ChannelsPart, Event, MergedPart
from projections.projector import Stuck
from projections.tables import Key, Mergeable, Projection, Row, Selective
from watchtower.store.datastore import connect
from watchtower.store.source import RawRow
from watchtower.store.views import heap_ddl

PAGE = 20_000
"""Ids read in one short transaction of the log."""

SELECTED = "selected_events"
_SELECTED_DDL = f"CREATE TABLE {SELECTED} (id INTEGER, stream TEXT, version INTEGER, topic TEXT, state BLOB)"

_COLUMNS = "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events "
# The plus keeps the database from following the index of streams: rows are read in the order in which they lie.
_IN_RANGE = _COLUMNS + "WHERE rowid BETWEEN ? AND ? AND +originator_id >= ? AND +originator_id < ? ORDER BY rowid"
_OTHERS = "OR NOT (+originator_id >= 'c' AND +originator_id < 'd')"
_WITH_OTHERS = (
    _COLUMNS + f"WHERE rowid BETWEEN ? AND ? AND (+originator_id >= ? AND +originator_id < ? {_OTHERS}) ORDER BY rowid"
)

OnFolded = Callable[[int], None]
"""Called with the number of ids that were looked at since the last call."""


class PartTask(msgspec.Struct, frozen=True):
    """What one process does: the channels with streams in `ranges` (from, below), up to event `until`.

    Each range is a pass over the log, so that only its channels are in memory. The first pass of one process takes the
    streams that are no channels too (`with_others`).
    """

    log: str
    target: str
    until: int
    ranges: tuple[tuple[str, str], ...]
    with_others: bool
    skipped: frozenset[str] = frozenset()


class PartResult(msgspec.Struct):
    """What is not in the file: streams in quarantine by projection, rows of mergeable projections."""

    stuck: dict[str, list[Stuck]]
    merged: dict[str, dict[Key, Row]]


def fold_part(task: PartTask, on_folded: OnFolded, projections: Sequence[Projection] = PROJECTIONS) -> PartResult:
    """Make the file of a part. Raises `StoreError`, `sqlite3.Error` and `LogCorrupt`; the file is then worthless."""
    was_collecting = gc.isenabled()
    gc.disable()  # millions of live objects without a cycle among them
    try:
        with closing(sqlite3.connect(task.target, isolation_level=None)) as connection:
            return _fold(task, connection, on_folded, projections)
    finally:
        if was_collecting:
            gc.enable()


def _fold(
    task: PartTask, connection: sqlite3.Connection, on_folded: OnFolded, projections: Sequence[Projection]
) -> PartResult:
    _begin(connection, projections)
    mergeable = {each.name: each for each in projections if isinstance(each, Mergeable)}
    merged = {name: MergedPart(each) for name, each in mergeable.items()}
    topics = frozenset[str]().union(*(each.topics for each in projections if isinstance(each, Selective)))
    stuck: list[Stuck] = []
    for number, streams in enumerate(task.ranges):
        channels = ChannelsPart()
        for page in _pages(task, streams, on_folded, with_others=task.with_others and number == 0):
            events = _decoded(page)
            channels.fold(events)
            for name, each in mergeable.items():
                merged[name].add(each.part((event_id, payload) for event_id, _, _, payload in events))
            chosen = [row for row in page if row[3] in topics]
            connection.executemany(f"INSERT INTO {SELECTED} VALUES (?, ?, ?, ?, ?)", chosen)  # noqa: S608
        for table, rows in channels.rows():
            marks = ", ".join("?" * len(table.columns))
            connection.executemany(f"INSERT INTO {table.name} VALUES ({marks})", rows)  # noqa: S608
        stuck += channels.stuck.values()
    connection.execute("COMMIT")
    return PartResult({ChannelViews.name: stuck}, {name: part.rows for name, part in merged.items()})


def _begin(connection: sqlite3.Connection, projections: Sequence[Projection]) -> None:
    """Nothing is durable before the parts are put together, and a crash begins anew."""
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    connection.execute(_SELECTED_DDL)
    for projection in projections:
        for table in projection.tables:
            connection.execute(heap_ddl(table))


def read_all(log: Path, until: int) -> Iterator[list[Event]]:
    """All events of a log file up to an id, decoded, in pages: as one process with one pass reads them."""
    task = PartTask(str(log), "", until, (("c", "d"),), with_others=True)
    for page in _pages(task, task.ranges[0], lambda _: None, with_others=True):
        yield _decoded(page)


def _decoded(page: list[RawRow]) -> list[Event]:
    return [
        (event_id, stream, version, decode_payload(topic, state)) for event_id, stream, version, topic, state in page
    ]


def _pages(
    task: PartTask, streams: tuple[str, str], on_folded: OnFolded, *, with_others: bool
) -> Iterator[list[RawRow]]:
    """The events of a range of streams, some ids at a time, so that a running tower can checkpoint."""
    query = _WITH_OTHERS if with_others else _IN_RANGE
    with closing(connect(Path(task.log), read_only=True)) as log:
        log.row_factory = None
        log.execute("PRAGMA cache_size = -4096")  # every page is read once
        for first in range(1, task.until + 1, PAGE):
            last = min(first + PAGE - 1, task.until)
            page: list[RawRow] = log.execute(query, (first, last, *streams)).fetchall()
            yield [row for row in page if row[1] not in task.skipped] if task.skipped else page
            on_folded(last - first + 1)
