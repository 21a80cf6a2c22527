"""One thread that writes: jobs of many callers share a commit, the chain's jobs go first and alone.

A chain job (whatever the pass writes) overtakes every queued client job. There is no linger timer: while one
commit runs, the next group collects itself. A refused job never takes its neighbors down: the group is repeated
with one savepoint per job. Queues are bounded; a full one means `StoreBusy`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import perf_counter

from eventsourcing.persistence import IntegrityError, StoredEvent

from watchtower.ports import StoreAway, StoreBroken, StoreBusy, StoreError
from watchtower.store.errors import GuardViolation
from watchtower.store.observing import Observe, failure_kind
from watchtower.store.read_back import Verdict, read_back
from watchtower.store.recorders import Recorder
from watchtower.store.versions import StreamVersions

GROUP_JOBS, GROUP_EVENTS, GROUP_BYTES = 256, 1_000, 4 << 20
"""Limits of one shared commit; a larger group adds latency without raising the rate."""

CHAIN_QUEUE, CLIENT_QUEUE = 256, 4_096
"""Waiting jobs per queue before `StoreBusy`."""

KNOWN_STREAMS = 100_000
"""Streams whose last version is remembered for the check before the database."""

IDLE_SECONDS = 1.0
"""Quiet time after which the store does what must not disturb: SQLite folds its write-ahead log into the file."""

PATIENCE = 2.0
"""Seconds in which a server that went away may come back before jobs are answered with `StoreAway`.

A restart, or a connection that was cut, is over by then; and it is known again what became of the last commit.
"""

AWAY_PAUSE = 1.0
"""Seconds between two attempts to reach a server that is away. Jobs in between are answered at once."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5


class PendingJob:
    """A submitted job and the future its caller waits for."""

    __slots__ = ("chain", "future", "size", "started", "stored")

    def __init__(self, stored: Sequence[StoredEvent], chain: bool) -> None:
        self.stored, self.chain = stored, chain
        self.size = sum(len(event.state) for event in stored)
        self.future: Future[int] = Future()
        self.future.set_running_or_notify_cancel()  # a durable write cannot be called back
        self.started = perf_counter()

    @property
    def kind(self) -> str:
        """Label for metrics."""
        return "chain" if self.chain else "client"


class GroupCommit:
    """Owns all appends of a store; `broken` is set when the file can no longer be trusted."""

    def __init__(
        self, recorder: Recorder, observe: Observe, on_idle: Callable[[], bool], known: StreamVersions
    ) -> None:
        """`on_idle` runs in quiet moments, again while it answers True; `known` is told versions before callers are."""
        self._recorder, self._observe, self._on_idle = recorder, observe, on_idle
        self._meanings = recorder.meanings
        self._failures = recorder.meanings.failures
        """Anything else is a mistake in the program and ends the writer."""
        self._known = known
        self._chain: deque[PendingJob] = deque()
        self._clients: deque[PendingJob] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._busy_since: float | None = None
        self._rest = threading.Event()
        self._away_since: float | None = None
        self._asked_at = 0.0
        self.broken = threading.Event()
        self.dirty = False
        """Whether the next quiet moment has work."""
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._thread = threading.Thread(target=self._run, name="store-writer")
        self._thread.start()

    def submit(self, stored: Sequence[StoredEvent], chain: bool) -> Future[int]:
        """Queue a job; the future yields its last notification id. Raises `StoreBusy` or `StoreBroken`."""
        job = PendingJob(stored, chain)
        queue, limit = (self._chain, CHAIN_QUEUE) if chain else (self._clients, CLIENT_QUEUE)
        with self._wake:
            if self.broken.is_set():
                raise StoreBroken("the log failed earlier; end the process and start again")
            if self._closing:
                raise StoreBusy("the store is closing")
            if len(queue) >= limit:
                raise StoreBusy(f"{limit} jobs are waiting for the log; try again shortly")
            queue.append(job)
            self._wake.notify()
        return job.future

    def waiting(self) -> tuple[int, int]:
        """Jobs of the chain and of clients that wait for their commit."""
        return len(self._chain), len(self._clients)

    def writing_for(self) -> float:
        """Seconds since the present commit began, 0 while the writer waits for work."""
        since = self._busy_since
        return 0.0 if since is None else perf_counter() - since

    def away_for(self) -> float:
        """Seconds since the server could last be reached, 0 while it can."""
        since = self._away_since
        return 0.0 if since is None else perf_counter() - since

    def close(self, timeout: float = 10.0) -> None:
        """Refuse new jobs, write the queued ones, end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._rest.set()
        self._thread.join(timeout)
        self._fail_queued(StoreBusy("the store was closed before this job was written"))

    def _run(self) -> None:
        while True:
            group = self._next_group(IDLE_SECONDS)
            if group is None:
                return
            if not group and not self.dirty:
                continue
            self._busy_since = perf_counter()
            self.dirty = True
            try:
                if group:
                    self._commit(group)
                else:
                    self.dirty = not self._fold()
            except Exception as error:  # noqa: BLE001 - the border of the writer task: nothing is written after it
                self._break(group, error)
            finally:
                self._busy_since = None
            if self.broken.is_set():
                return

    def _fold(self) -> bool:
        """Work of a quiet moment; False if it has to be done again.

        There may be no space for it, another program may be reading, or the server be away: nothing is lost.
        """
        if self._away_since is not None and not self._ask_again():
            return False
        try:
            return not self._on_idle()
        except self._failures as error:
            meant = self._meanings.store_error(error)
            if isinstance(meant, StoreBroken):
                raise
            if isinstance(meant, StoreAway):
                self._note_away()
            return False

    def _next_group(self, timeout: float) -> list[PendingJob] | None:
        """Jobs for one commit, an empty list after an idle time, None when closed and drained.

        A program that ends without closing the store counts as closed: this thread must not keep it alive.
        """
        with self._wake:
            while not self._chain and not self._clients:
                if self._closing or not threading.main_thread().is_alive():
                    self._closing = True  # a later job is refused; nobody would write it
                    return None
                if not self._wake.wait(timeout):
                    return []
            if self._chain:
                return [self._chain.popleft()]
            group, events, size = [self._clients.popleft()], 0, 0
            events, size = len(group[0].stored), group[0].size
            while self._clients and len(group) < GROUP_JOBS:
                following = self._clients[0]
                events, size = events + len(following.stored), size + following.size
                if events > GROUP_EVENTS or size > GROUP_BYTES:
                    break
                group.append(self._clients.popleft())
            return group

    def _commit(self, group: list[PendingJob]) -> None:
        started = perf_counter()
        fitting, doubtful = self._split(group)
        self._write(fitting)
        for job in doubtful:
            self._answer_doubtful(job)
        self._observe("commit", perf_counter() - started, group[0].kind)

    def _split(self, group: list[PendingJob]) -> tuple[list[PendingJob], list[PendingJob]]:
        """Jobs that may fit, and jobs whose first version is known not to be the next one of its stream."""
        fitting: list[PendingJob] = []
        doubtful: list[PendingJob] = []
        ahead: dict[str, int] = {}
        for job in group:
            first = _first_versions(job.stored)
            known = {stream: ahead.get(stream, self._versions.get(stream)) for stream in first}
            if any(at is not None and first[stream] != at + 1 for stream, at in known.items()):
                doubtful.append(job)
                continue
            fitting.append(job)
            ahead.update(_last_versions(job.stored))
        return fitting, doubtful

    def _write(self, jobs: list[PendingJob], *, is_second: bool = False) -> None:
        if not jobs:
            return
        if self._away_since is not None and not self._ask_again():
            self._forget(jobs)
            self._fail(jobs, StoreAway("the database server cannot be reached; try again shortly"))
            return
        try:
            ids = self._recorder.insert_jobs([job.stored for job in jobs])
        except IntegrityError as error:
            self._forget(jobs)
            if len(jobs) == 1:
                self._answer_refused(jobs[0], error)
            else:
                self._write_isolated(jobs)
        except self._failures as error:
            self._forget(jobs)
            self._answer_failed(jobs, error, is_second=is_second)
        else:
            for job, job_ids in zip(jobs, ids, strict=True):
                self._succeed(job, job_ids[-1])

    def _write_isolated(self, jobs: list[PendingJob]) -> None:
        try:
            answers = self._recorder.insert_isolated([job.stored for job in jobs])
        except self._failures as error:
            self._answer_failed(jobs, error, is_second=False)
            return
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, IntegrityError):
                self._answer_refused(job, answer)
            else:
                self._succeed(job, answer[-1])

    def _answer_failed(self, jobs: list[PendingJob], error: BaseException, *, is_second: bool) -> None:
        """A commit failed. If only the connection was lost, it may have happened: look, and write what is missing."""
        if is_second or not isinstance(self._meanings.store_error(error), StoreAway):
            self._fail(jobs, error)
            return
        if not self._came_back():
            self._fail(jobs, error)
            return
        missing: list[PendingJob] = []
        for job in jobs:
            verdict = self._read_back(job)
            if verdict is not None and verdict.would_fit:
                missing.append(job)
            elif verdict is not None:
                self._answer(job, verdict)
        self._write(missing, is_second=True)

    def _came_back(self) -> bool:
        """Try to reach the server for a moment; True if it is there and this process may go on writing."""
        self._note_away()
        pause, until = _FIRST_PAUSE, perf_counter() + PATIENCE
        while not self._resume():
            if self.broken.is_set() or self._closing or perf_counter() + pause > until:
                return False
            self._rest.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return True

    def _ask_again(self) -> bool:
        """One more attempt to reach the server, if the last one was not just now."""
        return perf_counter() - self._asked_at >= AWAY_PAUSE and self._resume()

    def _resume(self) -> bool:
        try:
            self._recorder.resume()
        except self._failures as error:
            meant = self._meanings.store_error(error)
            if isinstance(meant, StoreBroken):
                raise
            return False
        finally:
            self._asked_at = perf_counter()
        self._away_since = None
        self._versions.clear()
        self._known.clear()
        return True

    def _note_away(self) -> None:
        if self._away_since is None:
            self._away_since = perf_counter()

    def _answer_doubtful(self, job: PendingJob) -> None:
        verdict = self._read_back(job)
        if verdict is None:
            return
        if verdict.would_fit:  # the remembered version was wrong; let the database decide
            self._forget([job])
            self._write([job])
            return
        self._answer(job, verdict)

    def _answer_refused(self, job: PendingJob, error: IntegrityError) -> None:
        if not self._meanings.is_conflict(error):
            self._fail([job], error)
            return
        verdict = self._read_back(job)
        if verdict is None:
            return
        if verdict.would_fit:
            self._fail([job], GuardViolation(f"a guard of the log refused a job that fits: {error}"))
            return
        self._answer(job, verdict)

    def _answer(self, job: PendingJob, verdict: Verdict) -> None:
        if verdict.conflict is None:
            self._succeed(job, verdict.last_id)
            return
        self._remember(verdict.conflict.stream, verdict.conflict.actual)
        self._fail([job], verdict.conflict)

    def _read_back(self, job: PendingJob) -> Verdict | None:
        try:
            return read_back(self._recorder, job.stored)
        except self._failures as error:
            self._fail([job], error)
            return None

    def _succeed(self, job: PendingJob, last_id: int) -> None:
        last = _last_versions(job.stored)
        self._known.note(last)
        for stream, version in last.items():
            self._remember(stream, version)
        self._observe("append", perf_counter() - job.started, job.kind)
        job.future.set_result(last_id)

    def _fail(self, jobs: Sequence[PendingJob], error: BaseException) -> None:
        for job in jobs:
            self._known.forget(_last_versions(job.stored))
        answer = self._meanings.store_error(error)
        if jobs:
            self._observe("append_failed", 0.0, failure_kind(answer, error))
        if isinstance(answer, StoreBroken):
            self._break(jobs, answer)
            return
        if isinstance(answer, StoreAway):
            self._note_away()
        for job in jobs:
            job.future.set_exception(answer)

    def _break(self, jobs: Sequence[PendingJob], error: BaseException) -> None:
        with self._wake:
            self.broken.set()
        for job in jobs:
            self._known.forget(_last_versions(job.stored))
            if not job.future.done():
                job.future.set_exception(error)
        self._fail_queued(StoreBroken("the log failed; end the process and start again"))

    def _fail_queued(self, error: StoreError) -> None:
        with self._wake:
            waiting = [*self._chain, *self._clients]
            self._chain.clear()
            self._clients.clear()
        for job in waiting:
            job.future.set_exception(error)

    def _remember(self, stream: str, version: int) -> None:
        self._versions[stream] = version
        self._versions.move_to_end(stream)
        if len(self._versions) > KNOWN_STREAMS:
            self._versions.popitem(last=False)

    def _forget(self, jobs: Sequence[PendingJob]) -> None:
        for job in jobs:
            for event in job.stored:
                self._versions.pop(str(event.originator_id), None)


def _first_versions(stored: Sequence[StoredEvent]) -> dict[str, int]:
    first: dict[str, int] = {}
    for event in stored:
        first.setdefault(str(event.originator_id), event.originator_version)
    return first


def _last_versions(stored: Sequence[StoredEvent]) -> dict[str, int]:
    return {str(event.originator_id): event.originator_version for event in stored}
