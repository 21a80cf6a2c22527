"""The event store on PostgreSQL: for the tower that leads, and for programs that only read."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import psycopg
from eventsourcing.persistence import PersistenceError

from watchtower.ports import Failpoint, StoreBroken, StoreError
from watchtower.store.datastore import no_failpoint
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.local_copy import LocalCopy
from watchtower.store.lock import InstanceLock
from watchtower.store.log import Log
from watchtower.store.observing import Observe
from watchtower.store.postgres.checks import check_log, read_meta
from watchtower.store.postgres.connection import Connection
from watchtower.store.postgres.copying import CopyingRecorder, FollowedSource
from watchtower.store.postgres.datastore import LogDatastore
from watchtower.store.postgres.errors import MISSING_RIGHT, sqlstate, store_error
from watchtower.store.postgres.leadership import Leadership
from watchtower.store.postgres.listener import CommitListener
from watchtower.store.postgres.recorder import PostgresRecorder
from watchtower.store.postgres.source import PostgresSource
from watchtower.store.reader import LogReader, ignore_observation
from watchtower.store.recorders import LogMeta
from watchtower.store.writer import LogWriter

TIDY_SECONDS = 60.0
"""Pause between two cuts of the copy's write-ahead log; SQLite cuts it by itself too when it grows."""

NO_STREAM_KEY = "only members of wt_app may read the stream key; `audit verify` and `audit export` do without it"


class PostgresEventStore(LogWriter):
    """The `EventStore` port of the tower that leads a log on a server; it reads its local copy.

    While the server is away `append` fails with `StoreAway` and reading goes on. If another tower led meanwhile,
    `broken` is set: this process must end.
    """

    def __init__(
        self,
        datastore: LogDatastore,
        recorder: CopyingRecorder,
        copy: LocalCopy,
        meta: LogMeta,
        source: FollowedSource,
        lock: InstanceLock,
        observe: Observe = ignore_observation,
        damaged: frozenset[str] = frozenset(),
    ) -> None:
        """`lock` is that of the copy's file: one process for one data directory. Nothing is appended to `damaged`."""
        self._lock = lock
        self._datastore, self._copying, self._copy, self._source = datastore, recorder, copy, source
        self._tidied = monotonic()
        super().__init__(
            Log(recorder, self._close_all),
            meta,
            failpoint=datastore.failpoint,
            on_idle=self._be_heard,
            observe=observe,
            damaged=damaged,
        )
        self.known_until = copy.known_until
        self._writer.dirty = True  # the server ends the session of a leader that makes no sound

    @property
    def file(self) -> Path | None:
        """The copy, as long as it is whole."""
        return self._copying.whole_copy

    def lose_patience(self) -> None:
        """End the connection of a commit that the server does not answer."""
        self._datastore.silence.look()
        self._source.look()

    def checkpoint(self) -> None:
        """Make the copy's file complete by itself."""
        self._copy.tidy()

    def _be_heard(self) -> bool:
        """A sound to the server in quiet moments, which also shows early that it is gone. Always wanted again."""
        with self._datastore.writing() as connection:
            connection.execute("SELECT 1")
        if monotonic() - self._tidied > TIDY_SECONDS:
            self._tidied = monotonic()
            self._copying.look_after_copy()
        return True

    def _close_all(self) -> None:
        self._datastore.close()
        self._source.close()
        self._copy.close()
        self._lock.release()


class PostgresLogReader(LogReader):
    """Read access to a log on a server, also while a tower writes it; told of commits by the server."""

    def __init__(self, datastore: LogDatastore, meta: LogMeta) -> None:
        self._url = datastore.url
        self._heard = threading.Condition()
        self._noise = 0
        self._listener: CommitListener | None = None
        super().__init__(Log(PostgresRecorder(datastore), datastore.close), meta)

    def wait_beyond(self, after_id: int, timeout: float) -> bool:
        """Wait until the log has an event behind `after_id`; False after `timeout` seconds."""
        deadline = monotonic() + timeout
        with self._heard:
            if self._listener is None:
                self._listener = CommitListener(self._url, self._hear)
        while True:
            heard = self._noise
            if self.last_id() > after_id:
                return True
            with self._heard:
                if not self._heard.wait_for(lambda heard=heard: self._noise != heard, deadline - monotonic()):  # type: ignore[misc]
                    return self.last_id() > after_id

    def close(self) -> None:
        """End the listener, close all connections."""
        if self._listener is not None:
            self._listener.close()
        super().close()

    def _hear(self) -> None:
        with self._heard:
            self._noise += 1
            self._heard.notify_all()


def open_server_log(
    url: str,
    copy_path: Path,
    *,
    chain_hash: bytes | None = None,
    observe: Observe = ignore_observation,
    failpoint: Failpoint = no_failpoint,
    lead: tuple[Leadership, Connection] | None = None,
) -> PostgresEventStore:
    """Lead a log: take the lock (or go on with `lead`, which holds it), check, bring the copy up to date, open.

    Raises `StoreLocked` if another tower leads, `StoreCheckFailed` with the name of a check, `StoreAway`.
    """
    leadership = Leadership(url) if lead is None else lead[0]
    datastore = LogDatastore(url, on_writer=leadership.claim, failpoint=failpoint)
    if lead is not None:
        datastore.adopt(lead[1])
    try:
        return _open(url, datastore, copy_path, chain_hash, observe)
    except BaseException as error:
        datastore.close()
        if isinstance(error, psycopg.Error | PersistenceError):
            raise store_error(error) from error
        raise


def _open(
    url: str, datastore: LogDatastore, copy_path: Path, chain_hash: bytes | None, observe: Observe
) -> PostgresEventStore:
    meta, damaged = check_log(datastore, chain_hash)
    recorder = PostgresRecorder(datastore)
    recorder.resume()
    with ExitStack() as stack:
        lock = InstanceLock(copy_path)
        stack.callback(lock.release)
        with PostgresSource(url) as source:
            copy = LocalCopy(copy_path, meta, source)
        stack.callback(copy.close)
        followed = FollowedSource(url)
        stack.callback(followed.close)
        copying = CopyingRecorder(recorder, copy, followed)
        if copying.whole_copy is not None and copy.last.last_id != recorder.tip_id:
            raise StoreBroken("the log grew while it was opened: another program writes it")
        store = PostgresEventStore(datastore, copying, copy, meta, followed, lock, observe, damaged)
        stack.pop_all()
    return store


def open_server_reader(url: str) -> PostgresLogReader:
    """Read a log on a server; raises `StoreError`."""
    datastore = LogDatastore(url, read_only=True)
    try:
        with datastore.reading() as connection:
            meta = read_meta(connection)
        return PostgresLogReader(datastore, meta)
    except BaseException as error:
        datastore.close()
        if sqlstate(error) == MISSING_RIGHT:
            raise StoreCheckFailed("rights", NO_STREAM_KEY) from error
        if isinstance(error, psycopg.Error | PersistenceError) and not isinstance(error, StoreError):
            raise store_error(error) from error
        raise
