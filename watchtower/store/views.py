"""The views in their own SQLite file: tables of the projections, positions, quarantine.

Disposable: nothing here is the only copy of anything. A file that does not fit this program or this log is
rebuilt. Positions are the library's tracking rows, written in the transaction of the rows they stand for.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import msgspec
from eventsourcing.persistence import PersistenceError, Tracking
from eventsourcing.sqlite import SQLiteCursor, SQLiteTrackingRecorder

from projections.projector import Batch, Stuck
from projections.tables import Change, Key, Projection, Row, Scalar, Table
from watchtower.ports import Failpoint, StoreError
from watchtower.store.datastore import NORMAL, LogDatastore, connect, no_failpoint
from watchtower.store.errors import store_error

APPLICATION_ID = 0x57545657
"""`PRAGMA application_id` of a views file: "WTVW"."""

BATCHES_PER_RELEASE = 256
"""Transactions after which cached pages are given back: about 5 MB at most between two blocks, uploads or facts."""

_CHUNK = 500
"""Keys per SELECT, below SQLite's limit for parameters."""

_SORTED = 1000
"""Rows that one question may sort; it takes about ten milliseconds."""

_COLUMN: dict[Any, str] = {bytes: "BLOB", int: "INTEGER", bool: "INTEGER", str: "TEXT"}

_META = "CREATE TABLE views_meta (only_row INTEGER PRIMARY KEY, log_id BLOB NOT NULL, layout BLOB NOT NULL)"
_QUARANTINE = (
    "CREATE TABLE quarantine (projection TEXT NOT NULL, stream TEXT NOT NULL, id INTEGER NOT NULL, "
    "error TEXT NOT NULL, PRIMARY KEY (projection, stream))"
)

_SNAPSHOTS = (
    "CREATE TABLE channel_snapshots (stream TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL, shape BLOB NOT NULL, "
    "channel BLOB NOT NULL)"
)
"""No projection: what is in it depends on when it was written. Nothing but `snapshots.py` reads it."""


@cache
def table_ddl(table: Table) -> tuple[str, ...]:
    """CREATE statements of a table and its indexes; column types follow the fields of its row struct."""
    if table.key == 1:
        return (heap_ddl(table), *index_ddl(table))
    key = ", ".join(table.columns[: table.key])
    create = f"CREATE TABLE {table.name} ({_columns(table)}, PRIMARY KEY ({key})) WITHOUT ROWID"
    return (create, *index_ddl(table))


def heap_ddl(table: Table) -> str:
    """The CREATE statement of a table to which rows can be appended; its key is an index that comes later."""
    return f"CREATE TABLE {table.name} ({_columns(table)})"


def index_ddl(table: Table) -> tuple[str, ...]:
    """CREATE statements of a table's indexes, with that of a key of one column."""
    unique = (f"CREATE UNIQUE INDEX {table.name}_key ON {table.name} ({table.columns[0]})",) if table.key == 1 else ()
    others = (f"CREATE INDEX {table.name}_{names[0]} ON {table.name} ({', '.join(names)})" for names in table.indexes)
    return (*unique, *others)


def _columns(table: Table) -> str:
    hints = get_type_hints(table.row)
    return ", ".join(f"{name} {_column_type(hints[name])}" for name in table.columns)


def _column_type(hint: object) -> str:
    options = get_args(hint) or (hint,)
    kind = next(_COLUMN[option] for option in options if option in _COLUMN)
    return kind if NoneType in options else f"{kind} NOT NULL"


def layout(projections: Sequence[Projection]) -> bytes:
    """Fingerprint of versions and tables; another one means: rebuild."""
    parts: list[str] = [_META, _QUARANTINE, _SNAPSHOTS]
    for projection in projections:
        parts.append(f"{projection.name} {projection.version}")
        parts += [statement for table in projection.tables for statement in table_ddl(table)]
    return hashlib.sha256("\n".join(parts).encode()).digest()


@cache
def _upsert(table: Table) -> str:
    names = ", ".join(table.columns)
    marks = ", ".join("?" * len(table.columns))
    key = ", ".join(table.columns[: table.key])
    others = ", ".join(f"{name} = excluded.{name}" for name in table.columns[table.key :])
    action = f"UPDATE SET {others}" if others else "NOTHING"
    return f"INSERT INTO {table.name} ({names}) VALUES ({marks}) ON CONFLICT ({key}) DO {action}"  # noqa: S608


@cache
def _delete(table: Table) -> str:
    return f"DELETE FROM {table.name} WHERE " + " AND ".join(f"{name} = ?" for name in table.columns[: table.key])  # noqa: S608


class SqliteRows:
    """The `Rows` port of the projector. One writer; readers use `datastore` connections of their own."""

    def __init__(self, path: Path, *, read_only: bool = False, failpoint: Failpoint = no_failpoint) -> None:
        self.path = path
        self._failpoint = failpoint
        self.datastore = LogDatastore(
            path,
            read_only=read_only,
            synchronous=NORMAL,
            failpoint=lambda name: failpoint(name.replace("commit", "projection_position")),
        )
        self.tracking = SQLiteTrackingRecorder(self.datastore)
        self._batches = 0

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Open a transaction; committed if the block ends without an exception. Fails with `StoreError` kinds."""
        self._failpoint("projection_apply:before")
        try:
            with self.datastore.transaction(commit=True) as cursor:
                yield SqliteBatch(cursor, self.tracking)
                self._failpoint("projection_apply:after")
            self._batches += 1
            if self._batches % BATCHES_PER_RELEASE == 0:
                self.datastore.release_pages()
        except (sqlite3.Error, PersistenceError) as error:
            raise store_error(error) from error

    def position(self, projection: str) -> int:
        """Id of the last event that a projection has applied, 0 at the start."""
        return self.tracking.max_tracking_id(f"wt:{projection}") or 0

    def quarantined(self, projection: str) -> dict[str, Stuck]:
        """Streams that a projection skips."""
        query = "SELECT stream, id, error FROM quarantine WHERE projection = ?"
        with self.reading() as connection:
            return {row[0]: Stuck(*row) for row in connection.execute(query, (projection,))}

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading; what the database cannot do is a `StoreError`, as for writing."""
        try:
            with self.datastore.raw() as connection:
                yield connection
        except (sqlite3.Error, PersistenceError) as error:
            raise store_error(error) from error

    def find(self, table: Table, column: str, value: bytes | str | int) -> list[Row]:
        """Rows with this value in an indexed column, in key order. Fails with `StoreError` kinds, as `page` does."""
        if column not in table.columns:
            raise ValueError(f"{table.name} has no column {column}")
        order = ", ".join(table.columns[: table.key])
        query = f"SELECT * FROM {table.name} WHERE {column} = ? ORDER BY {order}"  # noqa: S608
        return self._rows(query, (value,))

    def sums(self, table: Table, by: str, of: Sequence[str]) -> dict[Scalar, tuple[int, ...]]:
        """Per value of a column the number of rows and the sums of other columns, from an index over all of them."""
        _require_index(table, by, *of)
        wanted = ", ".join(("count(*)", *(f"sum({name})" for name in of)))
        found = self._rows(f"SELECT {by}, {wanted} FROM {table.name} GROUP BY {by}", ())  # noqa: S608
        return {value: numbers for value, *numbers in found}  # type: ignore[misc]

    def distinct(self, table: Table, column: str, unless: str) -> int:
        """How many values a column has among the rows without a value in another one, from an index over both."""
        _require_index(table, column, unless)
        query = f"SELECT count(DISTINCT {column}) FROM {table.name} WHERE {unless} IS NULL"  # noqa: S608
        return int(self._rows(query, ())[0][0])  # type: ignore[arg-type]

    def count(self, table: Table, column: str, value: Scalar, unless: str, limit: int) -> int:
        """How many of these rows have this value; not counted beyond `limit`."""
        _require_index(table, column, unless)
        found = f"SELECT 1 FROM {table.name} WHERE {column} = ? AND {unless} IS NULL LIMIT ?"  # noqa: S608
        return int(self._rows(f"SELECT count(*) FROM ({found})", (value, limit))[0][0])  # type: ignore[arg-type]  # noqa: S608

    def keys_above(self, table: Table, column: str, bound: int) -> list[Key]:
        """Keys of the rows whose number in an indexed column is greater, in any order."""
        if column not in table.columns:
            raise ValueError(f"{table.name} has no column {column}")
        names = ", ".join(table.columns[: table.key])
        return self._rows(f"SELECT {names} FROM {table.name} WHERE {column} > ?", (bound,))  # noqa: S608

    def page(self, table: Table, after: Key | None, limit: int) -> list[Row]:
        """Rows in key order whose leading key columns are greater than `after`."""
        bound = after or ()
        names, marks = ", ".join(table.columns[: len(bound)]), ", ".join("?" * len(bound))
        where = f"WHERE ({names}) > ({marks})" if bound else ""
        order = ", ".join(table.columns[: table.key])
        query = f"SELECT * FROM {table.name} {where} ORDER BY {order} LIMIT ?"  # noqa: S608
        return self._rows(query, (*bound, limit))

    def page_of(self, table: Table, where: Mapping[str, Scalar], after: Key | None, limit: int) -> list[Row]:
        """Rows in key order behind `after` with these values; the first column is one that an index begins with.

        Few rows are taken from that index and sorted. Of many the next ones are met soon on the way along the key,
        which is that of streams, whose names are drawn as if by lot.
        """
        column, value = next(iter(where.items()))
        some = f"SELECT 1 FROM {table.name} WHERE {column} = ? LIMIT ?"  # noqa: S608
        is_rare = int(self._rows(f"SELECT count(*) FROM ({some})", (value, _SORTED + 1))[0][0]) <= _SORTED  # type: ignore[arg-type]  # noqa: S608
        bound, order = after or (), ", ".join(table.columns[: table.key])
        # A plus keeps a column from its index, or from that of the key.
        tests = [f"{'' if is_rare else '+'}{name} = ?" for name in where]
        names = ", ".join(f"{'+' if is_rare else ''}{name}" for name in table.columns[: len(bound)])
        tests += [f"({names}) > ({', '.join('?' * len(bound))})"] if bound else []
        query = f"SELECT * FROM {table.name} WHERE {' AND '.join(tests)} ORDER BY {order} LIMIT ?"  # noqa: S608
        return self._rows(query, (*where.values(), *bound, limit))

    def select(self, query: str, values: Sequence[object]) -> list[Row]:
        """The answer to a query of this package. Fails with `StoreError` kinds."""
        return self._rows(query, values)

    def replace(self, statement: str, values: Sequence[Sequence[object]]) -> None:
        """Run a statement of this package for each of `values`, in one transaction. Fails with `StoreError` kinds."""
        try:
            with self.datastore.transaction(commit=True) as cursor:
                cursor.executemany(statement, values)
        except (sqlite3.Error, PersistenceError) as error:
            raise store_error(error) from error

    def _rows(self, query: str, values: Sequence[object]) -> list[Row]:
        """Plain tuples from the database; the library's kind of row would be made first and thrown away."""
        with self.reading() as connection:
            cursor = connection.cursor()
            cursor.row_factory = None
            return cursor.execute(query, values).fetchall()

    def fits(self, log_id: bytes, projections: Sequence[Projection], last_id: int) -> bool:
        """True if the file was made from this log by these projections and is not ahead of it."""
        try:
            with self.datastore.raw() as connection:
                row = connection.execute("SELECT log_id, layout FROM views_meta").fetchone()
        except (sqlite3.Error, PersistenceError, StoreError):
            return False
        if row is None or tuple(row) != (log_id, layout(projections)):
            return False
        positions = {self.position(projection.name) for projection in projections}
        return len(positions) == 1 and positions.pop() <= last_id

    def create(self, log_id: bytes, projections: Sequence[Projection], *, with_tables: bool = True) -> None:
        """Make what every views file has; and, in an empty one, the tables of the projections."""
        with self.datastore.raw(commit=True) as connection:  # the writer makes it a WAL file that readers accept
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self.tracking.create_table()
        with self.datastore.raw(commit=True) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in (_META, _QUARANTINE, _SNAPSHOTS):
                connection.execute(statement)
            for projection in projections if with_tables else ():
                for table in projection.tables:
                    for statement in table_ddl(table):
                        connection.execute(statement)
            connection.execute("INSERT INTO views_meta VALUES (1, ?, ?)", (log_id, layout(projections)))
            connection.execute("COMMIT")

    def fold_wal(self) -> None:
        """Checkpoint, so that the main file is complete by itself."""
        with self.datastore.raw(commit=True) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Close all connections."""
        self.datastore.close()


class SqliteBatch:
    """One transaction on the views."""

    def __init__(self, cursor: SQLiteCursor, tracking: SQLiteTrackingRecorder) -> None:
        self._cursor, self._tracking = cursor, tracking

    def load(self, table: Table, keys: Collection[Key]) -> dict[Key, Row]:
        """The rows that exist under these keys; tables that are loaded have a key of one column."""
        if table.key != 1:
            raise ValueError(f"{table.name} cannot be loaded: its key has {table.key} columns")
        wanted = [key[0] for key in keys]
        rows: dict[Key, Row] = {}
        for start in range(0, len(wanted), _CHUNK):
            part = wanted[start : start + _CHUNK]
            marks = ", ".join("?" * len(part))
            query = f"SELECT * FROM {table.name} WHERE {table.columns[0]} IN ({marks})"  # noqa: S608
            self._cursor.execute(query, part)
            rows.update({(row[0],): tuple(row) for row in self._cursor.fetchall()})
        return rows

    def write(self, tables: Mapping[str, Table], changes: Iterable[Change]) -> None:
        """Replace and remove rows, table by table; removals first, so that a key may move between rows."""
        for name, group in groupby(sorted(changes, key=_by_table), key=_by_table):
            table, part = tables[name], list(group)
            gone = [change.key for change in part if change.row is None]
            rows = [change.row for change in part if change.row is not None]
            if gone:
                self._cursor.executemany(_delete(table), gone)
            if rows:
                self._cursor.executemany(_upsert(table), rows)

    def advance(self, projection: str, position: int) -> None:
        """Record the position; the library raises `IntegrityError` unless it grows."""
        self._tracking._insert_tracking(self._cursor, Tracking(f"wt:{projection}", position))

    def quarantine(self, projection: str, stuck: Stuck) -> None:
        """Skip this stream in this projection from now on."""
        row = (projection, *msgspec.structs.astuple(stuck))
        self._cursor.execute("INSERT INTO quarantine VALUES (?, ?, ?, ?)", row)


def _require_index(table: Table, *columns: str) -> None:
    """What is asked of a whole table must be answered by an index: its rows are a hundred times as large."""
    if not any(set(index) >= set(columns) for index in table.indexes):
        raise ValueError(f"{table.name} has no index over {', '.join(columns)}")


def _by_table(change: Change) -> str:
    return change.table


def new_views_file(path: Path, log_id: bytes, projections: Sequence[Projection]) -> SqliteRows:
    """An empty views file at a path where none is."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connect(path, read_only=False, synchronous=NORMAL).close()  # readers refuse a file that is not in WAL mode
    rows = SqliteRows(path)
    rows.create(log_id, projections)
    return rows
