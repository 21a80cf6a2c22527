"""Verifying states in processes of their own, as soon as several come at once.

A verification is thirty short calls into libsecp256k1. Each gives the interpreter up and has to get it back; threads
that verify beside each other, and beside those that decode, store and answer, lose more time with that than a process
of its own costs.

The processes only spare work. One that says yes is believed, because it runs the same code; whatever else happens
(another answer, none in time, a death), the state is verified here, and what is raised here is raised. A single state
at a time is verified here as well: then nobody waits for the interpreter, and no process is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Thread

import structlog

from domain.contract.params import ChannelParams
from domain.opening import StateContent, verify_content
from domain.units import Side
from watchtower.host.system import processors
from watchtower.verification.question import TARGET, Question, encode_question, yes_to
from watchtower.worker import Worker, WorkerFailed

MOST = 4
"""Processes at most: by then the one that decodes, stores and answers is the slowest. Each takes about 40 MB."""

SECONDS = 10.0
"""For one answer, which takes a millisecond. On a machine so busy it is better to wait in line than to begin again."""

EACH = 3
"""Lanes for each processor: a process finds the next question while the answers to the last ones are on their way."""

FAILURES = 5
"""Failed processes after which all states are verified here until the next start."""

_log = structlog.get_logger(__name__)


def how_many() -> int:
    """One for each processor; none if there is only one, or where they would only wait for each other."""
    return 0 if processors() == 1 else min(processors(), MOST)


def made() -> Worker:
    """One more process, not started yet."""
    return Worker(TARGET, seconds=SECONDS)


class VerifyingProcesses:
    """`verify` is `verify_content` for callers in many threads. Nothing is started before two of them meet."""

    def __init__(self, count: int, make: Callable[[], Worker] = made) -> None:
        self._count, self._make = count, make
        self._changed = Condition()
        self._usable: set[Worker] = set()
        self._idle: list[Worker] = []
        self._callers, self._failures = 0, 0
        self._begun = self._closed = False

    def verify(
        self,
        params: ChannelParams,
        own_side: Side,
        state: StateContent,
        peer_point: bytes,
        publisher: Side | None = None,
    ) -> None:
        """As `verify_content`; a caller waits for a process that is busy, and never for one that starts."""
        with self._turn() as worker:
            if worker is not None:
                question = Question(params.encode(), own_side, state, peer_point, publisher)
                if self._says_yes(worker, encode_question(question)):
                    return
            verify_content(params, own_side, state, peer_point, publisher)

    def close(self) -> None:
        """End the processes; one that is being asked ends behind its answer."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            self._usable.clear()
            self._changed.notify_all()
        for worker in idle:
            worker.close()

    @contextmanager
    def _turn(self) -> Iterator[Worker | None]:
        """A process for one question; None if the caller is alone, or none is to be had."""
        with self._changed:
            self._callers += 1
            worker = None if self._callers == 1 else self._take()
        try:
            yield worker
        finally:
            with self._changed:
                self._callers -= 1

    def _take(self) -> Worker | None:
        if not self._begun:
            self._begun = True
            for _ in range(self._count):
                self._launch(self._make())
        self._changed.wait_for(lambda: self._idle or not self._usable, SECONDS)
        return self._idle.pop() if self._idle else None

    def _launch(self, worker: Worker) -> None:
        # Not in the caller's thread: an interpreter takes half a second to start.
        Thread(target=self._start, args=(worker,), name="verifier-start", daemon=True).start()

    def _start(self, worker: Worker) -> None:
        try:
            worker.start()
        except (WorkerFailed, OSError) as failure:
            self._lose(worker, failure)
        else:
            self._give_back(worker)

    def _says_yes(self, worker: Worker, question: bytes) -> bool:
        try:
            said = worker.ask(question)
        except (WorkerFailed, OSError) as failure:
            self._lose(worker, failure)
            return False
        self._give_back(worker)
        return said == yes_to(question)

    def _give_back(self, worker: Worker) -> None:
        with self._changed:
            if not self._closed:
                self._usable.add(worker)
                self._idle.append(worker)
                self._changed.notify()
                return
        worker.close()

    def _lose(self, worker: Worker, failure: Exception) -> None:
        """Start it again, unless too many failed."""
        with self._changed:
            self._failures += 1
            again = self._failures < FAILURES and not self._closed
            self._usable.discard(worker)
            self._changed.notify_all()
        _log.warning("verifier_failed", reason=str(failure), again=again)
        worker.close()
        if again:
            self._launch(worker)
