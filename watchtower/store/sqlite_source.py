"""A log, or a segment of one, in a file: raw rows from SQLite, also from a file that is damaged or only a copy."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from domain.log_chain import HASH_SIZE
from watchtower.store import schema
from watchtower.store.datastore import connect
from watchtower.store.errors import StoreCheckFailed, is_damaged, primary_code, store_error
from watchtower.store.source import Commit, RawRow, SourceMeta, Unreadable, commit_holding

_ROWS = (
    "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events "
    "WHERE rowid BETWEEN ? AND ? ORDER BY rowid"
)
_COMMITS = (
    "SELECT commit_no, first_leaf, leaf_count, last_id, head, leaves FROM commit_chain "
    "WHERE commit_no >= ? ORDER BY commit_no LIMIT ?"
)
_LAST_COMMIT = (
    "SELECT commit_no, first_leaf, leaf_count, last_id, head, leaves FROM commit_chain ORDER BY commit_no DESC LIMIT 1"
)
_META = "SELECT log_id, origin, segment, first_leaf, first_id, prev_head, schema FROM log_meta"

_BASES = "SELECT stream, version, segment FROM stream_base WHERE stream > ? ORDER BY stream LIMIT 5000"
_ENDS = (
    "SELECT originator_id, max(originator_version) FROM stored_events WHERE originator_id > ? "
    "GROUP BY originator_id ORDER BY originator_id LIMIT 5000"
)

_COUNTER = "SELECT seq, (SELECT max(rowid) FROM stored_events) FROM sqlite_sequence WHERE name = 'stored_events'"

_NO_TEXT = "Could not decode to UTF-8"
_DAMAGE = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG)
"""Answers to queries that never change: a table that is not as it was made, a length that nothing has."""

MOST_SEGMENTS = 1_000_000
"""Names of segments have six digits."""

_FAULTS = 20
"""Faults that SQLite's check names before it gives up."""


class SqliteAddress(msgspec.Struct, frozen=True):
    """A log file; `immutable` for a copy that nobody writes: nothing is created beside it."""

    path: str
    immutable: bool = False

    def open(self) -> SqliteSource:
        """Open it for reading; raises `StoreError`."""
        return SqliteSource(Path(self.path), immutable=self.immutable)


class SqliteSource:
    """Raw rows of a log file; also beside a tower that writes it."""

    def __init__(self, path: Path, *, immutable: bool = False) -> None:
        if not path.exists():
            raise StoreCheckFailed("exists", f"{path} does not exist; run `watchtower init` first")
        self.address = SqliteAddress(str(path), immutable)
        self.path = path
        with self._reading():
            self._connection = connect(path, read_only=True, immutable=immutable)
        try:
            with self._reading():
                self._connection.row_factory = None
                self.meta = self._read_meta()
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def over(cls, connection: sqlite3.Connection) -> Self:
        """A source on a connection that somebody else opened and closes; its address is that of no file."""
        source = cls.__new__(cls)
        source.address, source.path, source._connection = SqliteAddress(""), Path(), connection
        source.meta = source._read_meta()
        return source

    def last_id(self) -> int:
        """Id of the last stored event, 0 if there is none."""
        return int(self._all("SELECT max(rowid) FROM stored_events", ())[0][0] or 0)

    def last_commit(self) -> Commit:
        """The last row of the commit chain; `meta.start()` if there is none."""
        rows = self._all(_LAST_COMMIT, ())
        return Commit(*rows[0]) if rows else self.meta.start()

    def commits(self, from_no: int, limit: int) -> list[Commit]:
        """At most `limit` chain rows with numbers from `from_no` on, in order."""
        return [Commit(*row) for row in self._all(_COMMITS, (from_no, limit))]

    def commit_at(self, event_id: int) -> Commit | None:
        """The commit that holds an event; None behind the end of the chain."""
        return commit_holding(self, event_id)

    def rows(self, first_id: int, last_id: int) -> list[RawRow]:
        """The stored events with ids from `first_id` to `last_id`, in order; those that are missing are missing."""
        return self._all(_ROWS, (first_id, last_id))

    def differing_objects(self) -> list[str]:
        """Names of tables and triggers that are not as shipped, and `application_id` or `user_version`."""
        with self._reading():
            number = self.meta.schema if self.meta.schema in schema.KNOWN else schema.SCHEMA
            expected, found = schema.expected_objects(number), schema.stored_objects(self._connection)
        differing = sorted(name for name in expected | found if expected.get(name) != found.get(name))
        marks = {"application_id": schema.APPLICATION_ID, "user_version": number}
        return differing + [name for name, mark in marks.items() if self._all(f"PRAGMA {name}", ())[0][0] != mark]

    def storage_faults(self) -> list[str]:
        """SQLite's own check of pages, rows and indexes (one read transaction for the whole file), and its counter."""
        try:
            found = self._all(f"PRAGMA integrity_check({_FAULTS})", ())
            counters = self._all(_COUNTER, ())
        except Unreadable as error:
            return [str(error)]
        faults = [str(row[0]) for row in found if row[0] != "ok"]
        if [row[0] for row in counters] != [row[1] for row in counters] or len(counters) != 1:
            faults.append("the counter of ids does not stand at the last event")
        return faults

    def stream_bases(self) -> Iterator[tuple[str, int, int]]:
        """What a later segment knows of the streams before it: stream, last version, its segment; by stream."""
        yield from self._by_stream(_BASES)

    def stream_ends(self) -> Iterator[tuple[str, int]]:
        """Every stream of this file with its last version, by stream."""
        yield from self._by_stream(_ENDS)

    def _by_stream(self, query: str) -> Iterator[Any]:
        after = ""
        while page := self._all(query, (after,)):
            yield from page
            after = page[-1][0]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_meta(self) -> SourceMeta:
        if not self._all("SELECT 1 FROM sqlite_master WHERE name = 'log_meta'", ()):
            raise StoreCheckFailed("log_meta", "the file is a database, but not an event log")
        rows = self._all(_META, ())
        if not rows:
            raise StoreCheckFailed("log_meta", "the log does not say which log it is")
        types = (bytes, str, int, int, int, bytes, int)
        if not all(isinstance(value, kind) for value, kind in zip(rows[0], types, strict=True)):
            raise Unreadable("the row log_meta holds values that nobody writes")
        meta = SourceMeta(*rows[0])
        if not _is_name(meta):
            raise Unreadable("the row log_meta holds values that nobody writes")
        if meta.schema not in schema.KNOWN and self._all("PRAGMA user_version", ())[0][0] == meta.schema:
            raise StoreCheckFailed("schema", schema.unknown_schema(meta.schema))
        return meta

    def _all(self, query: str, arguments: tuple[int | str, ...]) -> list[Any]:
        with self._reading():
            try:
                return self._connection.execute(query, arguments).fetchall()
            except sqlite3.OperationalError as error:
                if not str(error).startswith(_NO_TEXT):
                    raise
            self._connection.text_factory = _any_text
            try:
                return self._connection.execute(query, arguments).fetchall()
            finally:
                self._connection.text_factory = str

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError as error:
            raise Unreadable("the log file is damaged: the database complains in words that are no text") from error
        except sqlite3.Error as error:
            if is_damaged(error) or primary_code(error) in _DAMAGE:
                raise Unreadable(f"the log file is damaged: {error}") from error
            raise store_error(error) from error


def _is_name(meta: SourceMeta) -> bool:
    """Whether the row that names a log holds what a log can have."""
    are_counts = all(0 <= number < 1 << 62 for number in (meta.first_leaf, meta.first_id))
    try:
        is_text = len(meta.origin.encode()) < 256
    except UnicodeEncodeError:
        return False
    is_sized = (len(meta.log_id), len(meta.prev_head)) == (16, HASH_SIZE)
    return is_text and is_sized and are_counts and 0 <= meta.segment < MOST_SEGMENTS


def open_file(path: Path) -> SqliteSource:
    """Open a log file that may be a copy: without a write-ahead log beside it nobody writes it, and nothing is made.

    Raises `StoreError`. A tower that runs has that log open; one that starts later shows by it (`is_written`).
    """
    return SqliteSource(path, immutable=not is_written(path))


def is_written(path: Path) -> bool:
    """True if a program has the log file open for writing, or ended without folding its write-ahead log."""
    return path.with_name(path.name + "-wal").exists()


def _any_text(stored: bytes) -> str:
    """Text that is no UTF-8: a changed name or topic has to be shown all the same."""
    return stored.decode(errors="surrogateescape")
