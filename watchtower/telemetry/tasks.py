"""What metrics tell of a task: that it runs, when it last got on, and how often an error did not end it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from structlog.contextvars import bound_contextvars

from watchtower.telemetry.metrics import Metrics


class TaskReport:
    """Reports for one task of the catalog; may be called from any thread. Made before the task begins.

    From then on the task is missed if it does not run; a tower that has no such task shows nothing about it.
    """

    def __init__(self, metrics: Metrics, name: str) -> None:
        self.name = name
        self._metrics = metrics
        metrics.set("task_up", name, value=0)
        self.progressed()

    @contextmanager
    def running(self) -> Iterator[None]:
        """The task is up until the block ends, whatever ends it. Lines of the log from inside name it."""
        self._metrics.set("task_up", self.name, value=1)
        self.progressed()
        try:
            with bound_contextvars(task=self.name):
                yield
        finally:
            self._metrics.set("task_up", self.name, value=0)

    def progressed(self) -> None:
        """A unit of work is done, or there was none."""
        self._metrics.set("task_last_progress_timestamp_seconds", self.name, value=time.time())

    def went_on(self) -> None:
        """An error that nobody had foreseen did not end the task."""
        self._metrics.count("task_restarts_total", self.name)
