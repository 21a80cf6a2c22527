"""Clocks that a test moves: one that stands still otherwise, and that of the running event loop."""

from __future__ import annotations

import asyncio


class FixedClock:
    """Implements `ports.Clock`."""

    def __init__(self, microseconds: int = 1_700_000_000_000_000) -> None:
        self.microseconds = microseconds
        self.seconds = 0.0

    def wall_microseconds(self) -> int:
        """Unix time in microseconds."""
        return self.microseconds

    def monotonic(self) -> float:
        """Seconds."""
        return self.seconds

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds
        self.microseconds += int(seconds * 1_000_000)


class LoopTime:
    """The running event loop's clock, which goes on as ever and can be put forward: what waits for a time is due then.

    So a limit can be as long as a busy machine needs, and a test of its end need not wait for it.
    """

    def __init__(self) -> None:
        self._ahead = 0.0
        loop = asyncio.get_running_loop()
        true = loop.time
        setattr(loop, "time", lambda: true() + self._ahead)  # noqa: B010 - a method cannot be assigned to

    def seconds(self) -> float:
        """What the loop's clock shows now."""
        return asyncio.get_running_loop().time()

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self._ahead += seconds
