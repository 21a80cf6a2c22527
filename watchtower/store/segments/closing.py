"""Ending the file of a log and beginning the next one, so that a kill at any moment leaves the old or the new state.

The event `SegmentClosed` decides. Before it is durable nothing has changed; once it is, every opening of the log for
writing finishes what is left, under the lock of the log: the next file is made under another name, the old one gets a
second name among the segments, and one rename puts the next file in its place.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

from domain.errors import LogCorrupt
from domain.events import LOG_STREAM, Envelope, LogOpened, SegmentClosed, decode_payload
from watchtower.host.durable import sync_path
from watchtower.ports import Failpoint, StoreBusy, StoreError
from watchtower.store import schema
from watchtower.store.checks import read_meta
from watchtower.store.datastore import connect
from watchtower.store.errors import store_error
from watchtower.store.files import make_file
from watchtower.store.recorder import read_tip
from watchtower.store.recorders import LogMeta
from watchtower.store.segments.names import segment_file, segments_directory

_LAST = "SELECT topic, state, originator_id, originator_version FROM stored_events ORDER BY rowid DESC LIMIT 1"
_FIRST = "SELECT topic, state FROM stored_events ORDER BY rowid LIMIT 1"
_OWN = "SELECT originator_id, max(originator_version) FROM stored_events GROUP BY originator_id"
_BASE = "SELECT stream, version, segment FROM stream_base"
_PAGE = 5_000
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def finish_closing(path: Path, failpoint: Failpoint) -> None:
    """If the log file ends with `SegmentClosed`, put the next segment in its place. The caller holds the lock.

    Raises `StoreError`; `StoreBusy` if another program reads the file. An unreadable file is left to the checks.
    """
    closed = _peek(path)
    if closed is not None:
        try:
            with closing(connect(path, read_only=False)) as connection:
                connection.row_factory = None
                _make_next(path, connection, failpoint)
                _detach(path, connection, failpoint)
        except sqlite3.Error as error:
            raise store_error(error) from error
        _put_in_place(path, closed.segment, failpoint)
    _protect(path, failpoint)


def _peek(path: Path) -> SegmentClosed | None:
    """The event that ended the file; None if it goes on, or cannot be read."""
    try:
        with closing(connect(path, read_only=False)) as connection:
            row = connection.execute(_LAST).fetchone()
        payload = decode_payload(row[0], row[1]) if row is not None and row[0] == SegmentClosed.TOPIC else None
    except (sqlite3.Error, StoreError, LogCorrupt):
        return None
    return payload if isinstance(payload, SegmentClosed) else None


def _make_next(path: Path, connection: sqlite3.Connection, failpoint: Failpoint) -> None:
    """Build the next file beside the log: its name goes on, its streams know their versions."""
    old, tip = read_meta(connection), read_tip(connection.cursor())
    topic, state = connection.execute(_FIRST).fetchone()
    first, version = decode_payload(topic, state), connection.execute(_LAST).fetchone()[3]
    last = decode_payload(*connection.execute(_LAST).fetchone()[:2])
    assert isinstance(first, LogOpened), "the file was checked when it was opened"
    number = old.segment + 1
    opened = LogOpened(
        recorded_at=last.recorded_at,
        log_id=old.log_id,
        origin=old.origin,
        chain_hash=first.chain_hash,
        segment=number,
        prev_head=tip.head,
        schema=schema.SEGMENT_SCHEMA,
    )
    meta = LogMeta(
        old.log_id,
        old.origin,
        number,
        tip.next_leaf,
        tip.last_id + 1,
        tip.head,
        old.stream_key,
        schema.SEGMENT_SCHEMA,
    )
    failpoint("segment_build:before")
    make_file(
        path,
        meta,
        Envelope(LOG_STREAM, version + 1, LogOpened.TOPIC, opened),
        lambda new: _copy_bases(connection, old, new),
    )
    failpoint("segment_build:after")


def _copy_bases(connection: sqlite3.Connection, old: LogMeta, new: sqlite3.Connection) -> None:
    """Where every stream of the log stands: those of the old file, and those it knew from before."""
    insert = "INSERT OR IGNORE INTO stream_base (stream, version, segment) VALUES (?, ?, ?)"
    own = connection.execute(_OWN)
    while page := own.fetchmany(_PAGE):
        new.executemany(insert, [(stream, version, old.segment) for stream, version in page])
    if old.segment:
        before = connection.execute(_BASE)
        while page := before.fetchmany(_PAGE):
            new.executemany(insert, page)


def _detach(path: Path, connection: sqlite3.Connection, failpoint: Failpoint) -> None:
    """Fold the write-ahead log into the file and let it stand alone; nobody else may have it open."""
    failpoint("segment_detach:before")
    connection.execute("PRAGMA busy_timeout = 1000")
    busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    try:
        mode = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
    except sqlite3.OperationalError:
        mode = ""
    if busy or mode != "delete":
        raise StoreBusy(f"another program reads {path}; end it, then the segment can be closed")
    failpoint("segment_detach:after")


def _put_in_place(path: Path, number: int, failpoint: Failpoint) -> None:
    """The old file gets its name among the segments, then the next one takes its place with one rename."""
    target = segment_file(path, number)
    segments_directory(path).mkdir(mode=0o700, exist_ok=True)
    failpoint("segment_link:before")
    try:
        os.link(path, target)
    except FileExistsError:
        if not target.samefile(path):
            raise StoreError(f"{target} is in the way of the segment that is being closed; move it away") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be linked to {target} ({error.strerror}); the segment stays open") from error
    sync_path(target.parent)
    failpoint("segment_link:after")
    failpoint("segment_switch:before")
    path.with_name(path.name + ".new").rename(path)
    sync_path(path.parent)
    failpoint("segment_switch:after")


def _protect(path: Path, failpoint: Failpoint) -> None:
    """Closed segments are read only."""
    for file in sorted(segments_directory(path).glob("*.db")):
        if file.stat().st_mode & _WRITABLE:
            failpoint("segment_protect:before")
            file.chmod(0o444)
            failpoint("segment_protect:after")
