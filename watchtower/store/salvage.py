"""Reading what can be read of a store with damaged pages, and naming what cannot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from watchtower.store.source import Commit, LogSource, RawRow, Unreadable


def rows_of(source: LogSource, first_id: int, last_id: int) -> tuple[list[RawRow], list[int]]:
    """The rows with these ids that can be read, and the ids of those that cannot. Raises `StoreError`."""
    try:
        return source.rows(first_id, last_id), []
    except Unreadable:
        if first_id == last_id:
            return [], [first_id]
    middle = (first_id + last_id) // 2
    rows, lost = rows_of(source, first_id, middle)
    more, also_lost = rows_of(source, middle + 1, last_id)
    return rows + more, lost + also_lost


def commits_of(source: LogSource, number: int, limit: int) -> list[Commit] | None:
    """Chain rows from this number on, fewer if one of them cannot be read; None if it is the first of them."""
    try:
        return source.commits(number, limit)
    except Unreadable:
        pass
    try:
        return source.commits(number, 1)
    except Unreadable:
        return None


def runs(ids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of numbers that follow each other."""
    rest = iter(ids)
    start = next(rest, None)
    while start is not None:
        end, following = start, next(rest, None)
        while following == end + 1:
            end, following = following, next(rest, None)
        yield start, end
        start = following
