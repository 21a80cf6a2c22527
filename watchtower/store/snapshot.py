"""A consistent copy of a log, also while the service writes it, and the check that a copy is whole."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from watchtower.host.durable import sync_path
from watchtower.store.checks import read_meta
from watchtower.store.datastore import connect
from watchtower.store.errors import StoreCheckFailed, store_error
from watchtower.store.segments.closed import missing_segment
from watchtower.store.segments.names import segment_archive, segment_file, segments_directory
from watchtower.store.segments.source import SegmentedSource, open_log_files
from watchtower.store.source import LogSource
from watchtower.store.sqlite_source import SqliteSource
from watchtower.store.verify import verify_log, verify_source


class SnapshotFacts(msgspec.Struct, frozen=True):
    """Which log a copy is of and how far it goes; `head` is the last head of the commit chain (32 bytes)."""

    log_id: bytes
    origin: str
    last_id: int
    events: int
    head: bytes


def take_snapshot(source: Path, target: Path) -> SnapshotFacts:
    """Copy a log with SQLite's online backup; `target` must not exist (mode 0600). Only `check_snapshot` proves it.

    One step, so that a busy writer cannot start it over. Raises `StoreError`; an unfinished copy is removed.
    """
    if not source.exists():
        raise StoreCheckFailed("exists", f"{source} does not exist; there is no log to copy")
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        _copy(source, target)
        with SqliteSource(target, immutable=True) as copy:
            return facts_of(copy)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def facts_of(source: LogSource) -> SnapshotFacts:
    """What a log says about itself, unchecked."""
    tip = source.last_commit()
    events = tip.first_leaf + tip.leaf_count - source.meta.first_leaf
    return SnapshotFacts(source.meta.log_id, source.meta.origin, tip.last_id, events, tip.head)


def check_snapshot(path: Path) -> SnapshotFacts:
    """Check a copy that nobody writes: pages, and every event against the commit chain; `StoreCheckFailed`.

    Closed segments beside it are checked, too; one that is missing is a failure.
    """
    try:
        connection = connect(path, read_only=True, immutable=True)
        try:
            facts = _checked(connection, path)
            _check_segments(path, read_meta(connection).segment)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise store_error(error) from error
    return facts


def copy_segments(source: Path, target: Path) -> None:
    """Put the closed segments of a log beside a copy of its file; they never change, so links do where they can.

    Raises `StoreCheckFailed` if one is missing, and `OSError`.
    """
    with SqliteSource(target, immutable=True) as copy:
        segments = range(copy.meta.segment)
    for number in segments:
        file, archive = segment_file(source, number), segment_archive(source, number)
        segments_directory(target).mkdir(mode=0o700, exist_ok=True)
        if file.exists():
            _link(str(file), str(segment_file(target, number)))
        elif archive.exists():
            shutil.copytree(archive, segment_archive(target, number), copy_function=_link)
        else:
            raise missing_segment(source, number)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _check_segments(path: Path, segments: int) -> None:
    if segments == 0:
        return
    with closing(open_log_files(path, immutable=True)) as source:
        missing = source.missing if isinstance(source, SegmentedSource) else ()
        report = verify_source(source)
    if missing:
        raise missing_segment(path, missing[0])
    if report.findings:
        raise StoreCheckFailed(report.findings[0].check, f"{path}: {report.findings[0].sentence}")


def _copy(source: Path, target: Path) -> None:
    try:
        reader = connect(source, read_only=True)
        try:
            writer = sqlite3.connect(target, isolation_level=None)
            try:
                reader.backup(writer, pages=-1)
            finally:
                writer.close()
        finally:
            reader.close()
    except sqlite3.Error as error:
        raise store_error(error) from error
    sync_path(target)


def _checked(connection: sqlite3.Connection, path: Path) -> SnapshotFacts:
    found = connection.execute("PRAGMA quick_check").fetchone()[0]
    if found != "ok":
        raise StoreCheckFailed("quick_check", f"{path} is damaged ({found}); make another backup")
    meta = read_meta(connection)
    report = verify_log(connection)
    if report.findings:
        first = report.findings[0]
        raise StoreCheckFailed(first.check, f"{path}: {first.sentence}")
    return SnapshotFacts(meta.log_id, meta.origin, report.last_id, report.events, report.head)
