"""Threads that come back: for work beside the watching, whose mistakes must not end the process.

Each turn stands alone. An error that the work did not foresee is told and counted, and the next turn comes all the
same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.tasks import TaskReport

_log = structlog.get_logger(__name__)

RETRY_SECONDS = 15.0
"""Pause after an error that nobody had foreseen."""

LONGEST_WAIT = 60.0
"""Seconds after which an idle task shows that it lives."""


class RecurringTask:
    """Calls `turn` in a thread of its own: at the start, after each `wake`, and when the time that it named is over."""

    def __init__(self, name: str, turn: Callable[[], float], metrics: Metrics) -> None:
        """`name` is one of the catalog's tasks; `turn` returns the seconds until it is to be called again."""
        self._turn = turn
        self._report = TaskReport(metrics, name)
        self._changed = threading.Condition()
        self._woken = False
        self._stopping = False
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)

    def start(self) -> None:
        """Begin with the first turn."""
        self._thread.start()

    def wake(self) -> None:
        """Take a turn now, or one more after the present one; from any thread."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def stop(self, timeout: float) -> bool:
        """End after the present turn; False if it has not within `timeout` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def run(self) -> None:
        """The body of the thread."""
        with self._report.running():
            while not self._stopping:
                self._rest(self._take_turn())

    def _take_turn(self) -> float:
        try:
            pause = self._turn()
        except Exception as error:  # noqa: BLE001 - the border of the task: the tower protects without it
            self._report.went_on()
            _log.error(
                "task_restarted", task=self._report.name, reason=f"{type(error).__name__}: {error}", exc_info=error
            )
            pause = RETRY_SECONDS
        self._report.progressed()
        return pause

    def _rest(self, seconds: float) -> None:
        """Wait for a ring or the time, and show now and then that the thread lives."""
        while seconds > 0:
            part = min(seconds, LONGEST_WAIT)
            with self._changed:
                if self._changed.wait_for(lambda: self._woken or self._stopping, part):
                    self._woken = False
                    return
            self._report.progressed()
            seconds -= part
