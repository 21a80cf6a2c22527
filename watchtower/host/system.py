"""The machine as the core's ports: its clocks, its random numbers, its processors."""

from __future__ import annotations

import os
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


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def system_random(size: int) -> bytes:
    """`size` bytes of the kernel's generator (`ports.Rng`)."""
    return secrets.token_bytes(size)
