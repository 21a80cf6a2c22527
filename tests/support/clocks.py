"""A clock that stands still unless a test moves it."""

from __future__ import annotations


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
