"""Copying a log into another database, with its ids, commits, heads and stream key, and the proof that both are equal.

A copy is no log until it is complete: a file has another name until then, a database lacks the row that names the log.
So an interrupted copy can be continued, and no tower starts on half of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from domain.log_chain import HASH_SIZE, leaf, next_head
from watchtower.host.durable import sync_path
from watchtower.ports import StoreError
from watchtower.store.checks import read_meta
from watchtower.store.datastore import connect
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.local_copy import PAGE_COMMITS, LocalCopy, pages
from watchtower.store.lock import InstanceLock
from watchtower.store.recorders import LogMeta
from watchtower.store.source import Commit, LogSource, RawRow
from watchtower.store.sqlite_source import SqliteSource

UNFINISHED = ".copying"
"""What is put behind the name of a file until the copy in it is complete."""

Progress = Callable[[int], None]
"""Receives the position that was reached."""


class SourceDamaged(StoreError):
    """The log that was to be copied is not what was committed; the text names the event."""


class CopyDiffers(StoreError):
    """The copy is not equal to its source."""


class Target(Protocol):
    """A copy that is being made. All methods raise `StoreError`."""

    @property
    def last(self) -> Commit:
        """Where the copy ends now; the place before the first commit if it is empty."""

    def add(self, commits: Sequence[Commit], rows: Sequence[RawRow]) -> None:
        """Write commits that follow the last one, with all their events, in one transaction."""

    def source(self) -> LogSource:
        """Read the copy back; whoever asks closes it."""

    def finish(self) -> None:
        """Make the copy a log."""

    def close(self) -> None:
        """Close all connections."""


class End(Protocol):
    """A place that a log is copied from or to."""

    @property
    def name(self) -> str:
        """For people; holds no password."""

    def held(self) -> AbstractContextManager[None]:
        """No tower serves this log meanwhile; raises `StoreLocked` if one does."""

    def meta(self) -> LogMeta:
        """The log's row, with the stream key."""

    def source(self) -> LogSource:
        """Read the log; whoever asks closes it."""

    def target(self, meta: LogMeta, source: LogSource) -> Target:
        """Begin a copy of `source`, or go on with one; raises `StoreError` if something else is there."""


class Copied(msgspec.Struct, frozen=True):
    """What source and copy have in common: the log, the number of commits and events, the head behind them."""

    log_id: bytes
    origin: str
    commits: int
    events: int
    head: bytes


def copy_log(origin: End, destination: End, begin: Callable[[str, int, int], None], show: Progress) -> Copied:
    """Copy everything up to the present end of the log, prove that both are equal, and make the copy a log.

    `begin` is told each stage with its number of positions and how many were done before. Raises `StoreError`;
    `SourceDamaged` and `CopyDiffers` leave the unfinished copy behind.
    """
    meta = origin.meta()
    if meta.segment != 0:
        raise StoreCheckFailed("segment", "the log has closed segments; only a log in one piece can be copied")
    with closing(origin.source()) as source, destination.held():
        until = source.last_commit()
        with closing(destination.target(meta, source)) as target:
            begin("copy", until.last_id, target.last.last_id)
            _copy(source, target, until, show)
            begin("compare", until.last_id, 0)
            with closing(target.source()) as copy:
                copied = prove_equal(source, copy, until, show)
            target.finish()
    return copied


def _copy(source: LogSource, target: Target, until: Commit, show: Progress) -> None:
    for commits in _commits(source, target.last.commit_no + 1, until):
        for page in pages(commits):
            rows = source.rows(page[0].first_id, page[-1].last_id)
            _check_leaves(page, rows)
            target.add(page, rows)
            show(target.last.last_id)


def _commits(source: LogSource, number: int, until: Commit) -> Iterator[list[Commit]]:
    while number <= until.commit_no:
        commits = source.commits(number, min(PAGE_COMMITS, until.commit_no - number + 1))
        if not commits or commits[0].commit_no != number:
            raise SourceDamaged(f"commit {number} is missing; see `watchtower audit verify`")
        yield commits
        number = commits[-1].commit_no + 1


def _check_leaves(commits: Sequence[Commit], rows: Sequence[RawRow]) -> None:
    """Raise `SourceDamaged` unless these rows are the events of these commits."""
    place = 0
    for commit in commits:
        for index in range(commit.leaf_count):
            event_id = commit.first_id + index
            if place >= len(rows) or rows[place][0] != event_id:
                raise SourceDamaged(f"event {event_id} is missing; see `watchtower audit verify`")
            if leaf(*rows[place][1:]) != commit.leaves[HASH_SIZE * index : HASH_SIZE * (index + 1)]:
                raise SourceDamaged(f"event {event_id} was changed; see `watchtower audit verify`")
            place += 1


def prove_equal(source: LogSource, copy: LogSource, until: Commit, show: Progress) -> Copied:
    """Compare every commit, head, leaf and event up to `until`, and recompute them; raises `CopyDiffers`."""
    before, commits_seen = source.meta.start(), 0
    for commits in _commits(source, 1, until):
        if copy.commits(commits[0].commit_no, len(commits)) != commits:
            raise CopyDiffers(f"the commits from {commits[0].commit_no} on differ")
        for commit in commits:
            if next_head(before.head, before.first_leaf + before.leaf_count, before.last_id + 1, commit.leaves) != (
                commit.head
            ):
                raise SourceDamaged(f"commit {commit.commit_no} does not follow; see `watchtower audit verify`")
            before = commit
        for page in pages(commits):
            bounds = page[0].first_id, page[-1].last_id
            rows = copy.rows(*bounds)
            if rows != source.rows(*bounds):
                raise CopyDiffers(f"the events from {bounds[0]} to {bounds[1]} differ")
            _check_leaves(page, rows)
            show(bounds[1])
        commits_seen += len(commits)
    end = copy.last_commit()
    if (end, copy.last_id(), copy.meta) != (until, until.last_id, source.meta) or before != until:
        raise CopyDiffers(f"the copy ends at event {copy.last_id()}, the log at {until.last_id}")
    return Copied(source.meta.log_id, source.meta.origin, commits_seen, until.last_id, until.head)


class FileEnd:
    """A log in a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The lock of a tower."""
        lock = InstanceLock(self.path)
        try:
            yield
        finally:
            lock.release()

    def meta(self) -> LogMeta:
        """The log's row; raises `StoreCheckFailed`."""
        with closing(self.source()):  # says what is wrong with a file that is no log
            connection = connect(self.path, read_only=True)
        try:
            return read_meta(connection)
        finally:
            connection.close()

    def source(self) -> SqliteSource:
        """Read the file."""
        return SqliteSource(self.path)

    def target(self, meta: LogMeta, source: LogSource) -> Target:
        """A copy beside the final name; an unfinished one that does not fit is begun anew."""
        if self.path.exists():
            raise StoreCheckFailed("target", f"{self.path} exists already; copy to a file that does not")
        return FileTarget(self.path, meta, source)


class FileTarget:
    """A copy in a file, which gets its name when it is complete and on the disk."""

    def __init__(self, path: Path, meta: LogMeta, source: LogSource) -> None:
        self._path = path
        self._unfinished = path.with_name(path.name + UNFINISHED)
        self._copy = LocalCopy(self._unfinished, meta, source)

    @property
    def last(self) -> Commit:
        """Where the copy ends now."""
        return self._copy.last

    def add(self, commits: Sequence[Commit], rows: Sequence[RawRow]) -> None:
        """Write commits with their events."""
        self._copy.add(commits, rows)

    def source(self) -> SqliteSource:
        """Read the unfinished file."""
        return SqliteSource(self._unfinished)

    def finish(self) -> None:
        """Bring everything to the disk, then give the file its name."""
        self._copy.tidy()
        self._copy.close()
        sync_path(self._unfinished)
        self._unfinished.rename(self._path)
        sync_path(self._path.parent)

    def close(self) -> None:
        """Close all connections; what is there can be continued."""
        self._copy.close()
