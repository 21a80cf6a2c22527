"""Time and randomness of a schedule: both depend on the seed only."""

from __future__ import annotations

from hashlib import sha256

START_WALL = 1_700_000_000_000_000
BLOCK_SECONDS = 600.0


class FakeClock:
    """Implements `ports.Clock`. Monotonic time goes on with the blocks; the wall may be set to anything."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.offset = 0

    def wall_microseconds(self) -> int:
        """Unix time in microseconds as the host believes."""
        return START_WALL + self.offset + int(self.seconds * 1_000_000)

    def monotonic(self) -> float:
        """Seconds."""
        return self.seconds

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds

    def jump(self, seconds: int) -> None:
        """The wall clock is set, forwards or backwards; monotonic time does not notice."""
        self.offset = max(self.offset + seconds * 1_000_000, -START_WALL // 2)


def fake_random(size: int) -> bytes:
    """The `ports.Rng` of every schedule: always the same bytes.

    They only blind signatures. With fresh ones the same penalty would have to be signed again in every schedule.
    """
    return sha256(b"simulation").digest()[:size].ljust(size, b"\x01")
