"""Connections to the log: one that writes, a few that can only read.

The writing connection goes to the server directly, never through a proxy that shares it between transactions: it holds
session locks and prepared statements. A connection that broke is replaced at the next use; nothing is repeated here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from eventsourcing.persistence import InterfaceError
from eventsourcing.postgres import PostgresDatastore

from watchtower.ports import Failpoint
from watchtower.store.datastore import POOL_TIMEOUT, no_failpoint
from watchtower.store.postgres.connection import Connection, connect, shown
from watchtower.store.postgres.schema import SCHEMA_NAME
from watchtower.store.postgres.silence import Silence

READERS = 4
"""Connections for reading at most; one reading takes milliseconds."""

OnWriter = Callable[[Connection], None]
"""Called with each new writing connection before it is used; may refuse it by raising `StoreError`."""


def anybody_writes(connection: Connection) -> None:
    """The default: no claim is made on a writing connection."""


class LogDatastore(PostgresDatastore):
    """Connections of one process to one database. Opened `read_only`, asking for the writer is an error."""

    def __init__(
        self,
        url: str,
        *,
        read_only: bool = False,
        on_writer: OnWriter = anybody_writes,
        failpoint: Failpoint = no_failpoint,
        readers: int = READERS,
    ) -> None:
        """Opens nothing yet. The library's constructor would open a pool with threads, so it is not called."""
        self.schema, self.originator_id_type = SCHEMA_NAME, "text"
        self.enable_db_functions, self.lock_timeout, self.single_row_tracking = False, 0, True
        self.db_type_names, self.psycopg_type_adapters, self.psycopg_python_types = set(), {}, {}
        self.url, self.read_only, self.failpoint = url, read_only, failpoint
        self._on_writer = on_writer
        self.silence = Silence()
        self._writing = threading.RLock()
        self._writer: Connection | None = None
        self._idle: deque[Connection] = deque()
        self._free = threading.BoundedSemaphore(readers)
        self._guard = threading.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"LogDatastore({shown(self.url)})"

    def register_type_adapters(self) -> None:
        """Nothing: rows are inserted column by column."""

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that cannot write; raises `psycopg.Error`."""
        if not self._free.acquire(timeout=POOL_TIMEOUT):
            raise InterfaceError(f"no connection for reading became free within {POOL_TIMEOUT:.0f} s")
        try:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._free.release()

    def read(self, query: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of one query, columns in binary form.

        An idle connection may have been cut long ago, by a restart of the server: then the query is asked again once.
        """
        try:
            return self._read_once(query, parameters)
        except psycopg.OperationalError as error:
            if error.sqlstate is not None and not error.sqlstate.startswith("57P"):
                raise
            self.drop_idle()
        return self._read_once(query, parameters)

    def _read_once(self, query: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self.reading() as connection, connection.cursor(binary=True) as cursor:
            return cursor.execute(query, parameters, prepare=True).fetchall()

    @contextmanager
    def writing(self, events: int = 0) -> Iterator[Connection]:
        """The writing connection, for one thread at a time; closed after a failure that broke it.

        `events` are about to be stored: the server gets time for them.
        """
        if self.read_only:
            raise InterfaceError("this store was opened for reading only")
        with self._writing:
            connection = self._current_writer()
            try:
                with self.silence.asking(connection, events):
                    yield connection
            finally:
                self._settle(connection)

    def adopt(self, connection: Connection) -> None:
        """Write through a connection that was claimed elsewhere."""
        with self._writing:
            assert self._writer is None, "there is one writing connection"
            self._writer = connection

    def _current_writer(self) -> Connection:
        if self._closed:
            raise InterfaceError("the store is closed")
        if self._writer is None:
            connection = connect(self.url)
            try:
                with self.silence.asking(connection):
                    self._on_writer(connection)
            except BaseException:
                connection.close()
                raise
            self._writer = connection
        return self._writer

    def _settle(self, connection: Connection) -> None:
        """After a failure nothing of it may stay: no open transaction, no connection in an unknown state."""
        if not connection.closed and connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            with suppress(psycopg.Error):
                connection.rollback()
        idle = not connection.closed and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if not idle:
            connection.close()
            self._writer = None

    def _take(self) -> Connection:
        with self._guard:
            if self._closed:
                raise InterfaceError("the store is closed")
            if self._idle:
                return self._idle.pop()
        return connect(self.url, read_only=True)

    def _give_back(self, connection: Connection) -> None:
        usable = not connection.closed and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        with self._guard:
            if usable and not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def drop_idle(self) -> None:
        """Close the connections that nobody uses now."""
        with self._guard:
            idle, self._idle = self._idle, deque()
        for connection in idle:
            connection.close()

    @contextmanager
    def get_connection(self) -> Iterator[Any]:
        """A connection for the library's own queries: for reading."""
        with self.reading() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections; those in use are closed by their users."""
        if not hasattr(self, "_guard"):  # the library calls this from __del__, also after a failed construction
            return
        with self._guard:
            self._closed = True
        self.drop_idle()
        with self._writing:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
