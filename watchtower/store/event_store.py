"""The event store on SQLite: `LogReader` for everyone, `SqliteEventStore` for the one process that writes."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, perf_counter
from types import TracebackType
from typing import Self

import msgspec
from eventsourcing.persistence import PersistenceError

from domain.events import Envelope, Recorded
from watchtower.ports import StoreError
from watchtower.store.errors import GuardViolation, store_error
from watchtower.store.group_commit import GroupCommit, Observe
from watchtower.store.lock import InstanceLock
from watchtower.store.log import Log
from watchtower.store.mapper import check_versions
from watchtower.store.streams import stream_id
from watchtower.store.versions import StreamVersions

MAX_CLIENT_EVENTS, MAX_CHAIN_EVENTS = 1_000, 50_000
"""Events of one job; a block with thousands of breaches is still one transaction."""

FOREIGN_POLL = 0.1
"""Seconds between two looks at `data_version`: SQLite tells another process nothing."""

_LAST_VERSION = "SELECT max(originator_version) FROM stored_events WHERE originator_id = ?"


class LogMeta(msgspec.Struct, frozen=True):
    """Which log this is. `stream_key` is secret and therefore not shown."""

    log_id: bytes
    origin: str
    segment: int
    first_leaf: int
    first_id: int
    prev_head: bytes
    stream_key: bytes
    schema: int

    def __repr__(self) -> str:
        return f"LogMeta(log_id={self.log_id.hex()}, origin={self.origin!r}, schema={self.schema})"


def ignore_observation(operation: str, seconds: float, kind: str) -> None:
    """The default for `observe`: nobody counts."""


class LogReader:
    """Read access to a log file, also while the service writes it. Every call is its own short transaction."""

    def __init__(self, log: Log, meta: LogMeta, observe: Observe = ignore_observation) -> None:
        self._log, self.meta, self._observe = log, meta, observe
        self.damaged: frozenset[str] = frozenset()

    @property
    def path(self) -> Path:
        """The log file."""
        return self._log.datastore.path

    def read_stream(self, stream: str, after: int = 0, limit: int | None = None) -> list[Envelope]:
        """Envelopes of a stream with version > `after`, in order."""
        with self._reading("read_stream"):
            events: list[Envelope] = list(self._log.events.get(stream, gt=after, limit=limit))  # type: ignore[arg-type]
            return events

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """The log in order of notification id, behind `after_id`; fewer than `limit` only at its end.

        Events of damaged channels are left out, however many of them stand in a row.
        """
        decode = self._log.mapper.to_domain_event
        recorded: list[Recorded] = []
        with self._reading("read_log"):
            while len(recorded) < limit:
                wanted = limit - len(recorded)
                found = self._log.recorder.select_log(after_id, wanted)
                recorded += [
                    Recorded(notification.id, decode(notification))  # type: ignore[arg-type]
                    for notification in found
                    if str(notification.originator_id) not in self.damaged
                ]
                if len(found) < wanted:
                    break
                after_id = found[-1].id
        return recorded

    def last_id(self) -> int:
        """Highest committed notification id, 0 for an empty log."""
        with self._reading("last_id"):
            return self._log.recorder.max_notification_id() or 0

    def version(self, stream: str) -> int:
        """Last version of a stream, 0 if it has no event."""
        with self._reading("version"), self._log.datastore.raw() as connection:
            return int(connection.execute(_LAST_VERSION, (stream,)).fetchone()[0] or 0)

    def stream_id(self, category: str, natural_key: bytes) -> str:
        """Deterministic, unlinkable stream name: category letter and 22 characters."""
        return stream_id(self.meta.stream_key, category, natural_key)

    def wait_beyond(self, after_id: int, timeout: float) -> bool:
        """Wait until the log has an event behind `after_id`; False after `timeout` seconds.

        Another process is not told about commits, so the file's change counter is looked at now and then.
        """
        deadline, pause = monotonic() + timeout, threading.Event()
        while self.last_id() <= after_id:
            left = deadline - monotonic()
            if left <= 0:
                return False
            pause.wait(min(FOREIGN_POLL, left))
        return True

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A read-only connection for verification and reports."""
        with self._reading("connection"), self._log.datastore.raw() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _reading(self, operation: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        except (sqlite3.Error, PersistenceError) as error:
            raise store_error(error) from error
        self._observe(operation, perf_counter() - started, "")


class SqliteEventStore(LogReader):
    """The `EventStore` port. One instance per file (lock); an append is durable when it returns.

    `broken` is set once the file failed: the process must end. Close it explicitly; queued jobs are written first.
    """

    def __init__(
        self,
        log: Log,
        meta: LogMeta,
        lock: InstanceLock,
        observe: Observe = ignore_observation,
        damaged: frozenset[str] = frozenset(),
    ) -> None:
        """`damaged` streams have changed events: nothing is appended to them."""
        super().__init__(log, meta, observe)
        self.damaged = damaged
        self._lock = lock
        self._failpoint = log.datastore.failpoint
        self._committed = threading.Condition()
        self._last_id = log.recorder.max_notification_id() or 0
        self._versions = StreamVersions(super().version)
        self._writer = GroupCommit(log.recorder, observe, self._checkpoint_if_free, self._versions)
        log.recorder.on_commit.append(self._announce)

    @property
    def broken(self) -> threading.Event:
        """Set when the file failed for good."""
        return self._writer.broken

    def writing_for(self) -> float:
        """Seconds since the present commit began; a minute means that the disk hangs."""
        return self._writer.writing_for()

    def append(self, job: Sequence[Envelope], *, chain: bool = False) -> int:
        """Store all envelopes or none; returns the last notification id once they are durable."""
        return self.submit(job, chain=chain).result()

    def submit(self, job: Sequence[Envelope], *, chain: bool = False) -> Future[int]:
        """`append` for callers that do not block: the future fails with the errors of `append`."""
        limit = MAX_CHAIN_EVENTS if chain else MAX_CLIENT_EVENTS
        if not 0 < len(job) <= limit:
            raise StoreError(f"a job has 1 to {limit} events, got {len(job)}")
        if self.damaged and (touched := self.damaged.intersection(envelope.stream for envelope in job)):
            raise GuardViolation(f"events of {min(touched)} were changed on the disk; restore the log from a backup")
        stored = [self._log.mapper.to_stored_event(envelope) for envelope in job]  # type: ignore[arg-type]
        check_versions(stored)
        return self._writer.submit(stored, chain)

    def last_id(self) -> int:
        """Highest committed notification id, 0 for an empty log."""
        return self._last_id

    def version(self, stream: str) -> int:
        """Last committed version of a stream, 0 if it has no event; mostly from memory."""
        return self._versions.get(stream)

    def wait_beyond(self, after_id: int, timeout: float) -> bool:
        """Wait until the log has an event behind `after_id`; False after `timeout` seconds."""
        with self._committed:
            return self._committed.wait_for(lambda: self._last_id > after_id, timeout)

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the file and cut it."""
        with self._log.datastore.raw(commit=True) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Drain the queues, fold the write-ahead log, close, give the lock back."""
        self._failpoint("shutdown_drain:before")
        self._writer.close()
        self._failpoint("shutdown_drain:after")
        try:
            if not self.broken.is_set():
                self._checkpoint_if_free()
        finally:
            super().close()
            self._lock.release()

    def _announce(self) -> None:
        tip = self._log.recorder.tip_id
        with self._committed:
            self._last_id = max(self._last_id, tip)
            self._committed.notify_all()

    def _checkpoint_if_free(self) -> None:
        """Checkpoint without waiting for readers: a chain job may arrive at any moment. Pages are given back."""
        with self._log.datastore.raw(commit=True) as connection:
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.execute("PRAGMA busy_timeout = 5000")
        self._log.datastore.release_pages()
