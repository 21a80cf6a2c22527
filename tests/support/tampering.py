"""Logs that somebody with all rights to the database has changed: what was done, and what an audit has to say."""

from __future__ import annotations

import io
import random
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Protocol

import msgspec

from domain.events import AlertCleared, AlertKind, encode_payload
from domain.log_chain import HASH_SIZE, leaf, next_head
from tests.support.stores import new_log
from watchtower.audit.findings import ExitCode, Report
from watchtower.audit.progress import Progress
from watchtower.audit.resume import Notebook
from watchtower.audit.verify import Audit, ViewsCheck, Wish
from watchtower.store.source import Commit, LogSource, RawRow, SourceMeta
from watchtower.store.sqlite_source import SqliteSource

STREAMS = tuple(f"c{letter * 22}" for letter in "ABC")


class Content(msgspec.Struct, frozen=True):
    """Everything that a log holds."""

    rows: tuple[RawRow, ...]
    commits: tuple[Commit, ...]

    def row(self, event_id: int) -> RawRow:
        """The event with this id."""
        return next(row for row in self.rows if row[0] == event_id)

    def with_row(self, event_id: int, *changed: RawRow) -> Content:
        """With other rows (or none) in the place of one."""
        kept = [row for row in self.rows if row[0] != event_id]
        return Content(tuple(sorted([*kept, *changed])), self.commits)

    def with_commit(self, number: int, *changed: Commit) -> Content:
        """With other chain rows (or none) in the place of one."""
        kept = [commit for commit in self.commits if commit.commit_no != number]
        commits = sorted([*kept, *changed], key=lambda commit: commit.commit_no)
        return Content(self.rows, tuple(commits))


class Victim(Protocol):
    """A log in some database, and the rights to change everything in it."""

    def source(self) -> LogSource:
        """Open it as an auditor does."""
        ...

    def replace(self, content: Content) -> None:
        """Put another content in place, with all guards on again afterwards."""
        ...


def content_of(source: LogSource) -> Content:
    """Everything that a log holds."""
    return Content(tuple(source.rows(0, source.last_id())), tuple(source.commits(0, 1_000)))


def state(height: int, recorded_at: int = 1) -> bytes:
    """The bytes of a small event."""
    return encode_payload(AlertCleared(recorded_at=recorded_at, kind=AlertKind.SELF_BREACH, height=height))


def row(event_id: int, stream: str, version: int, stored: bytes) -> RawRow:
    """A small event in its place."""
    return (event_id, stream, version, AlertCleared.TOPIC, stored)


def chained(meta: SourceMeta, rows: Sequence[RawRow], sizes: Sequence[int]) -> Content:
    """Rows with the chain that belongs to them; `sizes` are the numbers of events per commit."""
    before, commits = meta.start(), []
    rest = list(rows)
    for size in sizes:
        batch, rest = rest[:size], rest[size:]
        leaves = b"".join(leaf(*each[1:]) for each in batch)
        first_leaf = before.first_leaf + before.leaf_count
        head = next_head(before.head, first_leaf, before.last_id + 1, leaves)
        before = Commit(before.commit_no + 1, first_leaf, size, before.last_id + size, head, leaves)
        commits.append(before)
    return Content(tuple(rows), tuple(commits))


def grown(source: LogSource, chance: random.Random, commits: int = 12, *, seed: int = 0) -> Content:
    """The content of a new log after `commits` commits of 1 to 5 events of three channels."""
    opened = source.rows(1, 1)
    rows, versions, sizes = list(opened), dict.fromkeys(STREAMS, 0), [1]
    for _ in range(commits):
        sizes.append(chance.randint(1, 5))
        for _ in range(sizes[-1]):
            stream = chance.choice(STREAMS)
            versions[stream] += 1
            rows.append(row(len(rows) + 1, stream, versions[stream], state(1_000 * seed + len(rows))))
    return chained(source.meta, rows, sizes)


class Expected(msgspec.Struct, frozen=True):
    """What an audit has to find: the exit code, and positions that it has to name."""

    code: ExitCode
    named: frozenset[int] = frozenset()


Tamper = Callable[[Content, random.Random], tuple[Content, Expected]]


def flip(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """One bit of one state."""
    event_id, stream, version, topic, stored = chance.choice(content.rows)
    changed = bytearray(stored)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return content.with_row(event_id, (event_id, stream, version, topic, bytes(changed))), _changed(event_id)


def rename(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """An event is given to another stream."""
    event_id, _, version, topic, stored = chance.choice(content.rows)
    return content.with_row(event_id, (event_id, f"c{'Z' * 22}", version, topic, stored)), _changed(event_id)


def retopic(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """An event becomes one of another kind."""
    event_id, stream, version, _, stored = chance.choice(content.rows)
    return content.with_row(event_id, (event_id, stream, version, "re05", stored)), _changed(event_id)


def reversion(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """An event gets another version."""
    event_id, stream, version, topic, stored = chance.choice(content.rows)
    return content.with_row(event_id, (event_id, stream, version + 1_000, topic, stored)), _changed(event_id)


def drop(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """An event in the middle is removed."""
    event_id = chance.choice(content.rows[1:-1])[0]
    return content.with_row(event_id), Expected(ExitCode.ORDER, frozenset({event_id}))


def swap(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """Two events change places."""
    first, second = chance.sample(content.rows[1:], 2)
    swapped = content.with_row(first[0], (first[0], *second[1:])).with_row(second[0], (second[0], *first[1:]))
    return swapped, _changed(first[0], second[0])


def insert(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """An event is put between others, which move up by one."""
    place = chance.choice(content.rows[1:])[0]
    before = [each for each in content.rows if each[0] < place]
    behind = [(each[0] + 1, *each[1:]) for each in content.rows if each[0] >= place]
    added = row(place, f"c{'Y' * 22}", 1, state(99))
    return Content((*before, added, *behind), content.commits), _changed(place)


def append(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """An event is put behind the last one, without the chain."""
    event_id = content.rows[-1][0] + 1
    added = row(event_id, f"c{'Y' * 22}", 1, state(chance.randrange(99)))
    return Content((*content.rows, added), content.commits), _changed(event_id)


def renumber(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """An event gets an id far behind the others."""
    moved = chance.choice(content.rows[1:])
    return content.with_row(moved[0], (moved[0] + 10_000, *moved[1:])), _changed(moved[0])


def before_the_first(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """An event with an id below the first one."""
    event_id = -chance.randrange(1, 1_000)
    return Content((row(event_id, STREAMS[0], 5_000, state(1)), *content.rows), content.commits), _changed(event_id)


def cut_inside(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """The last event is cut off, its commit stays."""
    event_id = content.rows[-1][0]
    return content.with_row(event_id), _changed(event_id)


def change_head(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """The head of a commit is changed; only that commit is named."""
    commit = chance.choice(content.commits)
    changed = msgspec.structs.replace(commit, head=_flipped(commit.head, chance))
    return content.with_commit(commit.commit_no, changed), _changed(commit.first_id)


def change_leaf(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """A stored leaf is changed; the event beside it is named as unchanged."""
    commit = chance.choice(content.commits)
    place = chance.randrange(commit.leaf_count)
    leaves = [commit.leaves[HASH_SIZE * at : HASH_SIZE * (at + 1)] for at in range(commit.leaf_count)]
    leaves[place] = _flipped(leaves[place], chance)
    changed = msgspec.structs.replace(commit, leaves=b"".join(leaves))
    return content.with_commit(commit.commit_no, changed), _changed(commit.first_id + place)


def change_number(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """A number in a chain row is changed."""
    commit = chance.choice(content.commits)
    field = chance.choice(["first_leaf", "leaf_count", "last_id"])
    changed = msgspec.structs.replace(commit, **{field: getattr(commit, field) + chance.choice([1, 7, 10**6])})
    return content.with_commit(commit.commit_no, changed), _changed(commit.first_id)


def drop_commit(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """A chain row in the middle is removed."""
    commit = chance.choice(content.commits[1:-1])
    return content.with_commit(commit.commit_no), Expected(ExitCode.ORDER, frozenset({commit.first_id}))


def reorder(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """Two neighboring commits change places, events and all."""
    first = chance.choice(content.commits[1:-1])
    second = next(commit for commit in content.commits if commit.commit_no == first.commit_no + 1)
    rows = list(content.rows)
    early = [each for each in rows if first.first_id <= each[0] <= first.last_id]
    late = [each for each in rows if second.first_id <= each[0] <= second.last_id]
    moved = [(first.first_id + at, *each[1:]) for at, each in enumerate([*late, *early])]
    start = rows.index(early[0])
    rows[start : start + len(moved)] = moved
    middle = first.first_id + len(late)
    now_first = Commit(first.commit_no, first.first_leaf, len(late), middle - 1, second.head, second.leaves)
    now_second = Commit(
        second.commit_no, first.first_leaf + len(late), len(early), second.last_id, first.head, first.leaves
    )
    changed = content.with_commit(first.commit_no, now_first).with_commit(second.commit_no, now_second)
    return Content(tuple(rows), changed.commits), _changed(first.first_id)


def edit_with_leaf(content: Content, chance: random.Random) -> tuple[Content, Expected]:
    """An event and its leaf are changed together, but no head."""
    commit = chance.choice(content.commits)
    event_id = chance.randint(commit.first_id, commit.last_id)
    _, stream, version, topic, _ = content.row(event_id)
    changed = content.with_row(event_id, (event_id, stream, version, topic, state(424_242)))
    leaves = b"".join(leaf(*each[1:]) for each in changed.rows if commit.first_id <= each[0] <= commit.last_id)
    edited = msgspec.structs.replace(commit, leaves=leaves)
    return changed.with_commit(commit.commit_no, edited), _changed(commit.first_id)


TAMPERINGS: tuple[Tamper, ...] = (
    flip,
    rename,
    retopic,
    reversion,
    drop,
    swap,
    insert,
    append,
    renumber,
    before_the_first,
    cut_inside,
    change_head,
    change_leaf,
    change_number,
    drop_commit,
    reorder,
    edit_with_leaf,
)


def _changed(*ids: int) -> Expected:
    return Expected(ExitCode.INTEGRITY, frozenset(ids))


def _flipped(value: bytes, chance: random.Random) -> bytes:
    changed = bytearray(value)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


class SqliteVictim:
    """A log file that was edited with another program."""

    def __init__(self, directory: Path) -> None:
        self.path = new_log(directory)

    def source(self) -> SqliteSource:
        """Open it as an auditor does."""
        return SqliteSource(self.path)

    def replace(self, content: Content) -> None:
        """Put another content in place, with all guards on again afterwards."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")
        guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        connection.execute("BEGIN")
        for name, _ in guards:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("DELETE FROM stored_events")
        connection.execute("DELETE FROM commit_chain")
        connection.executemany("INSERT INTO stored_events VALUES (?, ?, ?, ?, ?)", content.rows)
        commits = [msgspec.structs.astuple(commit) for commit in content.commits]
        connection.executemany("INSERT INTO commit_chain VALUES (?, ?, ?, ?, ?, ?)", commits)
        connection.execute("UPDATE sqlite_sequence SET seq = ?", (content.rows[-1][0],))
        for _, text in guards:
            connection.execute(text)
        connection.execute("COMMIT")
        connection.close()


def audit(source: LogSource, scratch: Path, views: ViewsCheck | None = None, **wish: object) -> Report:
    """The report of `audit verify` in this process; `wish` are fields of `Wish`."""
    scratch.mkdir(exist_ok=True)
    notebook = Notebook(None, scratch, monotonic)
    progress = Progress("none", open_nowhere(), monotonic)
    return Audit(source, Wish(**wish), notebook, progress, threading.Event(), views).run()  # type: ignore[arg-type]


def open_nowhere() -> io.StringIO:
    """A stream that nobody reads."""
    return io.StringIO()


def grown_victim(directory: Path) -> SqliteVictim:
    """A log of seven commits."""
    made = SqliteVictim(directory)
    with made.source() as source:
        honest = grown(source, random.Random(2), commits=6)
    made.replace(honest)
    return made
