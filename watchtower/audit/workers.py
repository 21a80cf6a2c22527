"""Doing independent pieces of an audit in several processes, each with a connection to the log of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event as SharedEvent
from typing import Any, Protocol, TypeVar

from watchtower.audit.stopping import Interrupted
from watchtower.store.source import LogSource, SourceAddress

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Stop(Protocol):
    """An event of threads or of processes."""

    def is_set(self) -> bool:
        """True if everything should end."""
        ...

    def set(self) -> None:
        """Ask for the end."""
        ...


Task = Callable[[LogSource, Stop, Piece], Result]
"""A function of a module that does one piece; may raise `Interrupted` once `Stop` is set."""

AHEAD = 2
"""Pieces per process that are handed out at a time: enough that no process waits."""


class WorkerLost(OSError):
    """A process ended before its piece was done."""


class Workers:
    """Runs a task over pieces: in this process with one job, else in `jobs` processes that it starts."""

    def __init__(self, source: LogSource, jobs: int, stop: threading.Event) -> None:
        self._source, self._jobs, self._stop = source, jobs, stop
        self._pool: ProcessPoolExecutor | None = None
        context = multiprocessing.get_context("spawn")
        self._shared: SharedEvent = context.Event()
        if jobs > 1:
            self._pool = ProcessPoolExecutor(
                jobs, mp_context=context, initializer=_begin, initargs=(source.address, self._shared)
            )

    def run(self, task: Task[Piece, Result], pieces: Sequence[Piece]) -> Iterator[Result]:
        """Results as they come; behind the last one `Interrupted` if it was asked for.

        Raises `StoreError`, and `WorkerLost` if a process was ended from outside.
        """
        if self._pool is None or len(pieces) <= 1:
            yield from self._alone(task, pieces)
            return
        try:
            yield from self._together(self._pool, task, pieces)
        except BrokenProcessPool:
            raise WorkerLost(_LOST) from None

    def begin(self, task: Task[Piece, Result], piece: Piece) -> Callable[[], Result]:
        """Do one piece beside the others; call the answer for its result. With one job it is done then, not now."""
        if self._pool is None:
            return lambda: task(self._source, self._stop, piece)
        future: Future[Result] = self._pool.submit(_do, task, piece)
        return lambda: _result(future)

    def _together(
        self, pool: ProcessPoolExecutor, task: Task[Piece, Result], pieces: Sequence[Piece]
    ) -> Iterator[Result]:
        waiting = list(reversed(pieces))
        running: set[Future[Result]] = set()
        while waiting or running:
            while waiting and len(running) < self._jobs * AHEAD and not self._stop.is_set():
                running.add(pool.submit(_do, task, waiting.pop()))
            if self._stop.is_set():
                self._shared.set()
            done, running = wait(running, return_when=FIRST_COMPLETED) if running else (set(), set())
            for future in done:
                if not (self._stop.is_set() and isinstance(future.exception(), Interrupted)):
                    yield future.result()
            if self._stop.is_set() and not running:
                break
        self._end_if_asked()

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _alone(self, task: Task[Piece, Result], pieces: Sequence[Piece]) -> Iterator[Result]:
        for piece in pieces:
            self._end_if_asked()
            yield task(self._source, self._stop, piece)
        self._end_if_asked()

    def _end_if_asked(self) -> None:
        if self._stop.is_set():
            raise Interrupted


_LOST = "a process of the audit was ended from outside, perhaps for lack of memory; try again with fewer --jobs"


def _result(future: Future[Result]) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        raise WorkerLost(_LOST) from None


_opened: tuple[LogSource, SharedEvent] | None = None
"""What a worker process works with; set once at its start."""


def _begin(address: SourceAddress, stop: SharedEvent) -> None:
    """Start of a worker: the terminal's interrupt is for the parent, and without the parent there is nothing to do."""
    global _opened  # noqa: PLW0603
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _opened = (address.open(), stop)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(task: Task[Any, Any], piece: Any) -> Any:
    assert _opened is not None, "the start of the worker opens the log"
    if _opened[1].is_set():
        raise Interrupted
    return task(_opened[0], _opened[1], piece)
