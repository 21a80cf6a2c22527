"""Closing the segment that is written: the last event, then the next file. For a stopped service."""

from __future__ import annotations

from pathlib import Path

from domain.events import SegmentClosed
from watchtower.ports import Failpoint, StoreError
from watchtower.store.create import open_store
from watchtower.store.datastore import no_failpoint
from watchtower.store.log_stream import append_to_log_stream
from watchtower.store.segments.closed import public_name
from watchtower.store.source import SourceMeta, SqliteSource


def close_segment(path: Path, recorded_at: int, failpoint: Failpoint = no_failpoint) -> SourceMeta:
    """End the file of a log and begin the next; returns the name of the new segment. `recorded_at` in microseconds.

    Raises `StoreError`, `StoreLocked` while a tower runs among them. If this is killed, the log is as before, or the
    next opening for writing finishes what was begun.
    """
    with open_store(path, failpoint=failpoint) as store:
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
