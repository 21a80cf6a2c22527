"""Last versions of streams in memory, so that a fold that is current costs no question to the database.

A version only grows, and this process is the only writer: what a commit or a read has shown stays true until the
next commit of the same stream, which is noted before its caller hears of it. After a commit whose outcome is in
doubt the streams are forgotten and read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from threading import Lock

CAPACITY = 20_000
"""Streams that are remembered, the oldest are dropped: some megabytes, and more than the folds that are kept."""


class StreamVersions:
    """Usable from any thread. `read` asks the database for the last version of a stream, 0 for an unknown one."""

    def __init__(self, read: Callable[[str], int]) -> None:
        self._read = read
        self._known: dict[str, int] = {}
        self._lock = Lock()

    def get(self, stream: str) -> int:
        """Last committed version of a stream."""
        known = self._known.get(stream)
        if known is not None:
            return known
        with self._lock:  # a commit in between notes its version behind us, and the higher one stays
            self._keep(stream, self._read(stream))
            return self._known[stream]

    def note(self, committed: Mapping[str, int]) -> None:
        """These versions were committed."""
        with self._lock:
            for stream, version in committed.items():
                self._keep(stream, version)

    def forget(self, streams: Iterable[str]) -> None:
        """Nobody knows whether these were written."""
        with self._lock:
            for stream in streams:
                self._known.pop(stream, None)

    def clear(self) -> None:
        """Nobody knows what was written last."""
        with self._lock:
            self._known.clear()

    def _keep(self, stream: str, version: int) -> None:
        self._known[stream] = max(version, self._known.get(stream, 0))
        if len(self._known) > CAPACITY:
            del self._known[next(iter(self._known))]
