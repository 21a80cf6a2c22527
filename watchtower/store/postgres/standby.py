"""A log that another tower leads, followed into this tower's own copy until it is this one's turn."""

from __future__ import annotations

import threading
from pathlib import Path

import psycopg
from eventsourcing.persistence import PersistenceError

from watchtower.store.local_copy import LocalCopy
from watchtower.store.lock import InstanceLock
from watchtower.store.log import Log
from watchtower.store.postgres.checks import check_rights, check_server, read_meta
from watchtower.store.postgres.connection import Connection, connect
from watchtower.store.postgres.copying import FollowedSource
from watchtower.store.postgres.errors import store_error
from watchtower.store.postgres.leadership import Leadership
from watchtower.store.postgres.listener import CommitListener
from watchtower.store.postgres.source import PostgresSource
from watchtower.store.reader import LogReader
from watchtower.store.recorders import LogMeta


class CopyReader(LogReader):
    """Reads a copy that somebody else writes."""

    def __init__(self, copy: LocalCopy, meta: LogMeta) -> None:
        self._copy = copy
        super().__init__(Log(copy.recorder, copy.close), meta)
        self.known_until = copy.known_until

    @property
    def file(self) -> Path | None:
        """The copy."""
        return self._copy.path


class StandbyLog:
    """`follow` and `wait` for one thread, `lead` for another, `stop` from any. `log` reads what was followed."""

    def __init__(self, url: str, copy_path: Path) -> None:
        """Check the server and open the copy; raises `StoreError`."""
        self._stopping = threading.Event()
        self._news = threading.Event()
        self._leadership = Leadership(url)
        try:
            with connect(url) as connection:
                check_server(connection)
                meta = read_meta(connection)
                check_rights(connection)
        except (psycopg.Error, PersistenceError) as error:
            raise store_error(error) from error
        self._lock = InstanceLock(copy_path)
        try:
            with PostgresSource(url) as source:
                self._copy = LocalCopy(copy_path, meta, source)
        except BaseException:
            self._lock.release()
            raise
        self._source = FollowedSource(url)
        self._listener = CommitListener(url, self._news.set)
        self.log = CopyReader(self._copy, meta)

    def follow(self) -> int:
        """Copy what is new; id of the last event. Raises `StoreAway` while the server cannot be reached."""
        self._news.clear()
        return self._source.follow_into(self._copy)

    def wait(self, timeout: float) -> None:
        """Until something was committed, `stop` was called, or the time is over."""
        self._news.wait(timeout)

    def lead(self) -> tuple[Leadership, Connection] | None:
        """Wait for the turn of this tower; None after `stop`. Raises `StoreError`."""
        try:
            connection = self._leadership.wait(self._stopping)
        except (psycopg.Error, PersistenceError) as error:
            raise store_error(error) from error
        return None if connection is None else (self._leadership, connection)

    def look(self) -> None:
        """Called every second: hang up on a server that is silent; the next one may be at the same address."""
        self._source.look()
        self._leadership.silence.look()

    def wake(self) -> None:
        """End `wait` at once."""
        self._news.set()

    def stop(self) -> None:
        """End `wait` at once and `lead` soon."""
        self._stopping.set()
        self._news.set()

    def close(self) -> None:
        """End everything but a connection that leads."""
        self.stop()
        self._listener.close()
        self._source.close()
        self.log.close()
        self._lock.release()
