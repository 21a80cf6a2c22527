"""The watch index in memory: is this outpoint watched, and by which channels?

A dictionary of 36-byte outpoints. Nearly all have one channel; only shared ones pay for a tuple. The scanner asks
the set of its keys instead: a set finds that an outpoint is unknown in one cache miss, a dictionary in two. Before
that it asks the sieve, which fits into the cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from projections.tables import Change, Row
from projections.watch_index import TABLE

SIEVE_SIZE = 1 << 22
"""Bytes, a power of two. With a million outpoints one unknown outpoint in five passes, with ten thousand hardly any."""


class WatchSet:
    """Filled from the `watch_index` view and kept equal to it. Written by one thread, read by any."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._streams: dict[bytes, str | tuple[str, ...]] = {}
        self._outpoints: set[bytes] = set()
        self._sieve = bytearray(SIEVE_SIZE)
        self._rows = 0
        self.load(rows)

    def __len__(self) -> int:
        """Rows of the view: an outpoint counts once for each of its channels."""
        return self._rows

    def __contains__(self, outpoint: object) -> bool:
        return outpoint in self._outpoints

    @property
    def outpoints(self) -> Set[bytes]:
        """All outpoints, kept up to date; for reading only."""
        return self._outpoints

    @property
    def sieve(self) -> bytearray:
        """Not 0 at the place of each outpoint: its first four bytes as a little-endian number, modulo the length.

        A place stays marked when its outpoint is removed, because others may share it. For reading only.
        """
        return self._sieve

    def get(self, outpoint: bytes) -> str | None:
        """The channel of an outpoint (the first of several), or None."""
        found = self._streams.get(outpoint)
        return found[0] if isinstance(found, tuple) else found

    def streams(self, outpoint: bytes) -> tuple[str, ...]:
        """All channels of an outpoint."""
        found = self._streams.get(outpoint)
        if found is None:
            return ()
        return found if isinstance(found, tuple) else (found,)

    def marked(self, outpoint: bytes) -> bytearray:
        """A copy of the sieve that lets one more outpoint pass: as if it were watched, for a test of the scanner."""
        sieve = bytearray(self._sieve)
        _mark(sieve, outpoint)
        return sieve

    def load(self, rows: Iterable[Row]) -> None:
        """Add rows of the view."""
        for outpoint, stream, _ in rows:
            assert isinstance(outpoint, bytes)
            assert isinstance(stream, str)
            self._add(outpoint, stream)

    def apply(self, changes: Iterable[Change]) -> None:
        """Follow changes of the view; changes of other tables are passed over."""
        for change in changes:
            if change.table != TABLE.name:
                continue
            outpoint, stream = change.key
            assert isinstance(outpoint, bytes)
            assert isinstance(stream, str)
            if change.row is None:
                self._remove(outpoint, stream)
            else:
                self._add(outpoint, stream)

    def _add(self, outpoint: bytes, stream: str) -> None:
        known = self.streams(outpoint)
        # First, so that the scanner, in whatever thread, never finds an outpoint in the set that the sieve holds back.
        _mark(self._sieve, outpoint)
        if stream not in known:
            self._streams[outpoint] = tuple(sorted((*known, stream))) if known else stream
            self._outpoints.add(outpoint)
            self._rows += 1

    def _remove(self, outpoint: bytes, stream: str) -> None:
        known = self.streams(outpoint)
        left = tuple(each for each in known if each != stream)
        self._rows -= len(known) - len(left)
        if not left:
            self._outpoints.discard(outpoint)
            self._streams.pop(outpoint, None)
        else:
            self._streams[outpoint] = left[0] if len(left) == 1 else left


def _mark(sieve: bytearray, outpoint: bytes) -> None:
    sieve[int.from_bytes(outpoint[:4], "little") % SIEVE_SIZE] = 1
