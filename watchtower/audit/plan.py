"""Cutting a chain of commits into stretches that can be checked independently of each other."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from watchtower.store.source import Commit, LogSource, Unreadable, commit_by_halves, commit_holding, is_sane
from watchtower.store.verify import LOWEST

MOST_LOST = 1_000
"""Borders in a row that cannot be found, after which the rest is one stretch: a changed number may name any end."""

STRETCH = 32_768
"""Events of a stretch: small enough to be done within a fraction of a second, large enough for few files."""


class Stretch(msgspec.Struct, frozen=True):
    """Commits `first_no` to `last_no`; they hold events up to about `last_id`."""

    number: int
    first_no: int
    last_no: int
    last_id: int


class Plan(msgspec.Struct, frozen=True):
    """What is checked: positions `first_id` to `last_id` of the chain as it was at the start, in stretches.

    `stored` is the id of the last event at the start, read before the chain. `is_whole` if it begins with the log.
    """

    first_id: int
    last_no: int
    last_id: int
    head: bytes
    stored: int
    is_whole: bool
    stretches: tuple[Stretch, ...]

    @property
    def events(self) -> int:
        """Events that the chain has in this range."""
        return max(0, self.last_id - self.first_id + 1)


def plan(source: LogSource, first: int | None = None, tail: int | None = None, size: int = STRETCH) -> Plan:
    """Fix the end, and cut everything from position `first` (or the last `tail` events) on. Raises `StoreError`."""
    stored, start = source.last_id(), source.meta.start()
    last = _believable(source.last_commit(), stored)
    wanted = first if first is not None else start.last_id + 1 if tail is None else last.last_id - tail + 1
    begin = commit_holding(source, wanted) if wanted > start.last_id + 1 else None
    is_whole = begin is None or begin.commit_no <= start.commit_no + 1
    first_id = start.last_id + 1 if is_whole or begin is None else begin.first_id
    first_no = LOWEST if is_whole or begin is None else begin.commit_no
    stretches = tuple(_cut(source, first_no, first_id, last.commit_no, last.last_id, size))
    return Plan(first_id, last.commit_no, last.last_id, last.head, stored, is_whole, stretches)


def _believable(last: Commit, stored: int) -> Commit:
    """The end of the chain; if somebody put other values there, the end of the events, without a head."""
    if is_sane(last) or last.commit_no == 0:
        return last
    return Commit(last.commit_no, 0, 0, stored, b"", b"")


def _cut(source: LogSource, first_no: int, first_id: int, last_no: int, last_id: int, size: int) -> Iterator[Stretch]:
    number, begin, lost = 0, first_no, 0
    for wanted in range(first_id + size, last_id, size):
        border = _border(source, wanted)
        is_next = border is not None and max(begin, 1) < border[0] <= last_no
        lost = 0 if is_next else lost + 1
        if border is not None and is_next:
            yield Stretch(number, begin, border[0] - 1, border[1])
            number, begin = number + 1, border[0]
        if lost > MOST_LOST:
            break
    yield Stretch(number, begin, last_no, last_id)


def _border(source: LogSource, event_id: int) -> tuple[int, int] | None:
    """Number of the commit that holds an event, and the last id before it; None if its neighborhood is damaged."""
    try:
        held = commit_by_halves(source, event_id)
        around = source.commits(held.commit_no - 1, 2) if held is not None else []
    except Unreadable:
        return None
    if held is None or [commit.commit_no for commit in around] != [held.commit_no - 1, held.commit_no]:
        return None
    return (held.commit_no, around[0].last_id) if is_sane(around[0]) else None
