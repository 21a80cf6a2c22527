"""A consistent copy of a log, also while the service writes it, and the check that a copy is whole."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import msgspec

from watchtower.store.checks import read_meta
from watchtower.store.datastore import connect
from watchtower.store.errors import StoreCheckFailed, store_error
from watchtower.store.source import LogSource, SqliteSource
from watchtower.store.verify import verify_log


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
    """Check a copy that nobody writes: pages, and every event against the commit chain; `StoreCheckFailed`."""
    try:
        connection = connect(path, read_only=True, immutable=True)
        try:
            return _checked(connection, path)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise store_error(error) from error


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
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
