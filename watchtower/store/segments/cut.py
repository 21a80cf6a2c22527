"""Closing the segment that is written: the last event, then the next file. For a stopped service."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from domain.events import SegmentClosed
from watchtower.ports import Failpoint, StoreBusy, StoreError, StoreFull
from watchtower.store.create import open_store
from watchtower.store.datastore import no_failpoint
from watchtower.store.errors import store_error
from watchtower.store.lock import InstanceLock
from watchtower.store.log_stream import append_to_log_stream
from watchtower.store.segments.closed import public_name
from watchtower.store.source import SourceMeta
from watchtower.store.sqlite_source import SqliteSource

PATIENCE = 1.0
"""Seconds to wait for a program that reads the file."""


SHARE_OF_NEXT = 0.5
"""Free space that has to be there, as a share of the file that is closed: the next one begins with all its streams."""


def close_segment(
    path: Path, recorded_at: int, failpoint: Failpoint = no_failpoint, *, chain_hash: bytes | None = None
) -> SourceMeta:
    """End the file of a log and begin the next; returns the name of the new segment. `recorded_at` in microseconds.

    With `chain_hash` the log must follow that chain. Raises `StoreError`, `StoreLocked` while a tower runs among them.
    If this is killed, the log is as before, or the next opening for writing finishes what was begun.
    """
    _require_alone(path)
    with open_store(path, chain_hash=chain_hash, failpoint=failpoint) as store:
        with SqliteSource(path) as source:
            tip = source.last_commit()
        number = store.meta.segment
        if tip.last_id == store.meta.first_id:
            raise StoreError(f"segment {number} holds nothing but its first event; there is nothing to close")
        closed = SegmentClosed(recorded_at=recorded_at, segment=number, position=tip.last_id, head=tip.head)
        failpoint("segment_decide:before")
        append_to_log_stream(store, closed)
        failpoint("segment_decide:after")
    with open_store(path, failpoint=failpoint) as store:
        return public_name(store.meta)


def close_grown_segment(path: Path, limit: int, recorded_at: int, *, chain_hash: bytes | None = None) -> bool:
    """Close the segment if its file has more than `limit` bytes and nobody reads it now; True if it was closed.

    For the start of the service: what is not possible now is tried at the next one. Raises `StoreError`, `StoreFull`
    before anything is decided: a log that has decided is not opened until its next file is made.
    """
    if not path.exists() or path.stat().st_size <= limit:
        return False
    if shutil.disk_usage(path.parent).free < path.stat().st_size * SHARE_OF_NEXT:
        raise StoreFull(f"there is too little space to begin a new segment of {path}")
    try:
        close_segment(path, recorded_at, chain_hash=chain_hash)
    except StoreBusy:
        return False
    return True


def _require_alone(path: Path) -> None:
    """Nobody else has the file open: after the decision it would stand in the way. Raises `StoreBusy`, `StoreLocked`.

    The exclusive mode of a connection is refused while there is any other one; nothing is changed by asking for it.
    """
    if not path.exists():
        return  # opening it says so
    lock = InstanceLock(path)
    try:
        address = f"file:{quote(str(path))}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=PATIENCE, isolation_level=None)) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        raise StoreBusy(f"another program reads {path}; end it, then the segment can be closed") from None
    except sqlite3.Error as error:
        raise store_error(error) from error
    finally:
        lock.release()
