"""Packing a closed segment: an export with an index of streams, and the database removed once it was read back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import zip_longest
from pathlib import Path

import msgspec

from watchtower.host.durable import sync_path
from watchtower.ports import Failpoint, StoreError
from watchtower.store.datastore import connect, no_failpoint
from watchtower.store.errors import store_error
from watchtower.store.exports.source import ExportSource
from watchtower.store.exports.streams import StreamReader
from watchtower.store.exports.write import Wish, export
from watchtower.store.lock import InstanceLock
from watchtower.store.segments.closed import missing_segment
from watchtower.store.segments.names import segment_archive, segment_file
from watchtower.store.sqlite_source import SqliteSource
from watchtower.store.verify import verify_source

_INDEX = "SELECT originator_id, originator_version, rowid FROM stored_events ORDER BY originator_id, originator_version"


class Archived(msgspec.Struct, frozen=True):
    """What packing a segment did: its number and events, bytes before and after."""

    segment: int
    events: int
    bytes_before: int
    bytes_after: int


def archive_segment(
    log: Path, number: int, progress: Callable[[int], None], failpoint: Failpoint = no_failpoint
) -> Archived:
    """Pack a closed segment of a log; its database goes only after the archive was read back and found equal.

    Raises `StoreError`: `StoreLocked` while a tower runs. If this is killed, the segment is there as a database, as an
    archive, or both; the same call goes on.
    """
    lock = InstanceLock(log)
    try:
        file, target = segment_file(log, number), segment_archive(log, number)
        _require_closed(log, number)
        if not file.exists() and target.exists():
            raise StoreError(f"segment {number} is archived already")
        if not file.exists():
            raise missing_segment(log, number)
        size = file.stat().st_size
        index = partial(_index, file)
        if not target.exists():
            with SqliteSource(file, immutable=True) as source:
                export(source, target, Wish(first=source.meta.first_id), None, progress, index=index)
        failpoint("segment_pack:after")
        with SqliteSource(file, immutable=True) as source, ExportSource(target) as packed:
            _compare(source, packed)
            _compare_index(index(), StreamReader(target, packed.manifest))
            events = packed.last_id() - packed.meta.first_id + 1
        failpoint("segment_remove:before")
        file.unlink()
        sync_path(file.parent)
        failpoint("segment_remove:after")
    finally:
        lock.release()
    after = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return Archived(number, events, size, after)


def _require_closed(log: Path, number: int) -> None:
    with SqliteSource(log) as live:
        if number >= live.meta.segment:
            raise StoreError(f"segment {number} is not closed; the log is written in segment {live.meta.segment}")


def _index(file: Path) -> Iterator[tuple[str, int, int]]:
    try:
        with closing(connect(file, read_only=True, immutable=True)) as connection:
            connection.row_factory = None
            yield from connection.execute(_INDEX)
    except sqlite3.Error as error:
        raise store_error(error) from error


def _compare(source: SqliteSource, packed: ExportSource) -> None:
    """The archive verifies by itself and ends with the head of the database: then every event is equal."""
    report = verify_source(packed)
    if report.findings:
        raise StoreError(f"the archive is not what was written ({report.findings[0].sentence}); remove it, try again")
    if packed.meta != source.meta or packed.last_commit() != source.last_commit():
        raise StoreError(f"{packed.directory} is the archive of another segment; move it away")


def _compare_index(expected: Iterator[tuple[str, int, int]], found: StreamReader) -> None:
    if any(one != two for one, two in zip_longest(expected, found.all())):
        raise StoreError("the index of streams in the archive is not what was written; remove the archive, try again")
