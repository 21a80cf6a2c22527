"""When the last commits of the pass thread became durable: a follower of the log comes later than the commit."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

KEPT = 1_000


class CommitTimes:
    """Noted by the pass thread, asked by the reporter."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._commits: deque[tuple[int, float]] = deque(maxlen=KEPT)

    def note(self, last_id: int) -> None:
        """Everything up to this event is durable now."""
        with self._lock:
            self._commits.append((last_id, self._now()))

    def of(self, event_id: int) -> float:
        """Unix time at which an event became durable; now if its commit was not noted."""
        with self._lock:
            for last_id, at in self._commits:
                if last_id >= event_id:
                    return at
        return self._now()
