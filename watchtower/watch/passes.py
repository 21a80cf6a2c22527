"""When the tower passes: one wake flag, a thread that is the only caller of the core, and the waits between passes.

ZMQ and timers only ring; what a pass finds never depends on who rang. The flag is cleared before the work, so a ring
during a pass causes one more pass. The thread ends by itself only on an error that it must not survive.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import msgspec

from domain.chain import OutPoint
from watchtower.tower import Hints

CALM_GAP = 0.3
"""Seconds between pass starts for frames that do not concern us: a busy mempool must not keep the thread busy."""

UNFINISHED_GAP = 0.03
"""Seconds between pass starts while a sweep has slices left: quick, and yet most of the time is left to others."""

URGENT_STARTS = 10
"""Urgent passes start at once, at most this many within a second; further ones as if they were calm."""

TOUCHED_LIMIT = 10_000
CAPTURED_LIMIT = 8 * 2**20
"""Outpoints and bytes that a ring may carry to the next pass; beyond that the pass asks the node for everything."""

FIRST_RETRY, LONGEST_RETRY, BREACH_RETRY, WARM_UP_RETRY = 0.5, 30.0, 3.0, 1.0
"""Seconds until the next try after an error: doubling, at most 3 s while a breach is open; 1 s while the node loads."""


class Pacer:
    """When the next pass may start. Pure: the caller brings the time (monotonic seconds)."""

    def __init__(self, idle: float) -> None:
        """`idle` is the longest time without a pass."""
        self._idle = idle
        self._last_start = float("-inf")
        self._urgent_starts: deque[float] = deque(maxlen=URGENT_STARTS)
        self._retry_at: float | None = None
        self._failures = 0

    def due(self, now: float, *, rung: bool, urgent: bool, unfinished: bool = False) -> float:
        """Time of the next start; in the past or `now` means: at once."""
        if unfinished or rung or urgent:
            calm = self._last_start + (UNFINISHED_GAP if unfinished else CALM_GAP)
            return max(now, min(calm, self._urgent_due(now))) if urgent else calm
        return self._last_start + self._idle if self._retry_at is None else self._retry_at

    def _urgent_due(self, now: float) -> float:
        return self._urgent_starts[0] + 1.0 if len(self._urgent_starts) == URGENT_STARTS else now

    def started(self, now: float, *, urgent: bool) -> None:
        """A pass begins."""
        self._last_start = now
        self._retry_at = None
        if urgent:
            self._urgent_starts.append(now)

    def succeeded(self) -> None:
        """The pass found the node in order."""
        self._failures = 0

    def failed(self, now: float, *, warming_up: bool, breach_open: bool, jitter: float) -> float:
        """Note a failure; returns the seconds until the next try. `jitter` is a number from 0 to 1."""
        longest = BREACH_RETRY if breach_open else LONGEST_RETRY
        delay = WARM_UP_RETRY if warming_up else min(longest, FIRST_RETRY * 2.0 ** min(self._failures, 10))
        delay = min(longest, delay * (0.75 + jitter / 2))
        self._failures += 1
        self._retry_at = now + delay
        return delay


class Turn(msgspec.Struct, frozen=True):
    """Why a pass starts and what the bells carried."""

    hints: Hints
    rung: bool
    urgent: bool


class Wake:
    """The one-slot flag. `ring` may be called from any thread; `next_turn` only from the pass thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._stopping = False
        self._rung = False
        self._urgent = False
        self._unfinished = False
        self._full_sweep = False
        self._touched: set[OutPoint] = set()
        self._captured: dict[bytes, bytes] = {}
        self._captured_size = 0

    def ring(
        self,
        *,
        urgent: bool = False,
        touched: Iterable[OutPoint] = (),
        captured: Mapping[bytes, bytes] | None = None,
        full_sweep: bool = False,
        unfinished: bool = False,
    ) -> None:
        """Set the flag. Ringing again before the next pass adds hints, never another pass.

        `unfinished` is how a pass asks for its continuation.
        """
        with self._changed:
            self._touched.update(touched)
            for txid, raw in (captured or {}).items():
                if txid not in self._captured:
                    self._captured[txid] = raw
                    self._captured_size += len(raw)
            overflow = len(self._touched) > TOUCHED_LIMIT or self._captured_size > CAPTURED_LIMIT
            if overflow:
                self._forget_hints()
            self._rung = True
            self._urgent |= urgent
            self._unfinished |= unfinished
            self._full_sweep |= full_sweep or overflow
            self._changed.notify_all()

    def stop(self) -> None:
        """Let `next_turn` return None, at once and for ever."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def next_turn(self, pacer: Pacer) -> Turn | None:
        """Wait until a pass is due, clear the flag and return what it carried; None when stopping."""
        with self._changed:
            while not self._stopping:
                now = self._monotonic()
                due = pacer.due(now, rung=self._rung, urgent=self._urgent, unfinished=self._unfinished)
                if due <= now:
                    turn = self._take()
                    pacer.started(now, urgent=turn.urgent)
                    return turn
                self._changed.wait(due - now)
        return None

    def _take(self) -> Turn:
        hints = Hints(frozenset(self._touched), dict(self._captured), self._full_sweep)
        turn = Turn(hints, self._rung, self._urgent)
        self._rung = self._urgent = self._unfinished = self._full_sweep = False
        self._forget_hints()
        return turn

    def _forget_hints(self) -> None:
        self._touched.clear()
        self._captured.clear()
        self._captured_size = 0
