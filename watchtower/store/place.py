"""Where an event stands in the log: its position, its leaf and the head after the commit that holds it.

A receipt is signed right after its commit, so recent commits are remembered; an older one is searched for by halves,
because commit numbers and event ids grow together.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from itertools import islice
from operator import attrgetter

import msgspec

from domain.log_chain import HASH_SIZE
from watchtower.ports import Place

RECENT_LEAVES = 16_384
"""Leaves of commits kept in memory, 0.5 MB; the newest commit is kept however large it is."""


NEWEST = 32
"""Commits that are looked at first, one by one: a receipt is signed within a few commits."""


class CommitRow(msgspec.Struct, frozen=True):
    """What a row of the commit chain says: id of its last event, head after it, leaf hashes of its events."""

    last_id: int
    head: bytes
    leaves: bytes

    @property
    def first_id(self) -> int:
        """Id of its first event."""
        return self.last_id - len(self.leaves) // HASH_SIZE + 1

    def place(self, event_id: int) -> Place | None:
        """The place of an event, None if it does not belong to this commit."""
        if not self.first_id <= event_id <= self.last_id:
            return None
        start = HASH_SIZE * (event_id - self.first_id)
        return Place(event_id, self.leaves[start : start + HASH_SIZE], self.head)


first_id_of = attrgetter("first_id")


class RecentCommits:
    """The newest commits of this process. Noted by the writer, asked by any thread."""

    def __init__(self) -> None:
        self._rows: deque[CommitRow] = deque()
        self._leaves = 0
        self._mutex = threading.Lock()

    def note(self, row: CommitRow) -> None:
        """Remember a commit that is durable now."""
        with self._mutex:
            self._rows.append(row)
            self._leaves += len(row.leaves) // HASH_SIZE
            while len(self._rows) > 1 and self._leaves > RECENT_LEAVES:
                self._leaves -= len(self._rows.popleft().leaves) // HASH_SIZE

    def newest(self) -> CommitRow | None:
        """The last commit, None before the first."""
        with self._mutex:
            return self._rows[-1] if self._rows else None

    def place(self, event_id: int) -> Place | None:
        """The place of an event of a remembered commit."""
        with self._mutex:
            if not self._rows or event_id < self._rows[0].first_id:
                return None
            for row in islice(reversed(self._rows), NEWEST):
                if event_id >= row.first_id:
                    return row.place(event_id)
            rows = tuple(self._rows)  # the writer must not wait for the rest of the search
        return rows[bisect_right(rows, event_id, key=first_id_of) - 1].place(event_id)


def find_commit(read: Callable[[int], CommitRow | None], newest: int, event_id: int) -> CommitRow | None:
    """The commit that holds an event, with O(log n) calls of `read` (commit number from 1 → its row)."""
    low, high = 1, newest
    while low <= high:
        middle = (low + high) // 2
        row = read(middle)
        if row is None:
            return None
        if event_id > row.last_id:
            low = middle + 1
        elif event_id < row.first_id:
            high = middle - 1
        else:
            return row
    return None
