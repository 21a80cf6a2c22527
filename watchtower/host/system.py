"""The machine as the core's ports: its clocks and its random numbers."""

from __future__ import annotations

import secrets
import time


class SystemClock:
    """Implements `ports.Clock`."""

    def wall_microseconds(self) -> int:
        """Unix time in microseconds."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic()


def system_random(size: int) -> bytes:
    """`size` bytes of the kernel's generator (`ports.Rng`)."""
    return secrets.token_bytes(size)
