"""Reading the events of a log for an export: every one is compared with its leaf on the way."""

from __future__ import annotations

from collections.abc import Iterator

from domain.log_chain import HASH_SIZE, entry
from watchtower.ports import StoreError
from watchtower.store.chain_walk import ChainWalk
from watchtower.store.exports.rows import entry_leaf
from watchtower.store.source import Commit, LogSource, RawRow, is_sane

PAGE = 5_000
"""Events per read of the source: short transactions, so that a running tower can checkpoint."""

CHAIN_PAGE = 500
"""Chain rows per read of the source."""


class LogDamaged(StoreError):
    """The source itself is damaged at event `position`; `stream` and `topic` as stored, empty if unknown."""

    slug = "log-damaged"

    def __init__(self, position: int, sentence: str, stream: str = "", topic: str = "") -> None:
        super().__init__(f"{sentence}; run `watchtower audit verify` and restore the log from a backup")
        self.position, self.stream, self.topic = position, stream, topic


def head_before(source: LogSource, commit: Commit) -> bytes:
    """The head that a commit builds on."""
    before = [row for row in source.commits(commit.commit_no - 1, 1) if row.commit_no == commit.commit_no - 1]
    return before[0].head if before else source.meta.start().head


def checked_events(source: LogSource, first: int, last: int) -> Iterator[tuple[bytes, bytes]]:
    """Entry and state of each event, after its leaf was found to be that of the commit chain."""
    for commits in _chunks(source, first):
        begin, end = max(first, commits[0].first_id), min(last, commits[-1].last_id)
        if begin > last:
            return
        leaves = b"".join(commit.leaves for commit in commits)
        rows = source.rows(begin, end)
        for place, row in enumerate(rows):
            at = (begin + place - commits[0].first_id) * HASH_SIZE
            yield _checked(row, begin + place, leaves[at : at + HASH_SIZE])
        if len(rows) != end - begin + 1:
            raise LogDamaged(begin + len(rows), f"event {begin + len(rows)} is missing")


def checked_commits(source: LogSource, first: int, last: int) -> Iterator[Commit]:
    """The chain rows with these numbers, after each was found to follow from the one before it."""
    before = [row for row in source.commits(first - 1, 1) if row.commit_no == first - 1]
    walk = ChainWalk.behind(before[0], source.meta, first - 1) if before else ChainWalk(source.meta)
    number = first
    while number <= last:
        page = source.commits(number, min(CHAIN_PAGE, last - number + 1))
        for commit in page:
            at = walk.end + 1
            span, flaws = walk.step(commit)
            flaws += [span.flaw] if span is not None and span.flaw is not None else []
            if flaws:
                raise LogDamaged(at, flaws[0].sentence)
            yield commit
        if not page:
            raise LogDamaged(walk.end + 1, f"commit {number} is missing")
        number += len(page)


def _checked(row: RawRow, position: int, leaf: bytes) -> tuple[bytes, bytes]:
    number, stream, version, topic, state = row
    if number != position:
        raise LogDamaged(position, f"event {position} is missing")
    try:
        made = entry(stream, version, topic, state)
    except (TypeError, ValueError, AttributeError, OverflowError):  # another type, no UTF-8, beyond 64 bits
        raise LogDamaged(position, f"event {position} was changed") from None
    if entry_leaf(made) != leaf:
        raise LogDamaged(position, f"event {position} (stream {stream}) was changed", stream, topic)
    return made, state


def _chunks(source: LogSource, first: int) -> Iterator[list[Commit]]:
    """Commits from the one that holds event `first` on, together some thousand events, in order and without gaps."""
    at = source.commit_at(first)
    number = at.commit_no if at is not None else 0
    chunk: list[Commit] = []
    while page := source.commits(number, CHAIN_PAGE):
        for commit in page:
            if commit.commit_no != number or not is_sane(commit) or len(commit.leaves) != HASH_SIZE * commit.leaf_count:
                at_least = chunk[-1].last_id + 1 if chunk else first
                raise LogDamaged(at_least, f"commit {number} is missing or was changed")
            number += 1
            chunk.append(commit)
            if chunk[-1].last_id - chunk[0].first_id + 1 >= PAGE:
                yield chunk
                chunk = []
    if chunk:
        yield chunk
