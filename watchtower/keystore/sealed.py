"""The sealed secrets of a keystore in memory, by name: about 110 bytes for each, where a dictionary takes 480.

A tower with a million channels has two million of them. Names and sealed bytes stand one behind the other, in the order
of their lines; a sorted array of numbers leads from a name to its place.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator

NAME_SIZE = 32
_PREFIX = 4
"""Bytes of a name in the array. Names are hashes: few share so many."""


class SealedSecrets:
    """Filled by `append` and then `sort`, or by `add`. Positions are those of lines, from 1 on."""

    def __init__(self) -> None:
        self._names = bytearray()
        self._sealed = bytearray()
        self._ends = array("Q")
        self._index = array("Q")

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[bytes]:
        """The names in the order of their lines."""
        return (self._name(place) for place in range(len(self)))

    def append(self, name: bytes, sealed: bytes) -> None:
        """One more line; found only after `sort`."""
        self._names += name
        self._sealed += sealed
        self._ends.append(len(self._sealed))

    def sort(self) -> int:
        """Make everything that was appended findable. Returns the position of a name that was there before, else 0."""
        names = self._names
        self._index = array("Q", sorted(_key(names, place) for place in range(len(self))))
        doubled = 0
        for first, second in zip(self._index, self._index[1:], strict=False):
            if first >> 32 == second >> 32 and self._is_doubled(second & 0xFFFFFFFF):
                doubled = max(doubled, (second & 0xFFFFFFFF) + 1)
        return doubled

    def add(self, name: bytes, sealed: bytes) -> None:
        """One more line, findable at once."""
        self.append(name, sealed)
        insort(self._index, _key(self._names, len(self) - 1))

    def get(self, name: bytes) -> tuple[int, bytes] | None:
        """Position and sealed bytes of a name, or None."""
        if len(name) != NAME_SIZE:
            return None
        place = self._find(name)
        return None if place is None else (place + 1, self._at(place))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Names and sealed bytes in the order of their lines."""
        return ((self._name(place), self._at(place)) for place in range(len(self)))

    def _find(self, name: bytes) -> int | None:
        """The first place of a name."""
        prefix = int.from_bytes(name[:_PREFIX], "big")
        at = bisect_left(self._index, prefix << 32)
        while at < len(self._index) and self._index[at] >> 32 == prefix:
            place = self._index[at] & 0xFFFFFFFF
            if self._name(place) == name:
                return place
            at += 1
        return None

    def _is_doubled(self, place: int) -> bool:
        return self._find(self._name(place)) != place

    def _name(self, place: int) -> bytes:
        return bytes(self._names[place * NAME_SIZE : (place + 1) * NAME_SIZE])

    def _at(self, place: int) -> bytes:
        start = self._ends[place - 1] if place else 0
        return bytes(self._sealed[start : self._ends[place]])


def _key(names: bytearray, place: int) -> int:
    start = place * NAME_SIZE
    return int.from_bytes(names[start : start + _PREFIX], "big") << 32 | place
