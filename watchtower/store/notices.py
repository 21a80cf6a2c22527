"""The outbox of notifications: what is to be told, to whom it was, and how far the log was read. One small file.

Everything that belongs together is one transaction: a position of the log, the facts that were kept up to it, and the
notices that followed from it. A process that is killed loses none of it; after a power failure the file may be a few
commits old, and then the same notices follow once more under the same ids. The file is disposable: without it,
telling begins at the end of the log.

It also takes a disk that is full or read only, when telling matters most: then it goes on in memory and comes back.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from watchtower.ports import StoreError
from watchtower.store.errors import primary_code, store_error

APPLICATION_ID = 0x57544E54
"""`PRAGMA application_id` of the file: "WTNT"."""

LAYOUT = 1
QUEUE_MAX = 10_000
"""Notices that wait; the least urgent and oldest give way, and are counted. About 8 MB."""

BUSY_SECONDS = 5.0
"""How long another program may have the file locked."""

_TABLES = (
    "CREATE TABLE standing (only_row INTEGER PRIMARY KEY, log_id BLOB NOT NULL, position INTEGER NOT NULL)",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE notices (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, rank INTEGER NOT NULL, body BLOB)",
    "CREATE TABLE targets (name TEXT PRIMARY KEY, cut INTEGER NOT NULL, dropped INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE deliveries (number INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT, id TEXT, body BLOB, tries INT)",
)

_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
"""Answers that mean: the disk takes nothing."""

_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
"""Answers that mean: another program has the file for now."""

Result = TypeVar("Result")


class Entry(msgspec.Struct, frozen=True):
    """A notice to be kept: its id, how urgent it is (greater is more), its bytes."""

    id: str
    rank: int
    body: bytes


class Delivery(msgspec.Struct, frozen=True):
    """A message as it is sent, again and again with the same bytes until it arrives."""

    number: int
    id: str
    body: bytes
    tries: int


class NoticeStore:
    """Used by the follower of the log and by one courier per target; every call is short and takes the same lock."""

    def __init__(self, path: Path, log_id: bytes, position: int) -> None:
        """Open the file, or make one that stands at `position` (the end of the log) if there is none of this log.

        `is_new` tells which. A file that stands behind the end of the log belongs to events that are gone. Raises
        `StoreError`, and leaves the file as it is, while another program has locked it.
        """
        self.path = path
        self.is_new = False
        self._lock = threading.RLock()
        self._in_memory = False
        self.trouble = ""
        """Why the file cannot be written; empty while it can."""
        try:
            connection = _opened(path, log_id, position)
        except sqlite3.Error as error:
            connection = self._read_only(error, log_id, position)
        if connection is None:
            self.is_new, connection = True, self._made(log_id, position)
        self._connection = connection

    def position(self) -> int:
        """Id of the last event that was told."""
        return int(self._do(lambda db: db.execute("SELECT position FROM standing").fetchone()[0]))

    def facts(self) -> dict[str, bytes]:
        """Everything that `record` kept."""
        return dict(self._do(lambda db: db.execute("SELECT name, value FROM facts").fetchall()))

    def record(self, position: int, facts: Mapping[str, bytes | None], entries: Sequence[Entry]) -> None:
        """Keep what followed from the log up to `position`; a fact that is None is removed."""
        gone = [(name,) for name, value in facts.items() if value is None]
        kept = [(name, value) for name, value in facts.items() if value is not None]

        def write(db: sqlite3.Connection) -> None:
            db.execute("UPDATE standing SET position = ?", (position,))
            db.executemany("DELETE FROM facts WHERE name = ?", gone)
            db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", kept)
            rows = [(entry.id, entry.rank, entry.body) for entry in entries]
            db.executemany("INSERT OR IGNORE INTO notices (id, rank, body) VALUES (?, ?, ?)", rows)
            if rows:
                _make_room(db)

        self._change(write)

    def set_targets(self, names: Iterable[str]) -> None:
        """Who is told from now on; one that is new is told nothing of the past."""
        wanted = sorted(names)

        def write(db: sqlite3.Connection) -> None:
            marks = ", ".join("?" * len(wanted))
            db.execute(f"DELETE FROM targets WHERE name NOT IN ({marks})", wanted)  # noqa: S608 - marks only
            db.execute(f"DELETE FROM deliveries WHERE target NOT IN ({marks})", wanted)  # noqa: S608 - marks only
            last = db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'notices'").fetchone()[0]
            db.executemany("INSERT OR IGNORE INTO targets VALUES (?, ?, 0)", [(name, last) for name in wanted])

        self._change(write)

    def waiting(self, target: str) -> tuple[int, int, list[bytes]]:
        """What was not made into deliveries yet: the last sequence number, how many were dropped, the notices."""

        def read(db: sqlite3.Connection) -> tuple[int, int, list[bytes]]:
            cut, dropped = db.execute("SELECT cut, dropped FROM targets WHERE name = ?", (target,)).fetchone() or (0, 0)
            rows = db.execute("SELECT seq, body FROM notices WHERE seq > ? ORDER BY seq", (cut,)).fetchall()
            return (rows[-1][0] if rows else cut), dropped, [row[1] for row in rows]

        return self._do(read)

    def cut(self, target: str, upto: int, messages: Sequence[tuple[str, bytes]]) -> None:
        """The notices up to `upto` became these messages (id, bytes), to be delivered in this order."""

        def write(db: sqlite3.Connection) -> None:
            db.execute("UPDATE targets SET cut = ?, dropped = 0 WHERE name = ?", (upto, target))
            rows = [(target, id_, body) for id_, body in messages]
            db.executemany("INSERT INTO deliveries (target, id, body, tries) VALUES (?, ?, ?, 0)", rows)
            db.execute("DELETE FROM notices WHERE seq <= (SELECT min(cut) FROM targets)")

        self._change(write)

    def next_delivery(self, target: str) -> Delivery | None:
        """The oldest message that did not arrive yet."""
        query = "SELECT number, id, body, tries FROM deliveries WHERE target = ? ORDER BY number LIMIT 1"
        row = self._do(lambda db: db.execute(query, (target,)).fetchone())
        return None if row is None else Delivery(*row)

    def tried(self, number: int) -> None:
        """A delivery did not arrive."""
        self._change(lambda db: db.execute("UPDATE deliveries SET tries = tries + 1 WHERE number = ?", (number,)))

    def done(self, number: int) -> None:
        """A delivery arrived, or was given up."""
        self._change(lambda db: db.execute("DELETE FROM deliveries WHERE number = ?", (number,)))

    def depth(self) -> int:
        """Messages and notices that wait, at the target that is furthest behind."""
        query = (
            "SELECT coalesce(max(n), 0) FROM (SELECT (SELECT count(*) FROM notices WHERE seq > targets.cut) + "
            "(SELECT count(*) FROM deliveries WHERE target = targets.name) AS n FROM targets)"
        )
        return int(self._do(lambda db: db.execute(query).fetchone()[0]))

    def return_to_file(self) -> bool:
        """After trouble with the disk: write what memory holds to the file; True if the file is in use again."""
        with self._lock:
            if not self._in_memory:
                return True
            try:
                fresh = _connect(self.path)
                with suppress(sqlite3.Error):
                    fresh.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self._connection.backup(fresh)
            except (sqlite3.Error, OSError) as error:
                self.trouble = str(error)
                return False
            self._connection.close()
            self._connection, self._in_memory, self.trouble = fresh, False, ""
            return True

    def close(self) -> None:
        """Close the file; what was only in memory is written if the disk takes it."""
        self.return_to_file()
        with self._lock:
            self._connection.close()

    def _read_only(self, error: sqlite3.Error, log_id: bytes, position: int) -> sqlite3.Connection | None:
        """What the file holds, in memory, while the disk takes nothing: what waits in it is not to be lost."""
        if primary_code(error) in _LOCKED:
            raise store_error(error) from error
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            file = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                # Without this SQLite needs room beside the file even to read it.
                file.execute("PRAGMA locking_mode = EXCLUSIVE")
                file.execute("SELECT * FROM standing").fetchone()  # takes the lock: `backup` would wait for ever
                file.backup(memory)
            finally:
                file.close()
            if _is_of(memory, log_id, position):
                self._in_memory, self.trouble = True, str(error)
                return memory
        except sqlite3.Error:
            pass  # it cannot be read either: another one is made, as for a file that is no outbox
        memory.close()
        return None

    def _made(self, log_id: bytes, position: int) -> sqlite3.Connection:
        try:
            remove(self.path)
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            connection = _connect(self.path)
            _fill(connection, log_id, position)
        except (sqlite3.Error, OSError, StoreError) as error:
            connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            _fill(connection, log_id, position)
            self._in_memory, self.trouble = True, str(error)
        return connection

    def _change(self, write: Callable[[sqlite3.Connection], object]) -> None:
        def change(db: sqlite3.Connection) -> None:
            db.execute("BEGIN IMMEDIATE")
            try:
                write(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

        self._do(change)

    def _do(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        with self._lock:
            try:
                return work(self._connection)
            except sqlite3.Error as error:
                if self._in_memory or primary_code(error) not in _DISK:
                    raise store_error(error) from error
                self._go_to_memory(error)
            try:
                return work(self._connection)
            except sqlite3.Error as error:
                raise store_error(error) from error

    def _go_to_memory(self, error: sqlite3.Error) -> None:
        """The disk takes nothing: a copy in memory goes on, with all that can still be read."""
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            self._connection.backup(memory)
        except sqlite3.Error as unreadable:
            memory.close()
            raise store_error(unreadable) from error
        self._connection.close()
        self._connection, self._in_memory, self.trouble = memory, True, str(error)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA journal_size_limit = 1048576")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _opened(path: Path, log_id: bytes, end: int) -> sqlite3.Connection | None:
    """The file, if it is there and of this log; None if another one has to be made.

    Fails with `sqlite3.Error` if the disk or another program is in the way: that says nothing about the file.
    """
    if not path.is_file():
        return None
    connection = None
    try:
        connection = _connect(path)
        if _is_of(connection, log_id, end):
            return connection
    except sqlite3.Error as error:
        if primary_code(error) in (*_DISK, *_LOCKED):
            if connection is not None:
                connection.close()
            raise
    if connection is not None:
        connection.close()
    return None


def _is_of(db: sqlite3.Connection, log_id: bytes, end: int) -> bool:
    """Whether it is an outbox of this log with all its tables, at a place that the log has."""
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        return False
    if db.execute("PRAGMA user_version").fetchone()[0] != LAYOUT:
        return False
    for table in ("facts", "notices", "targets", "deliveries"):
        db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - names of this module
    row = db.execute("SELECT log_id, position FROM standing").fetchone()
    return row is not None and row[0] == log_id and row[1] <= end


def _fill(db: sqlite3.Connection, log_id: bytes, position: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {LAYOUT}")
    for statement in _TABLES:
        db.execute(statement)
    db.execute("INSERT INTO standing VALUES (1, ?, ?)", (log_id, position))
    db.execute("COMMIT")


def _make_room(db: sqlite3.Connection) -> None:
    """Keep the queue bounded; every target counts what it will not be told one by one."""
    over = db.execute("SELECT count(*) FROM notices").fetchone()[0] - QUEUE_MAX
    if over <= 0:
        return
    gone = db.execute("SELECT seq FROM notices ORDER BY rank, seq LIMIT ?", (over,)).fetchall()
    db.executemany("UPDATE targets SET dropped = dropped + 1 WHERE cut < ?", gone)
    db.executemany("DELETE FROM notices WHERE seq = ?", gone)


def remove(path: Path) -> None:
    """Forget everything: nobody is told any more. Raises `StoreError` if the disk does not allow it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        try:
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path.name} cannot be removed: {error.strerror}") from None
