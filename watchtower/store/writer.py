"""Writing a log, whatever database it is in: the `EventStore` port around a recorder and its writer thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from domain.events import Envelope
from watchtower.ports import Failpoint, StoreError
from watchtower.store.errors import GuardViolation
from watchtower.store.group_commit import GroupCommit
from watchtower.store.log import Log
from watchtower.store.mapper import check_versions
from watchtower.store.observing import Observe
from watchtower.store.reader import LogReader, ignore_observation
from watchtower.store.recorders import LogMeta
from watchtower.store.versions import StreamVersions

MAX_CLIENT_EVENTS, MAX_CHAIN_EVENTS = 1_000, 50_000
"""Events of one job; a block with thousands of breaches is still one transaction."""


class LogWriter(LogReader):
    """The `EventStore` port. One instance per log; an append is durable when it returns.

    `broken` is set once the log failed: the process must end. Close it explicitly; queued jobs are written first.
    """

    def __init__(
        self,
        log: Log,
        meta: LogMeta,
        *,
        failpoint: Failpoint,
        on_idle: Callable[[], bool],
        observe: Observe = ignore_observation,
        damaged: frozenset[str] = frozenset(),
    ) -> None:
        """`damaged` streams have changed events: nothing is appended to them. `on_idle`: see `GroupCommit`."""
        super().__init__(log, meta, observe)
        self.damaged = damaged
        self._failpoint = failpoint
        self._committed = threading.Condition()
        self._last_id = log.recorder.max_notification_id() or 0
        self._versions = StreamVersions(super().version)
        self._writer = GroupCommit(log.recorder, observe, on_idle, self._versions)
        log.recorder.on_commit.append(self._announce)

    @property
    def broken(self) -> threading.Event:
        """Set when the log failed for good."""
        return self._writer.broken

    def waiting(self) -> tuple[int, int]:
        """Jobs of the chain and of clients that wait for their commit."""
        return self._writer.waiting()

    def writing_for(self) -> float:
        """Seconds since the present commit began; a minute means that the disk hangs."""
        return self._writer.writing_for()

    def away_for(self) -> float:
        """Seconds since the database server could last be reached; 0 while it can, and for a log in a file."""
        return self._writer.away_for()

    def lose_patience(self) -> None:
        """Called every second: give up what a database server does not answer. A file has no such choice."""

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
        """Make the log complete by itself before it is closed; nothing to do where there is no log of writes."""

    def close(self) -> None:
        """Drain the queues, do the work of a quiet moment, close all connections."""
        self._failpoint("shutdown_drain:before")
        self._writer.close()
        self._failpoint("shutdown_drain:after")
        try:
            if not self.broken.is_set():
                self._before_close()
        finally:
            super().close()

    def _before_close(self) -> None:
        """What a good end needs, with all jobs written and the connections still open."""

    def _announce(self) -> None:
        tip = self._recorder.tip_id
        with self._committed:
            self._last_id = max(self._last_id, tip)
            self._committed.notify_all()
