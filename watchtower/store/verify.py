"""Recompute the hashes of stored events and compare them with the commit chain (`domain/log_chain.py`).

Finds edited, missing, inserted and renumbered rows and names the row. It does not find a tail cut at a commit
border or a complete rewrite: those need a head that was kept outside the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import msgspec

from domain.events import TOPICS
from domain.log_chain import HASH_SIZE, first_head, leaf, next_head

MAX_FINDINGS = 100
"""Findings reported by name; one is enough to stop a start."""

_EVENTS = (
    "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events "
    "WHERE rowid BETWEEN ? AND ? ORDER BY rowid"
)


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong: the check, the event id it concerns, a sentence."""

    check: str
    id: int
    sentence: str


class Commit(msgspec.Struct, frozen=True):
    """One row of the commit chain."""

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


class Verification(msgspec.Struct, frozen=True):
    """What was checked: events from id `first_id` to `last_id`, the head at the end, what was found."""

    first_id: int
    last_id: int
    events: int
    head: bytes
    findings: tuple[Finding, ...]


def verify_log(connection: sqlite3.Connection, tail: int | None = None) -> Verification:
    """Check the whole log, or the commits that cover its last `tail` events."""
    first_id, commits = _commits(connection, tail)
    findings: list[Finding] = []
    events, head, last_id = 0, b"", first_id - 1
    previous: Commit | None = None
    for commit in commits:
        findings += _check_link(connection, previous, commit)
        findings += _check_events(connection, commit)
        events, head, last_id = events + commit.leaf_count, commit.head, commit.last_id
        previous = commit
        if len(findings) >= MAX_FINDINGS:
            break
    stored = connection.execute("SELECT max(rowid) FROM stored_events").fetchone()[0] or 0
    if stored != last_id and len(findings) < MAX_FINDINGS:
        findings.append(Finding("chain_tail", stored, f"the commit chain ends at {last_id}, the events at {stored}"))
    return Verification(first_id, last_id, events, head, tuple(findings[:MAX_FINDINGS]))


def _commits(connection: sqlite3.Connection, tail: int | None) -> tuple[int, Iterator[Commit]]:
    last = connection.execute("SELECT max(last_id) FROM commit_chain").fetchone()[0] or 0
    start = 1 if tail is None else max(1, last - tail + 1)
    number = connection.execute(
        "SELECT coalesce(min(commit_no), 1) FROM (SELECT commit_no FROM commit_chain WHERE last_id >= ?)", (start,)
    ).fetchone()[0]
    row = connection.execute(
        "SELECT last_id - leaf_count + 1 FROM commit_chain WHERE commit_no = ?", (number,)
    ).fetchone()
    return (row[0] if row else 1), _pages(connection, number)


def _pages(connection: sqlite3.Connection, number: int) -> Iterator[Commit]:
    """Chain rows from a commit number on, in pages: a long cursor would stop checkpoints."""
    while True:
        rows = connection.execute(
            "SELECT commit_no, first_leaf, leaf_count, last_id, head, leaves FROM commit_chain "
            "WHERE commit_no >= ? ORDER BY commit_no LIMIT 500",
            (number,),
        ).fetchall()
        if not rows:
            return
        for row in rows:
            yield Commit(*row)
        number = rows[-1][0] + 1


def _check_link(connection: sqlite3.Connection, previous: Commit | None, commit: Commit) -> list[Finding]:
    before = previous or _predecessor(connection, commit)
    fits = (
        before.commit_no == commit.commit_no - 1
        and before.last_id == commit.first_id - 1
        and before.first_leaf + before.leaf_count == commit.first_leaf
        and len(commit.leaves) == HASH_SIZE * commit.leaf_count
        and next_head(before.head, commit.first_leaf, commit.first_id, commit.leaves) == commit.head
    )
    if fits:
        return []
    return [Finding("chain_link", commit.first_id, f"commit {commit.commit_no} does not follow its predecessor")]


def _predecessor(connection: sqlite3.Connection, commit: Commit) -> Commit:
    row = connection.execute(
        "SELECT commit_no, first_leaf, leaf_count, last_id, head, leaves FROM commit_chain WHERE commit_no = ?",
        (commit.commit_no - 1,),
    ).fetchone()
    if row is not None:
        return Commit(*row)
    origin, log_id, first_leaf, first_id, prev_head = connection.execute(
        "SELECT origin, log_id, first_leaf, first_id, prev_head FROM log_meta"
    ).fetchone()
    return Commit(0, first_leaf, 0, first_id - 1, first_head(origin, log_id, first_leaf, first_id, prev_head), b"")


def _check_events(connection: sqlite3.Connection, commit: Commit) -> list[Finding]:
    rows = {row[0]: row for row in connection.execute(_EVENTS, (commit.first_id, commit.last_id))}
    findings = []
    for index in range(commit.leaf_count):
        event_id = commit.first_id + index
        row = rows.get(event_id)
        if row is None:
            findings.append(Finding("row_missing", event_id, f"event {event_id} is missing"))
            continue
        expected = commit.leaves[HASH_SIZE * index : HASH_SIZE * (index + 1)]
        if not _matches(row, expected):
            findings.append(Finding("leaf", event_id, f"event {event_id} (stream {row[1]}) was changed"))
        elif row[3] not in TOPICS:
            findings.append(Finding("topic", event_id, f"event {event_id} has the unknown topic {row[3]!r}"))
    return findings


def _matches(row: tuple[int, object, object, object, object], expected: bytes) -> bool:
    _, stream, version, topic, state = row
    if not isinstance(stream, str) or not isinstance(version, int) or not 0 <= version < 1 << 64:
        return False
    if not isinstance(topic, str) or not isinstance(state, bytes) or len(stream.encode()) > 255:
        return False
    return leaf(stream, version, topic, state) == expected
