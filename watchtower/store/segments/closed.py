"""Reading the closed segments of a log: their events by id and by stream, as they were stored.

A segment is a database that nobody writes, or an archive. Usable from any thread.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from watchtower.ports import Place
from watchtower.store.checks import read_meta
from watchtower.store.datastore import LogDatastore
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.place import CommitRow, find_commit
from watchtower.store.recorders import LogMeta
from watchtower.store.segments.archived import SegmentArchive
from watchtower.store.segments.names import segment_archive, segment_file
from watchtower.store.source import RawRow, SourceMeta

_BY_ID = (
    "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events "
    "WHERE rowid BETWEEN ? AND ? ORDER BY rowid"
)
_BY_STREAM = (
    "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events "
    "WHERE originator_id = ? AND originator_version BETWEEN ? AND ? ORDER BY originator_version"
)
_COMMIT = "SELECT last_id, head, leaves FROM commit_chain WHERE commit_no = ?"
_LAST_COMMIT = "SELECT commit_no, last_id, head FROM commit_chain ORDER BY commit_no DESC LIMIT 1"


class ClosedSegment(Protocol):
    """The events of one closed segment, with ids `meta.first_id` to `last_id`; `head` is the chain head behind them."""

    meta: SourceMeta
    last_id: int
    head: bytes

    def by_id(self, first_id: int, last_id: int) -> list[RawRow]:
        """Events with these ids, in order. Raises `StoreError` or `sqlite3.Error`."""
        ...

    def by_stream(self, stream: str, first: int, last: int) -> list[RawRow]:
        """Events of a stream with versions from `first` to `last`, in order."""
        ...

    def place(self, event_id: int) -> Place | None:
        """Where one of its events stands."""
        ...

    def close(self) -> None:
        """Give back what was opened."""
        ...


class SegmentFile:
    """A closed segment that is still a database."""

    def __init__(self, path: Path) -> None:
        """Raises `StoreCheckFailed` if the file is no segment of a log."""
        self._datastore = LogDatastore(path, read_only=True, immutable=True, readers=4)
        try:
            with self._datastore.raw() as connection:
                meta = read_meta(connection)
                row = connection.execute(_LAST_COMMIT).fetchone()
            if row is None:
                raise StoreCheckFailed("segments", f"{path} holds no commit; restore it from a backup")
        except BaseException:
            self._datastore.close()
            raise
        self._commits, self.last_id, self.head = row
        self.meta = public_name(meta)

    def by_id(self, first_id: int, last_id: int) -> list[RawRow]:
        """Events with these ids, in order."""
        return self._rows(_BY_ID, (first_id, last_id))

    def by_stream(self, stream: str, first: int, last: int) -> list[RawRow]:
        """Events of a stream with versions from `first` to `last`, in order."""
        return self._rows(_BY_STREAM, (stream, first, last))

    def place(self, event_id: int) -> Place | None:
        """Where one of its events stands."""
        with self._datastore.raw() as connection:

            def read(number: int) -> CommitRow | None:
                found = connection.execute(_COMMIT, (number,)).fetchone()
                return None if found is None else CommitRow(*found)

            row = find_commit(read, self._commits, event_id)
        return None if row is None else row.place(event_id)

    def close(self) -> None:
        """Close its connections."""
        self._datastore.close()

    def _rows(self, query: str, arguments: tuple[object, ...]) -> list[RawRow]:
        with self._datastore.raw() as connection:
            return [tuple(row) for row in connection.execute(query, arguments)]


class ClosedSegments:
    """All segments before the file that is written, without a gap between them."""

    def __init__(self, segments: Sequence[ClosedSegment]) -> None:
        self._segments = tuple(segments)
        self._firsts = [segment.meta.first_id for segment in segments]

    @classmethod
    def before(cls, log: Path, meta: SourceMeta) -> ClosedSegments:
        """Those of a log file; raises `StoreCheckFailed` that names a segment that is missing or does not fit."""
        opened: list[ClosedSegment] = []
        try:
            opened.extend(open_segment(log, number) for number in range(meta.segment))
            check_line([*((each.meta, each.last_id, each.head) for each in opened), (meta, 0, b"")])
        except sqlite3.Error as error:
            close_all(opened)
            raise StoreCheckFailed("segments", f"segment {len(opened)} cannot be read ({error})") from error
        except BaseException:
            close_all(opened)
            raise
        return cls(opened)

    def by_id(self, first_id: int, last_id: int) -> Iterator[RawRow]:
        """Events with these ids, in order, segment by segment."""
        start = max(0, bisect_right(self._firsts, first_id) - 1)
        for segment in self._segments[start:]:
            if segment.meta.first_id > last_id:
                return
            yield from segment.by_id(max(first_id, segment.meta.first_id), min(last_id, segment.last_id))

    def by_stream(self, stream: str, first: int, last: int, newest: int) -> list[RawRow]:
        """Events of a stream with versions from `first` to `last`, in order; `newest` segment that holds one of it."""
        parts: list[list[RawRow]] = []
        for segment in reversed(self._segments[: newest + 1]):
            rows = segment.by_stream(stream, first, last)
            parts.append(rows)
            if rows:
                last = rows[0][2] - 1
            if last < first:
                break
        return [row for part in reversed(parts) for row in part]

    def place(self, event_id: int) -> Place | None:
        """Where an event stands, None if it is in none of these."""
        start = bisect_right(self._firsts, event_id) - 1
        return self._segments[start].place(event_id) if start >= 0 else None

    def close(self) -> None:
        """Give back what was opened."""
        close_all(self._segments)


def segments_before(log: Path, meta: LogMeta) -> ClosedSegments | None:
    """The closed segments of a log file, None if it is the first one; raises `StoreCheckFailed`."""
    return ClosedSegments.before(log, public_name(meta)) if meta.segment else None


def public_name(meta: LogMeta) -> SourceMeta:
    """The name of a log without its stream key."""
    return SourceMeta(
        meta.log_id, meta.origin, meta.segment, meta.first_leaf, meta.first_id, meta.prev_head, meta.schema
    )


def open_segment(log: Path, number: int) -> ClosedSegment:
    """The closed segment as a database or as an archive; `StoreCheckFailed` if there is neither."""
    if segment_file(log, number).exists():
        return SegmentFile(segment_file(log, number))
    if segment_archive(log, number).exists():
        return SegmentArchive(segment_archive(log, number))
    raise missing_segment(log, number)


def missing_segment(log: Path, number: int) -> StoreCheckFailed:
    """What to say about a segment that is not where it should be."""
    return StoreCheckFailed(
        "segments",
        f"segment {number} of the log is missing; put {segment_file(log, number).name} or its archive "
        f"{segment_archive(log, number).name} back into {segment_file(log, number).parent}",
    )


def check_line(segments: Sequence[tuple[SourceMeta, int, bytes]]) -> None:
    """Each (name, last id, last head) goes on where the one before ended; raises `StoreCheckFailed`."""
    for (before, last_id, head), (meta, _, _) in pairwise(segments):
        said = (before.log_id, before.origin, before.segment + 1, last_id + 1, head)
        if said != (meta.log_id, meta.origin, meta.segment, meta.first_id, meta.prev_head):
            raise StoreCheckFailed(
                "segments", f"segment {meta.segment} does not go on where segment {before.segment} ends; run an audit"
            )


def close_all(segments: Sequence[ClosedSegment]) -> None:
    """Close them."""
    for segment in segments:
        segment.close()
