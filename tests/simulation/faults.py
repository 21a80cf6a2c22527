"""What may go wrong at a call of a port or at a named point of the program, and the counts of it.

All decisions come from the random source of the present step, so a step that is left out changes no other one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import msgspec

from watchtower.node.answers import refused
from watchtower.ports import Answer, NodeError, NodeUnavailable

CALLS_PER_PASS = 3_000
"""More calls of the node in one pass than any honest one makes: a loop that never ends is stopped here."""

AT_A_POINT = 0.4
"""A block passes ten points and commits on its way into the log: this share of the rate is one crash in some passes."""

BEFORE_A_COMMIT = frozenset({"connect:before", "disconnect:before", "prepare_commit:before", "bump_commit:before"})
"""Points at which the tower has decided on what it read, and has not stored it."""

MOVES = frozenset({"connect:before", "disconnect:before"})
"""Points that are passed once for each block, also while its events wait in memory for space on the disk."""

UNKNOWN_CODES = ((-1, "something new"), (-26, "a-reason-of-tomorrow"), (-32603, "internal error"), (-26, "odd-rule"))
"""Refusals that no release of a node has: they mean nothing, so they must be asked again."""


class Crash(BaseException):
    """The power went off here."""


class BusyLoop(BaseException):
    """A pass does not come to an end."""


class Rates(msgspec.Struct, frozen=True):
    """Probabilities: a failing call, a crash at a point, a chain that moves between calls, an unknown refusal.

    `upload` is that of a client that is faster: its state is stored between a decision of the tower and its commit.
    """

    rpc: float = 0.0
    crash: float = 0.0
    move: float = 0.0
    refusal: float = 0.0
    upload: float = 0.0


CALM = Rates()


class Faults:
    """Hooks for the node, the store and the failpoints.

    `move` lets the chain move, `upload` a client speak; both are set by the world.
    """

    def __init__(self) -> None:
        self.rates = CALM
        self.random = random.Random(0)
        self.counts: Counter[str] = Counter()
        self.calls = 0
        self.broken_calls = 0
        self.move: Callable[[], None] = lambda: None
        self.upload: Callable[[], None] = lambda: None
        self._moving = self._uploading = False

    def set(self, rates: Rates, source: random.Random) -> None:
        """The rates of a step."""
        self.rates, self.random = rates, source

    def off(self) -> None:
        """No more faults until the next `set`."""
        self.rates = CALM

    def begin_pass(self) -> None:
        """Count calls and moves of the cursor from here."""
        self.calls = self.broken_calls = self.moves = 0

    def before_call(self, method: str) -> None:
        """A call of the node begins: it may fail without any effect, and the chain may have moved just now."""
        self.calls += 1
        if self.calls > CALLS_PER_PASS:
            raise BusyLoop(f"{self.calls} calls in one pass, the last one {method}")
        if self.rates is CALM:
            return
        if self._happens(self.rates.move) and not self._moving:
            self._moving = True
            self.counts["chain_move"] += 1
            self.move()
            self._moving = False
        self._maybe_fail(method, "rpc_before")
        self._maybe_crash("crash_before_call")

    def after_call(self, method: str) -> None:
        """The effect of a call has happened; its answer may be lost."""
        if self.rates is CALM:
            return
        self._maybe_fail(method, "rpc_after")
        self._maybe_crash("crash_after_call")

    def refusal(self) -> Answer | None:
        """Now and then a node refuses for a reason that nobody knows."""
        if self.rates is CALM or not self._happens(self.rates.refusal):
            return None
        self.counts["unknown_refusal"] += 1
        code, text = self.random.choice(UNKNOWN_CODES)
        return refused(code, text)

    def failpoint(self, name: str) -> None:
        """A named point of the program, or a commit."""
        self.moves += name in MOVES
        if self.rates is CALM:
            return
        if name in BEFORE_A_COMMIT and not self._uploading and self._happens(self.rates.upload):
            self._uploading = True
            self.counts["upload_between"] += 1
            try:
                self.upload()
            finally:
                self._uploading = False
        if self._happens(self.rates.crash * AT_A_POINT):
            self.counts["crash"] += 1
            self.counts["crash_at_" + name] += 1
            raise Crash(name)

    def _maybe_fail(self, method: str, kind: str) -> None:
        if self._happens(self.rates.rpc / 2):
            self.counts[kind] += 1
            self.broken_calls += 1
            error = NodeError if self.random.random() < 0.2 else NodeUnavailable
            raise error(f"{method}: the connection broke")

    def _maybe_crash(self, kind: str) -> None:
        if self._happens(self.rates.crash / 4):
            self.counts["crash"] += 1
            self.counts[kind] += 1
            raise Crash(kind)

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability
