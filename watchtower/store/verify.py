"""Recompute the hashes of stored events and compare them with the commit chain (`domain/log_chain.py`).

Finds edited, missing, inserted and renumbered rows and names the row. It does not find a tail cut at a commit
border or a complete rewrite: those need a head that was kept outside the store. The one implementation of the check:
the start of the service uses it for the tail of its log, `watchtower audit` for stretches of any log.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import msgspec

from domain.events import TOPICS
from domain.log_chain import HASH_SIZE, leaves
from watchtower.store.chain_walk import ChainWalk, Flaw, Span
from watchtower.store.salvage import commits_of, rows_of, runs
from watchtower.store.source import Commit, LogSource, RawRow, commit_holding
from watchtower.store.sqlite_source import SqliteSource

MAX_FINDINGS = 100
"""Findings reported by name; one is enough to stop a start."""

PAGE = 5_000
"""Events that are read with one query, if no commit is larger."""

CHAIN_PAGE = 500
"""Chain rows that are read with one query."""

LOWEST = -(2**62)
"""Below every number that a row may have: rows before the first are looked for from here on."""

MOST_LOST = 1_000
"""Chain rows in a row that cannot be read, after which the rest is given up."""

Look = Callable[[Sequence[RawRow], bool], None]
"""Is shown all rows in order of ids; True if they are what was committed, False for changed ones."""


class Verification(msgspec.Struct, frozen=True):
    """What was checked: events from id `first_id` to `last_id`, the head at the end, what was found."""

    first_id: int
    last_id: int
    events: int
    head: bytes
    findings: tuple[Flaw, ...]


def verify_log(connection: sqlite3.Connection, tail: int | None = None) -> Verification:
    """Check the whole log, or the commits that cover its last `tail` events."""
    return verify_source(SqliteSource.over(connection), tail)


def verify_source(source: LogSource, tail: int | None = None) -> Verification:
    """As `verify_log`, for any source. Ends early when enough was found. Raises `StoreError`."""
    stored, last = source.last_id(), source.last_commit()
    begin = None
    if tail is not None:
        begin = commit_holding(source, max(source.meta.first_id, last.last_id - tail + 1))
    topics = _Topics()
    check = CommitCheck(source, topics)
    check.run(begin.commit_no if begin is not None else LOWEST, last.commit_no, most=MAX_FINDINGS)
    flaws = check.flaws + topics.flaws
    if len(flaws) < MAX_FINDINGS:
        flaws += uncovered(source, check.walk.end, stored)
    first_id = check.first_id or source.meta.first_id
    return Verification(first_id, check.walk.end, check.events, check.walk.head, tuple(flaws[:MAX_FINDINGS]))


def uncovered(source: LogSource, end: int, stored: int) -> list[Flaw]:
    """Events behind the end of the chain or before the first id of the log: no program of ours writes them.

    `stored` is the id of the last event, read before the chain: a log that grows meanwhile is none the worse.
    """
    flaws = []
    if stored > end:
        flaws.append(Flaw("chain_tail", end + 1, f"the commit chain ends at event {end}, the events at {stored}"))
    elif stored < end and source.last_id() < end:
        flaws.append(Flaw("chain_tail", end, f"the events end at {stored}, the commit chain at {end}: a tail was cut"))
    first_id = source.meta.first_id
    for row in source.rows(LOWEST, first_id - 1)[:MAX_FINDINGS]:
        words = f"event {row[0]} stands before the first id of the log, which is {first_id}"
        flaws.append(_flaw_of(row, "chain_tail", words))
    return flaws


class CommitCheck:
    """Checks a stretch of commits, page by page, and collects `flaws`; `look` is shown every row."""

    def __init__(self, source: LogSource, look: Look) -> None:
        self._source, self._look = source, look
        self.flaws: list[Flaw] = []
        self.walk = ChainWalk(source.meta)
        self.first_id: int | None = None
        self.events = self.commits = 0

    def run(self, first_no: int, last_no: int, most: int | None = None) -> None:
        """Check the commits with these numbers; ends early when there are `most` flaws. Raises `StoreError`."""
        self._begin_before(first_no)
        number, lost = first_no, 0
        while number <= last_no and (most is None or len(self.flaws) < most):
            found = commits_of(self._source, number, CHAIN_PAGE)
            if found is None:
                lost += 1
                number = self._lose(max(number, self.walk.number + 1), lost, last_no)
                continue
            lost = 0
            commits = [commit for commit in found if commit.commit_no <= last_no]
            for page in _pages(commits):
                self._check(page)
            number = commits[-1].commit_no + 1 if commits else last_no + 1

    def _begin_before(self, first_no: int) -> None:
        """Take the stored head before the stretch; two commits back, so that a damaged one is known as such."""
        if first_no == LOWEST:
            return
        start = self._source.meta.start()
        before = [each for each in commits_of(self._source, first_no - 2, 2) or [] if each.commit_no < first_no]
        if not before or before[0].commit_no > start.commit_no + 1:
            self.walk = ChainWalk.behind(before.pop(0) if before else None, self._source.meta, first_no - 1)
        for commit in before:
            self.walk.step(commit)

    def _lose(self, number: int, lost: int, last_no: int) -> int:
        """Note a chain row that cannot be read; returns the number to go on with."""
        self.walk.lose(number)
        place = self.walk.end + 1
        if lost > MOST_LOST:
            self.flaws.append(Flaw("chain_link", place, f"commits behind {number} cannot be read either"))
            return last_no + 1
        self.flaws.append(Flaw("chain_link", place, f"commit {number} cannot be read"))
        return number + 1

    def _check(self, commits: Sequence[Commit]) -> None:
        spans = []
        for commit in commits:
            span, flaws = self.walk.step(commit)
            self.flaws += flaws
            if span is not None:
                spans.append(span)
        if not spans:
            return
        self.first_id = self.first_id or spans[0].first_id
        self.commits += len(spans)
        self.events += sum(span.count for span in spans)
        if any(span.flaw for span in spans) or not self._is_intact(spans):
            for span in spans:
                self._search(span)

    def _is_intact(self, spans: Sequence[Span]) -> bool:
        """True if all rows of a page are there and hash to their leaves: the way that nearly every page goes."""
        first_id, last_id = spans[0].first_id, spans[-1].last_id
        if last_id - first_id + 1 != sum(span.count for span in spans):
            return False
        rows, lost = rows_of(self._source, first_id, last_id)
        if lost or [row[0] for row in rows] != list(range(first_id, last_id + 1)):
            return False
        if _leaves(rows) != b"".join([span.commit.leaves for span in spans]):
            return False
        self._look(rows, True)
        return True

    def _search(self, span: Span) -> None:
        """Find out which rows of a commit are not what was committed."""
        found, lost = rows_of(self._source, span.first_id, span.last_id)
        ids = range(span.first_id, span.last_id + 1)
        rows = {row[0]: row for row in found if row[0] in ids}  # a damaged page answers with other ids than asked for
        own = {at: _leaves([row]) for at, row in rows.items()}
        if all(own.get(at) for at in ids) and span.follows(b"".join(own[at] for at in ids)):
            changed: frozenset[int] = frozenset()
            self.flaws += span.changed_leaves([own[at] for at in ids])
            if span.commit.leaves == b"".join(own[at] for at in ids) and span.flaw is not None:
                self.flaws.append(span.flaw)
        else:
            changed = frozenset(at for at in rows if own[at] != span.leaf_of(at))
            self.flaws += [span.flaw] if span.flaw is not None else []
        self.flaws += [_flaw_of(rows[at], "leaf", _changed(rows[at])) for at in sorted(changed)]
        self.flaws += [Flaw("unreadable", at, f"{_named(at, end)} cannot be read") for at, end in runs(lost)]
        missing = sorted(set(ids) - set(rows) - set(lost))
        self.flaws += [Flaw("row_missing", at, f"{_named(at, end, True)} missing") for at, end in runs(missing)]
        for is_changed, group in groupby((rows[at] for at in sorted(rows)), key=lambda row: row[0] in changed):
            self._look(list(group), not is_changed)


class _Topics:
    """Looks whether every topic is one of ours."""

    def __init__(self) -> None:
        self.flaws: list[Flaw] = []

    def __call__(self, rows: Sequence[RawRow], intact: bool) -> None:
        if not intact:
            return
        for row in rows:
            if row[3] not in TOPICS:
                self.flaws.append(_flaw_of(row, "topic", f"event {row[0]} has the unknown topic {row[3]!r}"))


def _pages(commits: Sequence[Commit]) -> list[list[Commit]]:
    """Commits in groups of about `PAGE` events."""
    pages: list[list[Commit]] = []
    room = 0
    for commit in commits:
        leaves: object = commit.leaves
        size = len(leaves) // HASH_SIZE if isinstance(leaves, bytes) else 0
        if size > room or not pages:
            pages.append([])
            room = PAGE
        pages[-1].append(commit)
        room -= size
    return pages


def _leaves(rows: Iterable[RawRow]) -> bytes:
    """The leaves of rows behind each other; empty if one of them has a value of a type that nobody stored."""
    try:
        return leaves(rows)
    except (AttributeError, TypeError, OverflowError, IndexError, UnicodeEncodeError):
        return b""


def _changed(row: RawRow) -> str:
    return f"event {row[0]} (stream {row[1]}, version {row[2]}) was changed"


def _flaw_of(row: RawRow, check: str, sentence: str) -> Flaw:
    return Flaw(check, row[0], sentence, str(row[1]), str(row[3]))


def _named(first_id: int, last_id: int, is_or_are: bool = False) -> str:
    verb = "" if not is_or_are else " is" if first_id == last_id else " are"
    return (f"event {first_id}" if first_id == last_id else f"events {first_id} to {last_id}") + verb
