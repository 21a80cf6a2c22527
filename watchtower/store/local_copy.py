"""A tower's own copy of a log that is on a server: a log file with the same rows, ids and heads.

Everything that the tower reads, it reads here: a breach is answered although the server is away, also that of a channel
that was not in memory. Disposable: what does not continue the log on the server is set aside and made again. It is
written without waiting for the disk; after a power cut the last commits are fetched again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from eventsourcing.persistence import PersistenceError

from watchtower.ports import StoreBroken, StoreError
from watchtower.store import schema
from watchtower.store.checks import TAIL, read_meta
from watchtower.store.datastore import NORMAL, LogDatastore, connect
from watchtower.store.errors import StoreCheckFailed, is_damaged, store_error
from watchtower.store.recorder import ChainedRecorder
from watchtower.store.recorders import LogMeta
from watchtower.store.source import Commit, LogSource, RawRow, Unreadable
from watchtower.store.sqlite_source import SqliteSource
from watchtower.store.verify import verify_source

_log = structlog.get_logger(__name__)

PAGE_COMMITS, PAGE_EVENTS = 500, 5_000
"""Most commits that are asked for at once, and about how many events are written in one transaction."""

_INSERT = "INSERT INTO stored_events (rowid, originator_id, originator_version, topic, state) VALUES (?, ?, ?, ?, ?)"
_INSERT_CHAIN = "INSERT INTO commit_chain VALUES (?, ?, ?, ?, ?, ?)"
_LAST = (
    "SELECT commit_no, first_leaf, leaf_count, last_id, head, leaves FROM commit_chain ORDER BY commit_no DESC LIMIT 1"
)

SET_ASIDE = ".set-aside"
"""What is put behind the name of a copy that the log on the server does not continue."""

CONDEMNED = ".damaged"
"""A file of this name beside a copy says that it could not be read: only the newest events are checked at a start."""

Progress = Callable[[int, int], None]
"""Receives the id of the last copied event and that of the last one that is known on the server."""


def nobody_asked(_done: int, _of: int) -> None:
    """The default for `progress`."""


class LocalCopy:
    """One copy, written by one process. `recorder` reads it, from any thread; `last` is where it ends.

    `known_until` is the id up to which what stood here before was found to be the history of the log on the server.
    """

    def __init__(self, path: Path, meta: LogMeta, source: LogSource) -> None:
        """Open the copy of this log, or begin a new one if there is none that the server's log continues."""
        self.path, self._meta = path, meta
        if not _continues(path, meta, source):
            _begin(path, meta)
        self._datastore = LogDatastore(path, synchronous=NORMAL)
        try:
            with self._datastore.raw() as connection:
                row = connection.execute(_LAST).fetchone()
        except BaseException:
            self._datastore.close()
            raise
        self.last = Commit(*row) if row is not None else source.meta.start()
        self.known_until = self.last.last_id
        self.recorder = ChainedRecorder(self._datastore)

    def follow(self, source: LogSource, progress: Progress = nobody_asked) -> int:
        """Copy all commits behind the end; returns the id of the last event. Raises `StoreError`.

        `StoreBroken` if the server does not have the last commit any more: a replica that lacked it may have taken
        over. What is written since belongs to another history, and must not be put behind this one.
        """
        while commits := self._behind_the_last(source):
            for page in pages(commits):
                self.add(page, source.rows(page[0].first_id, page[-1].last_id))
                progress(self.last.last_id, commits[-1].last_id)
        return self.last.last_id

    def _behind_the_last(self, source: LogSource) -> list[Commit]:
        if self.last.commit_no == 0:
            return source.commits(1, PAGE_COMMITS)
        found = source.commits(self.last.commit_no, 1 + PAGE_COMMITS)
        if not found or found[0] != self.last:
            raise StoreBroken(
                f"the log on the server has another history than the copy, which ends at event {self.last.last_id}; "
                "start again, then the copy is set aside"
            )
        return found[1:]

    def add(self, commits: Sequence[Commit], rows: Sequence[RawRow]) -> None:
        """Write commits that follow the last one, with all their events, in one transaction. Raises `StoreError`."""
        first = commits[0]
        if first.commit_no != self.last.commit_no + 1 or len(rows) != sum(commit.leaf_count for commit in commits):
            raise StoreError(f"the copy of the log ends at commit {self.last.commit_no}: {first.commit_no} has a gap")
        try:
            with self._datastore.transaction(commit=True) as cursor:
                cursor.executemany(_INSERT, rows)
                cursor.executemany(_INSERT_CHAIN, [_columns(commit) for commit in commits])
        except (sqlite3.Error, PersistenceError) as error:
            raise store_error(error) from error
        self.last = commits[-1]

    def tidy(self) -> None:
        """Work of a quiet moment: cut the write-ahead log unless somebody reads, give cached pages back."""
        try:
            with self._datastore.raw(commit=True) as connection:
                connection.execute("PRAGMA busy_timeout = 0")
                try:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                finally:
                    connection.execute("PRAGMA busy_timeout = 5000")
            self._datastore.release_pages()
        except (sqlite3.Error, PersistenceError) as error:
            raise store_error(error) from error

    def condemn(self) -> None:
        """Let the next start begin a new copy."""
        try:
            _condemned(self.path).touch(mode=0o600)
        except OSError as error:
            _log.error("mark_failed", path=str(_condemned(self.path)), reason=error.strerror)

    def close(self) -> None:
        """Close all connections."""
        self._datastore.close()


def _condemned(path: Path) -> Path:
    return path.with_name(path.name + CONDEMNED)


def _columns(commit: Commit) -> tuple[int, int, int, int, bytes, bytes]:
    return commit.commit_no, commit.first_leaf, commit.leaf_count, commit.last_id, commit.head, commit.leaves


def pages(commits: Sequence[Commit]) -> list[list[Commit]]:
    """Groups of commits with few enough events for one transaction; a larger commit is one of its own."""
    pages: list[list[Commit]] = []
    events = PAGE_EVENTS
    for commit in commits:
        events += commit.leaf_count
        if events > PAGE_EVENTS:
            pages.append([])
            events = commit.leaf_count
        pages[-1].append(commit)
    return pages


def _continues(path: Path, meta: LogMeta, source: LogSource) -> bool:
    """Whether the file is a copy of this log up to some commit of it."""
    if not path.exists():
        return False
    try:
        reason = _difference(path, meta, source)
    except (StoreCheckFailed, Unreadable, sqlite3.Error) as error:
        if isinstance(error, sqlite3.Error) and not is_damaged(error):
            raise store_error(error) from error
        reason = str(error)
    if reason:
        _log.warning("copy_set_aside", path=str(path), reason=reason)
    return not reason


def _difference(path: Path, meta: LogMeta, source: LogSource) -> str:
    if _condemned(path).exists():
        return "a part of it could not be read"
    connection = connect(path, read_only=False, synchronous=NORMAL)
    try:
        if read_meta(connection) != meta:
            return "it is a copy of another log"
        row = connection.execute(_LAST).fetchone()
        events = connection.execute("SELECT max(rowid) FROM stored_events").fetchone()[0] or meta.first_id - 1
    finally:
        connection.close()
    last = source.meta.start() if row is None else Commit(*row)
    if events != last.last_id:
        return f"its events end at {events}, its commits at {last.last_id}"
    theirs = source.commits(last.commit_no, 1) if row is not None else [last]
    if not theirs or theirs[0].head != last.head:
        return f"the log on the server has another history than the copy, which ends at event {last.last_id}"
    return _damage(path)


def _damage(path: Path) -> str:
    """What is wrong with the newest events; as at the start of a tower with its log in a file."""
    with SqliteSource(path) as own:
        findings = verify_source(own, TAIL).findings
    return findings[0].sentence if findings else ""


def _begin(path: Path, meta: LogMeta) -> None:
    """An empty copy in the place of whatever is there. That is set aside: it may hold what the server has lost."""
    if path.exists():
        path.replace(path.with_name(path.name + SET_ASIDE))
    for suffix in ("-wal", "-shm", "-journal", CONDEMNED):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {schema.PAGE_SIZE}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {schema.SCHEMA}")
        for statement in schema.statements():
            connection.execute(statement)
        row = (meta.log_id, meta.origin, meta.segment, meta.first_leaf, meta.first_id, meta.prev_head, meta.stream_key)
        connection.execute("INSERT INTO log_meta VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, meta.schema))
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise store_error(error) from error
    finally:
        connection.close()
