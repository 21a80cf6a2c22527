"""One process per log: an advisory lock on `<file>.lock` that the system releases when the process ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from watchtower.ports import StoreLocked


class InstanceLock:
    """Held from construction until `release`; a second holder gets `StoreLocked` at once."""

    def __init__(self, store_path: Path) -> None:
        self.path = store_path.with_name(store_path.name + ".lock")
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            self._fd = -1
            raise StoreLocked(
                f"another instance (pid {holder}) holds {store_path}; stop it first, one process serves one store"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back; the file stays, because deleting it would race with the next holder."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
