"""The library's PostgreSQL recorder with our table: ids given under a lock, one chain row per commit, notifications.

Writers follow each other through an advisory lock, so commit order = id order and a tailing reader misses nothing. The
end of the chain is read under that lock in every transaction. An `exclusive` recorder remembers where its own last
commit ended and refuses to go on behind somebody else's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import psycopg
from eventsourcing.persistence import IntegrityError, Notification, StoredEvent, Subscription
from eventsourcing.postgres import PostgresApplicationRecorder

from domain.log_chain import first_head, leaf, next_head
from watchtower.ports import Place
from watchtower.store.errors import GuardViolation
from watchtower.store.place import CommitRow, RecentCommits
from watchtower.store.postgres.connection import Connection
from watchtower.store.postgres.datastore import LogDatastore
from watchtower.store.postgres.errors import POSTGRES, ForeignWriter, VersionTaken
from watchtower.store.postgres.listener import LogSubscription
from watchtower.store.postgres.schema import TABLE
from watchtower.store.recorders import ChainTip, ErrorMeanings, Job, StoredRow

# A second writer that keeps the lock longer than 5 s makes a commit `StoreBusy`.
_BEGIN = """
BEGIN;
SET LOCAL lock_timeout = '5s';
SELECT pg_advisory_xact_lock(hashtextextended('watchtower.wt_events', 0));
SELECT commit_no, first_leaf + leaf_count, last_id, head, (SELECT max(notification_id) FROM watchtower.wt_events)
FROM watchtower.commit_chain ORDER BY commit_no DESC LIMIT 1
"""
_INSERT = (
    "INSERT INTO watchtower.wt_events (originator_id, originator_version, topic, state, notification_id) "
    "SELECT s, v, t, b, %b::bigint + place FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::bytea[]) "
    "WITH ORDINALITY AS fresh (s, v, t, b, place)"
)
_INSERT_CHAIN = (
    "WITH done AS (INSERT INTO watchtower.commit_chain (commit_no, first_leaf, leaf_count, last_id, head, leaves) "
    "VALUES (%b, %b, %b, %b, %b, %b)) SELECT pg_notify('wt_events', %b::bigint::text)"
)
_LAST_VERSIONS = (
    "SELECT originator_id, max(originator_version) FROM watchtower.wt_events WHERE originator_id = ANY(%b) GROUP BY 1"
)
_META = "SELECT origin, log_id, first_leaf, first_id, prev_head FROM watchtower.log_meta"
_LAST_ID = "SELECT max(notification_id) FROM watchtower.wt_events"
_LAST_VERSION = "SELECT max(originator_version) FROM watchtower.wt_events WHERE originator_id = %b"
_ROWS = (
    "SELECT originator_version, notification_id, topic, state FROM watchtower.wt_events "
    "WHERE originator_id = %b AND originator_version BETWEEN %b::bigint AND %b::bigint"
)
_COMMIT_AT = (
    "SELECT last_id, head, leaves FROM watchtower.commit_chain WHERE last_id >= %b::bigint ORDER BY last_id LIMIT 1"
)
_LOG = (
    "SELECT originator_id, originator_version, topic, state, notification_id FROM watchtower.wt_events "
    "WHERE notification_id BETWEEN %b::bigint AND %b::bigint "
)
_LOG_PAGE = _LOG + "ORDER BY notification_id LIMIT %b::bigint"
_LOG_PAGE_OF_TOPICS = _LOG + "AND topic = ANY(%b) ORDER BY notification_id LIMIT %b::bigint"
_STREAM = (
    "SELECT originator_id, originator_version, topic, state FROM watchtower.wt_events "
    "WHERE originator_id = %b AND originator_version BETWEEN %b::bigint AND %b::bigint ORDER BY originator_version "
)
_STREAM_PAGE, _STREAM_PAGE_BACKWARDS = _STREAM + "LIMIT %b::bigint", _STREAM + "DESC LIMIT %b::bigint"
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1

Answers = list[Sequence[int] | IntegrityError]
Refuse = Callable[[Connection], Sequence[IntegrityError | None]]
"""Tells under the lock which jobs are not even tried."""


class PostgresRecorder(PostgresApplicationRecorder):
    """Inserts jobs with their chain row in one transaction; readers use connections of their own."""

    datastore: LogDatastore

    def __init__(self, datastore: LogDatastore, *, exclusive: bool = True) -> None:
        """`exclusive`: this process is the only writer (the tower). Else other recorders may write in turn."""
        super().__init__(datastore, events_table_name=TABLE)
        self.on_commit: list[Callable[[], None]] = []
        self._exclusive = exclusive
        self._writing = threading.Lock()
        self._recent = RecentCommits()
        self._tip: ChainTip | None = None
        self._attempted: ChainTip | None = None

    @property
    def tip_id(self) -> int:
        """Id of the last event committed by this process, 0 before the first commit."""
        tip = self._tip
        return 0 if tip is None else tip.last_id

    @property
    def tip(self) -> ChainTip | None:
        """Where the log ends as far as this process knows, None before the first look."""
        return self._tip

    @property
    def recent(self) -> RecentCommits:
        """The newest commits of this process."""
        return self._recent

    @property
    def meanings(self) -> ErrorMeanings:
        """Those of PostgreSQL."""
        return POSTGRES

    def create_table(self) -> None:
        """Nothing: the tables are made by `watchtower store migrate` only."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int]:
        """Store one job; raises the library's `IntegrityError` if a constraint or guard refuses it."""
        return list(self.insert_jobs([stored_events])[0])

    def insert_jobs(self, jobs: Sequence[Job]) -> list[Sequence[int]]:
        """Store all jobs and their chain row in one commit or none; ids per job. One refused job refuses them all."""
        return cast("list[Sequence[int]]", self._commit(jobs, lambda _connection: [None] * len(jobs)))

    def insert_isolated(self, jobs: Sequence[Job]) -> list[Sequence[int] | IntegrityError]:
        """Store those jobs that continue their streams, in one commit; the others answer with their refusal.

        Nobody else writes while the lock is held, so what is read there decides as the constraints would.
        """
        return self._commit(jobs, lambda connection: _refusals(connection, jobs))

    def resume(self) -> None:
        """After a lost connection: connect again and learn what became of the last commit.

        Raises `psycopg.OperationalError` while the server cannot be reached, `ForeignWriter` if another process wrote.
        """
        with self._writing, self.datastore.writing() as connection:
            before, self._tip = self._tip, self._begin(connection)
            self._attempted = None
            connection.rollback()
        if before != self._tip:
            self._announce()

    def _commit(self, jobs: Sequence[Job], refuse: Refuse) -> Answers:
        with self._writing:
            if (done := self._transact(jobs, refuse)) is None:
                done = self._transact(jobs, refuse, again=True)
            assert done is not None
            answers, row, self._tip = done
            self._attempted = None
            if row is not None:
                self._recent.note(row)
        self._announce()
        return answers

    def _announce(self) -> None:
        for listener in tuple(self.on_commit):
            listener()

    def _transact(
        self, jobs: Sequence[Job], refuse: Refuse, *, again: bool = False
    ) -> tuple[Answers, CommitRow | None, ChainTip] | None:
        """One transaction. None if the connection was dead before anything was sent: to be done once more."""
        with self.datastore.writing(sum(map(len, jobs))) as connection:
            try:
                tip = self._begin(connection)
            except psycopg.OperationalError:
                if again or not connection.closed:
                    raise
                return None
            try:
                refusals = refuse(connection)
                kept = [event for job, refusal in zip(jobs, refusals, strict=True) if refusal is None for event in job]
                # Events and chain row are one question to the server. COMMIT is not part of it: behind one that came
                # in a pipeline PostgreSQL 15 does not count the idle time by which it replaces a leader that hangs.
                with connection.pipeline():
                    row, new = append(connection, tip, kept) if kept else (None, tip)
                self._attempted = new
                self.datastore.failpoint("commit:before")
                connection.execute("COMMIT")
            except psycopg.IntegrityError as error:
                raise IntegrityError(str(error)) from error
            self.datastore.failpoint("commit:after")
        return _ids(jobs, refusals, tip.last_id + 1), row, new

    def _begin(self, connection: Connection) -> ChainTip:
        """Begin, take the lock, and read the end of the chain behind it: one question to the server.

        An exclusive recorder accepts the end of its own last commit, or of the one whose answer was lost.
        """
        cursor = connection.execute(_BEGIN)
        while cursor.nextset():
            pass
        found: Any = cursor.fetchone()
        tip, stored = (ChainTip(*found[:4]), found[4]) if found else (_start(connection), _last_id(connection))
        if (stored if stored is not None else tip.last_id) != tip.last_id:
            raise GuardViolation(
                f"the log ends at event {stored} but its commit chain at {tip.last_id}; verify the store"
            )
        if self._exclusive and self._tip is not None and tip not in (self._tip, self._attempted):
            raise ForeignWriter(
                f"another process appended to the log: it ends at event {tip.last_id}, not at {self._tip.last_id}"
            )
        return tip

    def stored_rows(self, stream: str, first: int, last: int) -> Mapping[int, StoredRow]:
        """The rows of a stream with versions from `first` to `last`, by version."""
        found = self.datastore.read(_ROWS, (stream, first, last))
        return {row[0]: (row[1], row[2], row[3]) for row in found}

    def version(self, stream: str) -> int:
        """Last committed version of a stream, 0 if it has no event."""
        return int(self.datastore.read(_LAST_VERSION, (stream,))[0][0] or 0)

    def place(self, event_id: int) -> Place | None:
        """Where an event stands; None if there is none."""
        if (recent := self._recent.place(event_id)) is not None:
            return recent
        rows = self.datastore.read(_COMMIT_AT, (event_id,))
        return CommitRow(*rows[0]).place(event_id) if rows else None

    def max_notification_id(self) -> int | None:
        """Highest committed id, None for an empty table."""
        found: int | None = self.datastore.read(_LAST_ID)[0][0]
        return found

    def select_log(self, after_id: int, limit: int) -> list[Notification]:
        """Notifications with id > `after_id`, in order."""
        return list(self.select_notifications(after_id, limit, inclusive_of_start=False))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """As in the library: at most `limit` notifications from `start` to `stop`, in order, of these topics."""
        first = _LEAST if start is None else start if inclusive_of_start else start + 1
        last = _MOST if stop is None else stop
        if topics:
            found = self.datastore.read(_LOG_PAGE_OF_TOPICS, (first, last, list(topics), limit))
        else:
            found = self.datastore.read(_LOG_PAGE, (first, last, limit))
        return [Notification(*row) for row in found]

    def select_events(
        self,
        originator_id: object,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """As in the library: events of a stream with versions behind `gt` and up to `lte`."""
        first, last = _LEAST if gt is None else gt + 1, _MOST if lte is None else lte
        query = _STREAM_PAGE_BACKWARDS if desc else _STREAM_PAGE
        return [StoredEvent(*row) for row in self.datastore.read(query, (originator_id, first, last, limit))]

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[PostgresRecorder]:
        """Notifications behind id `gt`, then every new one, from whatever process it comes."""
        return LogSubscription(recorder=self, gt=gt, topics=topics)


def append(connection: Connection, tip: ChainTip, events: Sequence[StoredEvent]) -> tuple[CommitRow, ChainTip]:
    """Insert events and their chain row behind `tip`, in the open transaction that holds the lock."""
    streams = [str(event.originator_id) for event in events]
    versions, topics = [event.originator_version for event in events], [event.topic for event in events]
    states = [event.state for event in events]
    leaves = b"".join(map(leaf, streams, versions, topics, states))
    last_id = tip.last_id + len(events)
    head = next_head(tip.head, tip.next_leaf, tip.last_id + 1, leaves)
    new = ChainTip(tip.commit_no + 1, tip.next_leaf + len(events), last_id, head)
    chain = (new.commit_no, tip.next_leaf, len(events), last_id, head, leaves, last_id)
    connection.execute(_INSERT, (tip.last_id, streams, versions, topics, states), prepare=True)
    connection.execute(_INSERT_CHAIN, chain, prepare=True)
    return CommitRow(last_id, head, leaves), new


def _refusals(connection: Connection, jobs: Sequence[Job]) -> list[IntegrityError | None]:
    streams = sorted({str(event.originator_id) for job in jobs for event in job})
    found: Any = connection.execute(_LAST_VERSIONS, (streams,)).fetchall()
    last: dict[str, int] = dict(found)
    return [_refusal(job, last) for job in jobs]


def _refusal(job: Job, last: dict[str, int]) -> IntegrityError | None:
    """Why a job does not continue its streams; None if it does, and then `last` moves on."""
    ahead: dict[str, int] = {}
    for event in job:
        stream, version = str(event.originator_id), event.originator_version
        at = ahead.get(stream, last.get(stream))
        if (at is None and version > 1) or (at is not None and version != at + 1):
            return VersionTaken(f"stream {stream} ends at version {at or 0}: {version} does not follow")
        ahead[stream] = version
    last.update(ahead)
    return None


def _ids(jobs: Sequence[Job], refusals: Sequence[IntegrityError | None], start: int) -> Answers:
    answers: Answers = []
    for job, refusal in zip(jobs, refusals, strict=True):
        if refusal is not None:
            answers.append(refusal)
            continue
        answers.append(range(start, start + len(job)))
        start += len(job)
    return answers


def _start(connection: Connection) -> ChainTip:
    """The place before the first event."""
    row: Any = connection.execute(_META).fetchone()
    if row is None:
        raise GuardViolation("the database holds no log yet; run `watchtower init` or `watchtower store copy`")
    origin, log_id, first_leaf, first_id, prev_head = row
    return ChainTip(0, first_leaf, first_id - 1, first_head(origin, log_id, first_leaf, first_id, prev_head))


def _last_id(connection: Connection) -> int | None:
    row: Any = connection.execute(_LAST_ID).fetchone()
    return None if row is None else row[0]
