"""A recorder that writes to the server, then into the tower's own copy, and reads from the copy.

An acknowledged event is in the copy before its caller hears of it, so nothing that the tower reads asks the server. If
the copy cannot be written (its disk is full), reads go to the server until it is whole again; if it turns out to be
damaged, until the next start, which makes a new one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import structlog
from eventsourcing.persistence import IntegrityError, Notification, StoredEvent

from watchtower.ports import Place, StoreAway, StoreBroken, StoreError, StoreFull
from watchtower.store import errors as sqlite_errors
from watchtower.store.local_copy import LocalCopy
from watchtower.store.log import LogRecorder
from watchtower.store.postgres import errors as server_errors
from watchtower.store.postgres.recorder import PostgresRecorder
from watchtower.store.postgres.source import PostgresSource
from watchtower.store.recorders import ErrorMeanings, Job, StoredRow
from watchtower.store.source import Commit

_log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")


def store_error(error: BaseException) -> StoreError:
    """The port's error, whichever of the two databases failed."""
    is_local = sqlite_errors.primary_code(error) is not None
    return sqlite_errors.store_error(error) if is_local else server_errors.store_error(error)


BOTH = ErrorMeanings(
    (*sqlite_errors.SQLITE.failures, *server_errors.POSTGRES.failures), server_errors.is_conflict, store_error
)
"""How the store reads the errors of the server and of the copy."""


class FollowedSource:
    """Raw reading of the server that connects again after the connection was lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._source: PostgresSource | None = None
        self._mutex = threading.Lock()

    def follow_into(self, copy: LocalCopy) -> int:
        """Copy what is new; returns the id of the last event. Raises `StoreError`."""
        with self._mutex:
            try:
                if self._source is None:
                    self._source = PostgresSource(self._url)
                return copy.follow(self._source)
            except StoreAway:
                self._drop()
                raise

    def look(self) -> None:
        """Called every second by another thread: hang up on a server that is silent."""
        source = self._source
        if source is not None:
            source.silence.look()

    def close(self) -> None:
        """Close the connection."""
        with self._mutex:
            self._drop()

    def _drop(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None


class CopyingRecorder:
    """The `Recorder` of a tower that leads a log on a server."""

    def __init__(self, server: PostgresRecorder, copy: LocalCopy, source: FollowedSource) -> None:
        """`server` knows where the log ends; the copy is brought there now, if there is space. Raises `StoreError`."""
        self.on_commit: list[Callable[[], None]] = []
        self._server, self._copy, self._source = server, copy, source
        self._is_behind = self._is_damaged = False
        self._trouble = ""
        try:
            source.follow_into(copy)
        except StoreFull as error:
            self._fell_behind(error)

    @property
    def meanings(self) -> ErrorMeanings:
        """Those of both databases."""
        return BOTH

    @property
    def tip_id(self) -> int:
        """Id of the last event committed by this process, 0 before the first commit."""
        return self._server.tip_id

    def insert_jobs(self, jobs: Sequence[Job]) -> list[Sequence[int]]:
        """Store all jobs in one commit or none."""
        ids = self._server.insert_jobs(jobs)
        self._committed([event for job in jobs for event in job])
        return ids

    def insert_isolated(self, jobs: Sequence[Job]) -> list[Sequence[int] | IntegrityError]:
        """Store those jobs that can be stored, in one commit."""
        answers = self._server.insert_isolated(jobs)
        stored = [job for job, answer in zip(jobs, answers, strict=True) if not isinstance(answer, IntegrityError)]
        self._committed([event for job in stored for event in job])
        return answers

    def resume(self) -> None:
        """Connect again, and bring the copy to the end of the log. Raises as `Recorder.resume` says."""
        self._server.resume()
        self._catch_up()
        self._announce()

    @property
    def whole_copy(self) -> Path | None:
        """The file of the copy; None while it lacks something."""
        return None if self._is_behind else self._copy.path

    def look_after_copy(self) -> None:
        """Work of a quiet moment."""
        if self._is_behind:
            self._catch_up()
        if not self._is_behind:
            try:
                self._copy.tidy()
            except StoreBroken as error:  # the log is on the server: a bad page here is no reason to end
                self._distrust(error)

    def _committed(self, events: Sequence[StoredEvent]) -> None:
        if events:
            if self._is_behind:
                self._catch_up()
            else:
                self._add(events)
        self._announce()

    def _add(self, events: Sequence[StoredEvent]) -> None:
        tip, row = self._server.tip, self._server.recent.newest()
        assert tip is not None, "there was a commit"
        assert row is not None, "there was a commit"
        count = len(events)
        commit = Commit(tip.commit_no, tip.next_leaf - count, count, tip.last_id, tip.head, row.leaves)
        rows = [
            (event_id, str(event.originator_id), event.originator_version, event.topic, event.state)
            for event_id, event in enumerate(events, start=commit.first_id)
        ]
        try:
            self._copy.add([commit], rows)
        except StoreBroken as error:
            self._distrust(error)
        except StoreError as error:
            self._fell_behind(error)

    def _catch_up(self) -> None:
        if self._is_damaged:
            return
        try:
            self._source.follow_into(self._copy)
        except StoreError as error:
            self._fell_behind(error)
            return
        if self._is_behind:
            _log.info("copy_caught_up", notification_id=self._copy.last.last_id)
        self._is_behind, self._trouble = False, ""

    def _fell_behind(self, error: StoreError) -> None:
        """It is committed all the same: callers get their answer, and reading goes to the server for now."""
        self._is_behind = True
        if self._trouble != str(error):
            _log.error("copy_failed", path=str(self._copy.path), reason=str(error))
        self._trouble = str(error)

    def _distrust(self, error: BaseException) -> None:
        """The copy is damaged, or its disk: nothing of it is read any more, and the next start makes a new one."""
        self._is_damaged = True
        self._copy.condemn()
        self._fell_behind(sqlite_errors.store_error(error))

    def _announce(self) -> None:
        for listener in tuple(self.on_commit):
            listener()

    # --- reading ------------------------------------------------------------------------------------------------

    def _read(self, ask: Callable[[LogRecorder], Answer]) -> Answer:
        if not self._is_behind:
            try:
                return ask(self._copy.recorder)
            except self.meanings.failures as error:
                if sqlite_errors.primary_code(error) in (None, *sqlite_errors.PASSING):
                    raise
                self._distrust(error)
        return ask(self._server)

    def stored_rows(self, stream: str, first: int, last: int) -> Mapping[int, StoredRow]:
        """The rows of a stream with versions from `first` to `last`, by version."""
        return self._read(lambda log: log.stored_rows(stream, first, last))

    def version(self, stream: str) -> int:
        """Last committed version of a stream, 0 if it has no event."""
        return self._read(lambda log: log.version(stream))

    def place(self, event_id: int) -> Place | None:
        """Where an event stands; None if there is none."""
        found = self._server.recent.place(event_id)
        return self._read(lambda log: log.place(event_id)) if found is None else found

    def select_log(self, after_id: int, limit: int) -> list[Notification]:
        """Notifications with id > `after_id`, in order."""
        return self._read(lambda log: log.select_log(after_id, limit))

    def max_notification_id(self) -> int | None:
        """Highest committed id, None for an empty table."""
        return self._read(lambda log: log.max_notification_id())

    def select_events(
        self,
        originator_id: str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Events of a stream."""
        return self._read(lambda log: log.select_events(originator_id, gt=gt, lte=lte, desc=desc, limit=limit))
