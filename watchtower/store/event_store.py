"""The event store on SQLite: `SqliteLogReader` for everyone, `SqliteEventStore` for the one process that writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from watchtower.store.datastore import LogDatastore
from watchtower.store.lock import InstanceLock
from watchtower.store.log import Log
from watchtower.store.observing import Observe
from watchtower.store.reader import LogReader, ignore_observation
from watchtower.store.recorder import ChainedRecorder
from watchtower.store.recorders import LogMeta
from watchtower.store.segments.closed import ClosedSegments
from watchtower.store.segments.recorder import SegmentedRecorder
from watchtower.store.writer import LogWriter


def _log(datastore: LogDatastore, meta: LogMeta, older: ClosedSegments | None) -> Log:
    """The library's application over the file, or over it and the segments before it."""
    if older is None:
        return Log(ChainedRecorder(datastore), datastore.close)

    def close() -> None:
        older.close()
        datastore.close()

    return Log(SegmentedRecorder(datastore, older, meta.first_id), close)


class _File(LogReader):
    """What only a log in a file can be asked."""

    _datastore: LogDatastore

    @property
    def path(self) -> Path:
        """The log file."""
        return self._datastore.path

    @property
    def file(self) -> Path | None:
        """The log file."""
        return self.path

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A read-only connection for verification and reports."""
        with self._reading("connection"), self._datastore.raw() as connection:
            yield connection


class SqliteLogReader(_File):
    """Read access to a log file, also while the service writes it."""

    def __init__(self, datastore: LogDatastore, meta: LogMeta, older: ClosedSegments | None = None) -> None:
        """`older` are the segments before this file."""
        self._datastore = datastore
        super().__init__(_log(datastore, meta, older), meta)


class SqliteEventStore(LogWriter, _File):
    """The `EventStore` port on a file. One instance per file (lock)."""

    def __init__(
        self,
        datastore: LogDatastore,
        meta: LogMeta,
        lock: InstanceLock,
        observe: Observe = ignore_observation,
        damaged: frozenset[str] = frozenset(),
        older: ClosedSegments | None = None,
    ) -> None:
        """`damaged` streams have changed events: nothing is appended to them. `older`: the segments before."""
        self._datastore = datastore
        self._lock = lock
        super().__init__(
            _log(datastore, meta, older),
            meta,
            failpoint=datastore.failpoint,
            on_idle=self._checkpoint_if_free,
            observe=observe,
            damaged=damaged,
        )

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the file and cut it."""
        with self._datastore.raw(commit=True) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Drain the queues, fold the write-ahead log, close, give the lock back."""
        try:
            super().close()
        finally:
            self._lock.release()

    def _before_close(self) -> None:
        self._checkpoint_if_free()

    def _checkpoint_if_free(self) -> bool:
        """Checkpoint without waiting for readers: a chain job may arrive at any moment. Pages are given back."""
        with self._datastore.raw(commit=True) as connection:
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.execute("PRAGMA busy_timeout = 5000")
        self._datastore.release_pages()
        return False
