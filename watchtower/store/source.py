"""Raw reading of a log, whatever keeps it: for verification, export, copies, backups and segments.

A source hands out rows as they are stored: nothing is decoded or believed. Every call is a short transaction of its
own, so that a running tower can checkpoint. Its `address` can be sent to other processes, which open the same log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

import msgspec

from domain.log_chain import HASH_SIZE, first_head
from watchtower.ports import StoreBroken

RawRow: TypeAlias = tuple[int, str, int, str, bytes]
"""Id, stream, version, topic, state of one event. In a damaged store a value may be of any other type."""

_CHAIN_PAGE = 500
_MOST_LOST = 1_000
"""Chain rows in a row that cannot be read, after which the rest is given up."""

MAX_COMMIT = 100_000
"""Events that a commit may hold; the writer puts at most 50,000 into one."""


class Unreadable(StoreBroken):
    """The bytes asked for are damaged so that the database cannot read them as rows."""


class Border(msgspec.Struct, frozen=True):
    """Where a later segment of a log begins: its number, first event and commit, the head that its chain continues."""

    segment: int
    first_leaf: int
    first_id: int
    prev_head: bytes
    first_commit: int


class SourceMeta(msgspec.Struct, frozen=True):
    """Which log this is: its row `log_meta` without the stream key, which never leaves the store.

    A log in several segments has the row of the first one; the `borders` say where the chain begins anew.
    """

    log_id: bytes
    origin: str
    segment: int
    first_leaf: int
    first_id: int
    prev_head: bytes
    schema: int
    borders: tuple[Border, ...] = ()

    def start(self) -> Commit:
        """What stands before the first commit: no events, the head that binds the log's name."""
        head = first_head(self.origin, self.log_id, self.first_leaf, self.first_id, self.prev_head)
        return Commit(0, self.first_leaf, 0, self.first_id - 1, head, b"")

    def begin(self, border: Border, prev_head: bytes) -> bytes:
        """The head that stands before the first commit behind a border, if `prev_head` is the one before it."""
        return first_head(self.origin, self.log_id, border.first_leaf, border.first_id, prev_head)


class Commit(msgspec.Struct, frozen=True):
    """One row of the commit chain: `leaf_count` events up to id `last_id`, their leaves, the head behind them."""

    commit_no: int
    first_leaf: int
    leaf_count: int
    last_id: int
    head: bytes
    leaves: bytes

    @property
    def first_id(self) -> int:
        """Id of the first event of the commit."""
        return self.last_id - self.leaf_count + 1


class SourceAddress(Protocol):
    """Where a log is; can be pickled. Not for reports or log lines: it may hold credentials."""

    def open(self) -> LogSource:
        """Open it for reading; raises `StoreError`."""
        ...


class LogSource(Protocol):
    """Raw rows of one log. All methods raise `StoreError`; `Unreadable` if the stored bytes are damaged."""

    @property
    def address(self) -> SourceAddress:
        """Opens the same log in another process."""
        ...

    @property
    def meta(self) -> SourceMeta:
        """Which log this is."""
        ...

    def last_id(self) -> int:
        """Id of the last stored event, 0 if there is none."""
        ...

    def last_commit(self) -> Commit:
        """The last row of the commit chain; `meta.start()` if there is none."""
        ...

    def commits(self, from_no: int, limit: int) -> list[Commit]:
        """At most `limit` chain rows with numbers from `from_no` on, in order."""
        ...

    def commit_at(self, event_id: int) -> Commit | None:
        """The commit that holds an event; None behind the end of the chain. `commit_holding` does it for any source."""
        ...

    def rows(self, first_id: int, last_id: int) -> list[RawRow]:
        """The stored events with ids from `first_id` to `last_id`, in order; those that are missing are missing."""
        ...

    def differing_objects(self) -> list[str]:
        """Names of tables, triggers and rights that are not as shipped; empty if nothing differs."""
        ...

    def storage_faults(self) -> list[str]:
        """What the engine's own check of its files finds (pages, indexes). May take long; empty if it has none."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


def commit_holding(source: LogSource, event_id: int) -> Commit | None:
    """The commit that holds an event, by its numbers; None if no commit does.

    Bisects over commit numbers. Where the chain is damaged that may lead astray; then all commits are looked through.
    Raises `StoreError`.
    """
    last = source.last_commit()
    if is_sane(last) and event_id > last.last_id:
        return None
    found = commit_by_halves(source, event_id)
    if found is not None and _holds(found, event_id):
        return found
    return next((commit for commit in readable_commits(source) if _holds(commit, event_id)), None)


def commit_by_halves(source: LogSource, event_id: int) -> Commit | None:
    """As `commit_holding` in a chain that is as it was written; in a damaged one another commit, or None."""
    low, high = 1, source.last_commit().commit_no
    found: Commit | None = None
    while low <= high:
        middle = (low + high) // 2
        try:
            rows = source.commits(middle, 1)
        except Unreadable:
            return None
        if rows and not is_sane(rows[0]):
            return None
        if not rows or rows[0].last_id >= event_id:
            found, high = (rows[0] if rows else found), middle - 1
        else:
            low = middle + 1
    return found


def readable_commits(source: LogSource) -> Iterator[Commit]:
    """All chain rows that can be read and hold what a commit holds, in order. Raises `StoreError`."""
    number, last_no, lost = 1, source.last_commit().commit_no, 0
    while number <= last_no and lost < _MOST_LOST:
        try:
            page = source.commits(number, _CHAIN_PAGE if not lost else 1)
        except Unreadable:
            number, lost = number + (1 if lost else 0), lost + 1
            continue
        if not page:
            return
        lost = 0
        yield from filter(is_sane, page)
        number = page[-1].commit_no + 1


def is_sane(commit: Any) -> bool:
    """Whether the values of a chain row are such as a writer puts there, whatever they say."""
    numbers = (commit.commit_no, commit.first_leaf, commit.leaf_count, commit.last_id)
    if not all(isinstance(number, int) and 0 <= number < 1 << 62 for number in numbers):
        return False
    if not isinstance(commit.head, bytes) or not isinstance(commit.leaves, bytes) or len(commit.head) != HASH_SIZE:
        return False
    count, rest = divmod(len(commit.leaves), HASH_SIZE)
    return rest == 0 and 0 < count <= MAX_COMMIT


def _holds(commit: Commit, event_id: int) -> bool:
    count = len(commit.leaves) // HASH_SIZE
    return count == commit.leaf_count and commit.first_id <= event_id <= commit.last_id
