"""A large rebuild: several processes fold parts of the log, and their rows become one views file.

The file is made without a journal and without syncs, tables first and indexes last; it is synced once, when it is
complete and before it takes the place of the old one.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from domain.events import Envelope, Recorded, decode_payload
from projections.parts import MergedPart, fold_selected
from projections.projector import Stuck
from projections.tables import Key, Mergeable, Projection, Row, Selective, Table
from watchtower.host.durable import sync_path
from watchtower.ports import StoreError
from watchtower.store.datastore import NORMAL, connect
from watchtower.store.errors import store_error
from watchtower.store.part import SELECTED, PartResult, PartTask, fold_part
from watchtower.store.views import SqliteRows, index_ddl, table_ddl

JOBS = 4
"""Processes at most; what they make is put together by one."""

STREAMS = 260_000
"""Channels that one process holds in memory at a time, in about 600 bytes each."""

ALPHABET = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
"""What the second character of a stream's name may be, in the order of the database; all are equally frequent."""

_COUNT = "SELECT count(*) FROM stored_events WHERE originator_version = 1"

OnProgress = Callable[[int, int], None]
"""Called now and then with the events folded so far and the events to fold."""


class Ended(StoreError):
    """A process of the rebuild ended before it had made its part."""

    slug = "rebuild-ended"


def assemble(
    building: Path,
    log: Path,
    log_id: bytes,
    projections: Sequence[Projection],
    until: int,
    *,
    skipped: frozenset[str] = frozenset(),
    on_progress: OnProgress,
) -> None:
    """Make the views of events 1 to `until` in the fresh file `building`. Raises `StoreError` and `LogCorrupt`."""
    parts = [building.with_name(f"{building.name}.{number}") for number in range(1, jobs())]
    targets = [building, *parts]
    try:
        for target in targets:
            target.unlink(missing_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        tasks = _tasks(targets, log, until, skipped)
        results = _run(tasks, projections, _Progress(tasks, until, on_progress))
        stuck = _put_together(building, parts, projections, results)
    except sqlite3.Error as error:
        raise store_error(error) from error
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    _finish(building, log_id, projections, until, stuck)


def jobs() -> int:
    """Processes that fold parts of a log: one per core that this one may use, and not too many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(JOBS, cores)


# ── the work of the processes ────────────────────────────────────────────────────────────────────────────


def _tasks(targets: Sequence[Path], log: Path, until: int, skipped: frozenset[str]) -> list[PartTask]:
    """Neighboring ranges for each process, so that the parts follow each other in the order of streams."""
    with closing(connect(log, read_only=True)) as connection:
        streams = connection.execute(_COUNT).fetchone()[0]
    passes = max(1, min(len(ALPHABET) // len(targets), -(-streams // (STREAMS * len(targets)))))
    spans = list(_ranges(len(targets) * passes))
    return [
        PartTask(str(log), str(target), until, tuple(spans[n * passes : (n + 1) * passes]), n == 0, skipped)
        for n, target in enumerate(targets)
    ]


def _ranges(count: int) -> Iterator[tuple[str, str]]:
    """All names of channels in so many ranges of equal size (from, below)."""
    bounds = ["c" + ALPHABET[number * len(ALPHABET) // count] for number in range(count)]
    yield from zip(bounds, [*bounds[1:], "d"], strict=True)


class _Progress:
    """Adds up what the processes say."""

    def __init__(self, tasks: Sequence[PartTask], until: int, tell: OnProgress) -> None:
        self._looks = until * sum(len(task.ranges) for task in tasks)
        self._until, self._tell, self._seen = until, tell, 0

    def add(self, looked: int) -> None:
        """So many ids more were looked at, in one of the passes."""
        self._seen += looked
        self._tell(self._seen * self._until // max(1, self._looks), self._until)


def _run(tasks: Sequence[PartTask], projections: Sequence[Projection], progress: _Progress) -> list[PartResult]:
    if len(tasks) == 1:
        return [fold_part(tasks[0], progress.add, projections)]
    context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
    running: dict[Connection, tuple[int, SpawnProcess]] = {}
    results: dict[int, PartResult] = {}
    try:
        for number, task in enumerate(tasks):
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(there, task, tuple(projections)), daemon=True)
            process.start()
            there.close()
            running[here] = (number, process)
        while len(results) < len(tasks):
            for connection in wait([each for each, (number, _) in running.items() if number not in results]):
                assert isinstance(connection, Connection)
                answer = _received(connection)
                if isinstance(answer, PartResult):
                    results[running[connection][0]] = answer
                else:
                    progress.add(answer)
    finally:
        for connection, (_, process) in running.items():
            connection.close()
            process.terminate() if len(results) < len(tasks) else None
            process.join()
    return [results[number] for number in range(len(tasks))]


def _work(connection: Connection, task: PartTask, projections: tuple[Projection, ...]) -> None:
    """The body of a process: its progress, then its result or what went wrong."""
    try:
        connection.send(fold_part(task, connection.send, projections))
    except sqlite3.Error as error:
        connection.send(store_error(error))
    except Exception as error:  # noqa: BLE001 - the border of the process: the parent raises it
        connection.send(error)


def _received(connection: Connection) -> PartResult | int:
    try:
        answer: Any = connection.recv()
    except EOFError:
        raise Ended("a process that folds a part of the log ended; look for a lack of memory, and try again") from None
    if isinstance(answer, Exception):
        raise answer
    found: PartResult | int = answer
    return found


# ── one file ─────────────────────────────────────────────────────────────────────────────────────────────


def _put_together(
    building: Path, parts: Sequence[Path], projections: Sequence[Projection], results: Sequence[PartResult]
) -> list[tuple[str, Stuck]]:
    """All rows into the first part, then keys and indexes. Returns what goes into quarantine, by projection."""
    stuck = [(name, each) for result in results for name, found in result.stuck.items() for each in found]
    with closing(sqlite3.connect(building, isolation_level=None)) as connection:
        for setting in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -65536", "threads = 2"):
            connection.execute(f"PRAGMA {setting}")
        for number, part in enumerate(parts):
            connection.execute(f"ATTACH ? AS part{number}", (str(part),))
        schemas = ["main", *(f"part{number}" for number in range(len(parts)))]
        connection.execute("BEGIN")
        for projection in projections:
            if isinstance(projection, Selective):
                tables, found = fold_selected(projection, _selected(connection, schemas, projection.topics))
                stuck += [(projection.name, each) for each in found]
                _insert_all(connection, projection, tables)
            elif isinstance(projection, Mergeable):
                _insert_all(connection, projection, {projection.tables[0].name: _merged(projection, results)})
        connection.execute(f"DROP TABLE main.{SELECTED}")
        for table in (table for projection in projections for table in projection.tables):
            _complete(connection, table, schemas)
        connection.execute("COMMIT")
    return stuck


def _complete(connection: sqlite3.Connection, table: Table, schemas: Sequence[str]) -> None:
    """Rows of all parts into one table in the order of its key, then its indexes."""
    if table.key == 1:
        for schema in schemas[1:]:  # ranges of streams follow each other; without an index rows are copied as they are
            connection.execute(f"INSERT INTO main.{table.name} SELECT * FROM {schema}.{table.name}")  # noqa: S608
    else:
        heap = f"{table.name}_heap"
        connection.execute(f"ALTER TABLE main.{table.name} RENAME TO {heap}")
        connection.execute(table_ddl(table)[0])
        rows = [f"SELECT * FROM main.{heap}", *(f"SELECT * FROM {each}.{table.name}" for each in schemas[1:])]  # noqa: S608
        order = ", ".join(table.columns[: table.key])
        connection.execute(f"INSERT INTO main.{table.name} {' UNION ALL '.join(rows)} ORDER BY {order}")
        connection.execute(f"DROP TABLE main.{heap}")
    for statement in index_ddl(table):
        connection.execute(statement)


def _selected(
    connection: sqlite3.Connection, schemas: Sequence[str], topics: frozenset[str]
) -> Iterator[list[Recorded]]:
    """The chosen events of all parts in log order, in pages."""
    parts = " UNION ALL ".join(f"SELECT * FROM {schema}.{SELECTED}" for schema in schemas)  # noqa: S608
    cursor = connection.execute(f"{parts} ORDER BY 1")
    while rows := cursor.fetchmany(1_000):
        yield [
            Recorded(event_id, Envelope(stream, version, topic, decode_payload(topic, state)))
            for event_id, stream, version, topic, state in rows
            if topic in topics
        ]


def _merged(projection: Mergeable, results: Sequence[PartResult]) -> dict[Key, Row]:
    merged = MergedPart(projection)
    for result in results:
        merged.add(result.merged[projection.name])  # type: ignore[attr-defined]
    return merged.rows


def _insert_all(connection: sqlite3.Connection, projection: Projection, tables: dict[str, dict[Key, Row]]) -> None:
    for table in projection.tables:
        rows = tables[table.name]
        marks = ", ".join("?" * len(table.columns))
        ordered = (rows[key] for key in sorted(rows))
        connection.executemany(f"INSERT INTO {table.name} VALUES ({marks})", ordered)  # noqa: S608


def _finish(
    building: Path, log_id: bytes, projections: Sequence[Projection], until: int, stuck: Sequence[tuple[str, Stuck]]
) -> None:
    """Positions and quarantine; then everything is brought to the disk."""
    connect(building, read_only=False, synchronous=NORMAL).close()  # readers refuse a file that is not in WAL mode
    rows = SqliteRows(building)
    try:
        rows.create(log_id, projections, with_tables=False)
        with rows.batch() as batch:
            for name, each in stuck:
                batch.quarantine(name, each)
            for projection in projections:
                batch.advance(projection.name, until)
        rows.fold_wal()
    finally:
        rows.close()
    sync_path(building)
