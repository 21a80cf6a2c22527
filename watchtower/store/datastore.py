"""Connections to the log: one that writes, some that can only read.

SQLite 3.7.0-3.51.2 can damage a WAL database when two connections write or checkpoint at the same moment. There
is exactly one writing connection, and it alone checkpoints; readers are opened read-only. Every connection is
asked whether its settings took effect: `synchronous` is a build default and the library sets only the journal.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from eventsourcing.persistence import ConnectionPool, ConnectionPoolClosedError, InterfaceError
from eventsourcing.sqlite import SQLiteConnection, SQLiteCursor, SQLiteDatastore, SQLiteTransaction

from domain.events import SegmentClosed
from watchtower.ports import Failpoint
from watchtower.store.errors import StoreCheckFailed

POOL_TIMEOUT = 60.0
"""Seconds to wait for a free connection; the library's 5 s is shorter than a slow disk can stall."""

FULL, NORMAL = 2, 1
"""Values of `synchronous`: the log syncs every commit; views may lose the last ones, they are applied again."""

_SETTINGS = (
    "PRAGMA fullfsync = ON",
    "PRAGMA checkpoint_fullfsync = ON",
    "PRAGMA busy_timeout = 5000",
    "PRAGMA cache_size = -65536",
    "PRAGMA mmap_size = 0",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA temp_store = MEMORY",
)


# The module looks for an adapter of every value that is neither a number nor a text, and finds none after a long
# search. Told that bytes and None are fine as they are, it inserts a wide row in half the time.
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(type(None), {}.get)  # type: ignore[arg-type]

SAFE_SQLITE = (3, 51, 3)
"""Before it two connections that write at the same moment could damage a file in WAL mode."""


def library_doubt(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> str:
    """What to be careful about with this version of SQLite; empty for a good one."""
    if version >= SAFE_SQLITE:
        return ""
    name = ".".join(map(str, version))
    return f"SQLite {name} can damage a log that two connections write; open the tower's log with no other program"


def no_failpoint(name: str) -> None:
    """The production failpoint: nothing fails here."""


def connect(path: Path, *, read_only: bool, immutable: bool = False, synchronous: int = FULL) -> sqlite3.Connection:
    """Open a file with all settings applied and read back; raises `StoreCheckFailed` or `sqlite3.Error`."""
    mode = "mode=ro" if read_only else "mode=rw"
    suffix = "&immutable=1" if immutable else ""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{mode}{suffix}",
        uri=True,
        timeout=5.0,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        _configure(connection, read_only=read_only, immutable=immutable, synchronous=synchronous)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection, *, read_only: bool, immutable: bool, synchronous: int) -> None:
    if not read_only:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    for setting in _SETTINGS:
        connection.execute(setting)
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if journal != "wal" and not immutable and not (read_only and _is_ended(connection)):
        raise StoreCheckFailed("journal_mode", f"expected wal, the file is in {journal}")
    found = connection.execute("PRAGMA synchronous").fetchone()[0]
    if found != synchronous:
        raise StoreCheckFailed("synchronous", f"expected {synchronous}, got {found}")
    connection.row_factory = sqlite3.Row


def _is_ended(connection: sqlite3.Connection) -> bool:
    """True for a segment whose closing was interrupted: it has no write-ahead log any more, and nobody writes it."""
    try:
        last = connection.execute("SELECT topic FROM stored_events ORDER BY rowid DESC LIMIT 1").fetchone()
    except sqlite3.OperationalError:
        return False
    return last is not None and last[0] == SegmentClosed.TOPIC


class LogConnection(SQLiteConnection):
    """The library's connection with our transaction: writers lock at once, failures never leave one open."""

    def __init__(self, connection: sqlite3.Connection, failpoint: Failpoint) -> None:
        super().__init__(connection, max_age=None)
        self.raw = connection
        self.failpoint = failpoint

    @contextmanager
    def transaction(self, *, commit: bool) -> Iterator[SQLiteCursor]:
        """Transaction around a cursor; a deferred BEGIN that turns into a write would fail without waiting."""
        with LogTransaction(self, commit=commit) as cursor, cursor:
            yield cursor


class LogTransaction(SQLiteTransaction):
    """BEGIN IMMEDIATE for writers, failpoints around the commit, rollback if the commit itself fails."""

    connection: LogConnection

    def __enter__(self) -> SQLiteCursor:
        cursor = self.connection.cursor()
        try:
            cursor.execute("BEGIN IMMEDIATE" if self.commit else "BEGIN")
        except sqlite3.Error as error:
            raise InterfaceError(str(error)) from error
        return cursor

    def __exit__(self, exc_type, exc_val, exc_tb) -> None:  # type: ignore[no-untyped-def]
        try:
            if self.commit and exc_val is None:
                self.connection.failpoint("commit:before")
            super().__exit__(exc_type, exc_val, exc_tb)
            if self.commit and exc_val is None:
                self.connection.failpoint("commit:after")
        finally:
            if self.connection.raw.in_transaction:
                self.connection.rollback()


class _Pool(ConnectionPool[SQLiteConnection]):
    def __init__(
        self, path: Path, failpoint: Failpoint, *, read_only: bool, immutable: bool, synchronous: int, size: int
    ) -> None:
        self._path, self._failpoint = path, failpoint
        self._read_only, self._immutable, self._synchronous = read_only, immutable, synchronous
        super().__init__(pool_size=size, max_overflow=0, pool_timeout=POOL_TIMEOUT)

    def _create_connection(self) -> SQLiteConnection:
        try:
            opened = connect(
                self._path, read_only=self._read_only, immutable=self._immutable, synchronous=self._synchronous
            )
        except sqlite3.Error as error:
            raise InterfaceError(str(error)) from error
        return LogConnection(opened, self._failpoint)

    def put_connection(self, conn: SQLiteConnection) -> None:
        """Take a connection back; after `close` it is closed here, by the thread that used it."""
        try:
            super().put_connection(conn)
        except ConnectionPoolClosedError:
            conn.close()

    def close(self) -> None:
        """Close the idle connections. The library would close those in use too, under the hands of other threads."""
        with self._put_condition:
            self._closed = True
            while self._pool:
                self._pool.popleft().close()


class LogDatastore(SQLiteDatastore):
    """Two pools on one file. Opened `read_only`, asking for the writer is an error."""

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        immutable: bool = False,
        synchronous: int = FULL,
        readers: int = 8,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        self.path = path
        self.failpoint = failpoint
        self.single_row_tracking = True
        self.originator_id_type = "text"
        self.pool = _Pool(  # type: ignore[assignment]
            path, failpoint, read_only=True, immutable=immutable, synchronous=synchronous, size=readers
        )
        self._writer = (
            None
            if read_only
            else _Pool(path, failpoint, read_only=False, immutable=False, synchronous=synchronous, size=1)
        )

    @contextmanager
    def get_connection(self, *, commit: bool) -> Iterator[SQLiteConnection]:
        """The writer if `commit`, else one of the readers."""
        pool: ConnectionPool[SQLiteConnection] = self._writer_pool() if commit else self.pool
        try:
            connection = pool.get_connection()
        except ConnectionPoolClosedError as error:
            raise InterfaceError("the store is closed") from error
        try:
            yield connection
        finally:
            pool.put_connection(connection)

    @contextmanager
    def raw(self, *, commit: bool = False) -> Iterator[sqlite3.Connection]:
        """A plain `sqlite3` connection of the pool, for checks and checkpoints."""
        with self.get_connection(commit=commit) as connection:
            assert isinstance(connection, LogConnection)
            yield connection.raw

    def release_pages(self) -> None:
        """Give back the memory of the pages that the writer has cached.

        Else everything that was ever written stays in memory, up to the size of the cache. What is needed again comes
        from the system's cache of the file; readers drop their pages by themselves at the next change of the file.
        """
        with self.raw(commit=True) as connection:
            connection.execute("PRAGMA shrink_memory")

    def close(self) -> None:
        """Close all connections; readers first, so that the writer's close can clear the WAL."""
        self.pool.close()
        if self._writer is not None:
            self._writer.close()

    def _writer_pool(self) -> _Pool:
        if self._writer is None:
            raise InterfaceError("this store was opened for reading only")
        return self._writer
