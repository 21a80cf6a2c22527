"""The library's SQLite recorder with our table, one chain row per commit, and subscriptions.

The head of the chain is cached between commits. After any failure the cache is dropped and read again: state in
memory is never ahead of the file. If the cached head does not end at the last stored event, another program wrote
here, and nothing is appended.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eventsourcing.persistence import (
    IntegrityError,
    ListenNotifySubscription,
    Notification,
    StoredEvent,
    Subscription,
)
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteCursor

from domain.log_chain import first_head, leaf, next_head
from watchtower.ports import Place
from watchtower.store.datastore import LogDatastore
from watchtower.store.errors import SQLITE, GuardViolation
from watchtower.store.place import CommitRow, RecentCommits, find_commit
from watchtower.store.recorders import ChainTip, ErrorMeanings, Job, StoredRow

_INSERT = "INSERT INTO stored_events (originator_id, originator_version, topic, state) VALUES (?, ?, ?, ?)"
_INSERT_CHAIN = (
    "INSERT INTO commit_chain (commit_no, first_leaf, leaf_count, last_id, head, leaves) VALUES (?, ?, ?, ?, ?, ?)"
)
_CHAIN_TIP = (
    "SELECT commit_no, first_leaf + leaf_count, last_id, head FROM commit_chain ORDER BY commit_no DESC LIMIT 1"
)
_META = "SELECT origin, log_id, first_leaf, first_id, prev_head FROM log_meta"

_ROWS = (
    "SELECT originator_version, rowid, topic, state FROM stored_events "
    "WHERE originator_id = ? AND originator_version BETWEEN ? AND ?"
)
_LAST_VERSION = "SELECT max(originator_version) FROM stored_events WHERE originator_id = ?"
_COMMIT = "SELECT last_id, head, leaves FROM commit_chain WHERE commit_no = ?"
_NEWEST_COMMIT = "SELECT max(commit_no) FROM commit_chain"


class ChainedRecorder(SQLiteApplicationRecorder):
    """Inserts jobs with their chain row in one immediate transaction; reads as the library does."""

    datastore: LogDatastore

    def __init__(self, datastore: LogDatastore) -> None:
        super().__init__(datastore)
        self.insert_events_statement = _INSERT
        self.on_commit: list[Callable[[], None]] = []
        self._writing = threading.Lock()
        self._tip: ChainTip | None = None
        self._recent = RecentCommits()

    @property
    def tip_id(self) -> int:
        """Id of the last event committed by this process, 0 before the first commit."""
        tip = self._tip
        return 0 if tip is None else tip.last_id

    @property
    def meanings(self) -> ErrorMeanings:
        """Those of SQLite."""
        return SQLITE

    def construct_create_table_statements(self) -> list[str]:
        """Nothing: the tables are made by `create_store` only."""
        return []

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int]:
        """Store one job; raises the library's `IntegrityError` if a constraint or guard refuses it."""
        return list(self.insert_jobs([stored_events])[0])

    def insert_jobs(self, jobs: Sequence[Job]) -> list[Sequence[int]]:
        """Store all jobs in one commit or none; ids per job. One refused job refuses them all."""
        ids: list[Sequence[int]] = []

        def insert_all(cursor: SQLiteCursor, tip: ChainTip) -> list[StoredEvent]:
            flat = [stored for job in jobs for stored in job]
            self._insert_events(cursor, flat)
            start = tip.last_id + 1
            for job in jobs:
                ids.append(range(start, start + len(job)))
                start += len(job)
            return flat

        self._commit(insert_all)
        return ids

    def insert_isolated(self, jobs: Sequence[Job]) -> list[Sequence[int] | IntegrityError]:
        """Store those jobs that can be stored, in one commit; the others answer with their `IntegrityError`."""
        answers: list[Sequence[int] | IntegrityError] = []

        def insert_each(cursor: SQLiteCursor, tip: ChainTip) -> list[StoredEvent]:
            kept: list[StoredEvent] = []
            for job in jobs:
                cursor.execute("SAVEPOINT job")
                try:
                    self._insert_events(cursor, job)
                except sqlite3.IntegrityError as error:
                    cursor.execute("ROLLBACK TO job")
                    refusal = IntegrityError(str(error))
                    refusal.__cause__ = error
                    answers.append(refusal)
                else:
                    start = tip.last_id + len(kept) + 1
                    answers.append(range(start, start + len(job)))
                    kept.extend(job)
                cursor.execute("RELEASE job")
            return kept

        self._commit(insert_each)
        return answers

    def _commit(self, insert: Callable[[SQLiteCursor, ChainTip], list[StoredEvent]]) -> None:
        with self._writing:
            try:
                with self.datastore.transaction(commit=True) as cursor:
                    before = self._current_tip(cursor)
                    tip, row = self._append_chain_row(cursor, before, insert(cursor, before))
            except BaseException:
                self._tip = None
                raise
            self._tip = tip
            if row is not None:
                self._recent.note(row)
        for listener in tuple(self.on_commit):
            listener()

    def _insert_events(self, c: SQLiteCursor, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        rows = [(s.originator_id, s.originator_version, s.topic, s.state) for s in stored_events]
        c.executemany(self.insert_events_statement, rows)
        return None

    def _current_tip(self, cursor: SQLiteCursor) -> ChainTip:
        cursor.execute("SELECT max(rowid) FROM stored_events")
        stored = cursor.fetchone()[0]
        if self._tip is None:
            self._tip = read_tip(cursor)
        expected = self._tip.last_id
        if (stored or 0) != expected and not (stored is None and self._tip.commit_no == 0):
            raise GuardViolation(f"the log ends at event {stored} but its commit chain at {expected}; verify the store")
        return self._tip

    def _append_chain_row(
        self, cursor: SQLiteCursor, tip: ChainTip, kept: Sequence[StoredEvent]
    ) -> tuple[ChainTip, CommitRow | None]:
        if not kept:
            return tip, None
        leaves = b"".join(leaf(str(s.originator_id), s.originator_version, s.topic, s.state) for s in kept)
        first_id, last_id = tip.last_id + 1, tip.last_id + len(kept)
        cursor.execute("SELECT max(rowid) FROM stored_events")
        if cursor.fetchone()[0] != last_id:
            raise GuardViolation(f"event ids are not dense behind {tip.last_id}; verify the store")
        head = next_head(tip.head, tip.next_leaf, first_id, leaves)
        new = ChainTip(tip.commit_no + 1, tip.next_leaf + len(kept), last_id, head)
        cursor.execute(_INSERT_CHAIN, (new.commit_no, tip.next_leaf, len(kept), last_id, head, leaves))
        return new, CommitRow(last_id, head, leaves)

    def resume(self) -> None:
        """A file does not go away."""

    def stored_rows(self, stream: str, first: int, last: int) -> Mapping[int, StoredRow]:
        """The rows of a stream with versions from `first` to `last`, by version."""
        with self.datastore.raw() as connection:
            found = connection.execute(_ROWS, (stream, first, last)).fetchall()
        return {row[0]: (row[1], row[2], row[3]) for row in found}

    def version(self, stream: str) -> int:
        """Last committed version of a stream, 0 if it has no event."""
        with self.datastore.raw() as connection:
            return int(connection.execute(_LAST_VERSION, (stream,)).fetchone()[0] or 0)

    def place(self, event_id: int) -> Place | None:
        """Where an event stands; None if there is none."""
        recent = self._recent.place(event_id)
        if recent is not None:
            return recent
        with self.datastore.raw() as connection:

            def read(number: int) -> CommitRow | None:
                found = connection.execute(_COMMIT, (number,)).fetchone()
                return None if found is None else CommitRow(*found)

            newest = connection.execute(_NEWEST_COMMIT).fetchone()[0] or 0
            row = find_commit(read, newest, event_id)
        return None if row is None else row.place(event_id)

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ChainedRecorder]:
        """Notifications behind id `gt`, then every new one; the library has none for SQLite."""
        return LogSubscription(recorder=self, gt=gt, topics=topics)

    def select_log(self, after_id: int, limit: int) -> list[Notification]:
        """Notifications with id > `after_id`, in order."""
        return list(self.select_notifications(after_id, limit, inclusive_of_start=False))


class LogSubscription(ListenNotifySubscription[ChainedRecorder]):
    """The library's pull loop, woken after each commit of this process."""

    def __init__(self, recorder: ChainedRecorder, gt: int | None = None, topics: Sequence[str] = ()) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        recorder.on_commit.append(self._has_been_notified.set)
        self._has_been_notified.set()

    def stop(self) -> None:
        """End the iteration and stop listening."""
        super().stop()
        wake = self._has_been_notified.set
        self._recorder.on_commit[:] = [listener for listener in self._recorder.on_commit if listener != wake]


def read_tip(cursor: SQLiteCursor | sqlite3.Cursor) -> ChainTip:
    """End of the chain as stored: its last row, or the place before the first event."""
    cursor.execute(_CHAIN_TIP)
    row = cursor.fetchone()
    if row is not None:
        return ChainTip(*row)
    cursor.execute(_META)
    origin, log_id, first_leaf, first_id, prev_head = cursor.fetchone()
    return ChainTip(0, first_leaf, first_id - 1, first_head(origin, log_id, first_leaf, first_id, prev_head))
