"""Free space: a warning while there is time, and a reserve for the blocks in which a breach is answered.

The reserve is a file that nobody reads. It is given up when the log finds no space, and made again when there is
plenty; what clients send does not get it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)

MEGABYTE = 1 << 20


class Disk:
    """Looks after the disk of a directory. `look` is called every second, `release` by whoever has no space."""

    def __init__(
        self,
        directory: Path,
        *,
        low: int,
        reserve: int,
        alarm: Callable[[str, str], object],
        clear: Callable[[str], object],
        held: Callable[[], int],
    ) -> None:
        """Below `low` free bytes `disk_low` holds; `reserve` bytes are kept (0: none); `held` events wait for space."""
        self._directory = directory
        self._low, self._size = low, reserve
        self._alarm, self._clear, self._held = alarm, clear, held
        self._reserve = directory / "reserve"

    def look(self) -> None:
        """Set or clear `disk_low`; make the reserve if there is plenty of space."""
        free = shutil.disk_usage(self._directory).free
        waiting = self._held()
        if waiting:
            self._alarm("disk_low", f"{waiting} events wait in memory for space")
        elif free < self._low:
            self._alarm("disk_low", f"{free // MEGABYTE} MB are free")
        else:
            self._clear("disk_low")
            self._make_reserve(free)

    def release(self) -> bool:
        """Give up the reserve; False if there is none."""
        try:
            self._reserve.unlink()
        except OSError:  # there is none, or the whole file system takes no changes
            return False
        _log.error("reserve_released", bytes=self._size)
        return True

    def _make_reserve(self, free: int) -> None:
        if not self._size or self._reserve.exists() or free < self._low + 2 * self._size:
            return
        building = self._reserve.with_name("reserve.new")
        # A disk that takes no reserve is no reason to stop watching; the next look tries again.
        try:
            with open(building, "wb", opener=_private) as file:
                os.posix_fallocate(file.fileno(), 0, self._size)
            building.rename(self._reserve)
        except OSError:
            with suppress(OSError):
                building.unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
