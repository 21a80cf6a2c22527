"""All segments of a log as one source of raw rows, for audits, exports and copies of any kind.

Commit numbers run on from segment to segment here, although each file counts its own from 1. A segment that is missing
leaves a gap, which an audit names; nothing is refused because of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from watchtower.store.exports.source import ExportSource
from watchtower.store.segments.names import segment_archive, segment_file
from watchtower.store.source import Border, Commit, LogSource, RawRow, SourceMeta, commit_holding
from watchtower.store.sqlite_source import SqliteSource


class SegmentedAddress(msgspec.Struct, frozen=True):
    """The log file that is written; `immutable` if nobody writes it."""

    path: str
    immutable: bool = False

    def open(self) -> LogSource:
        """Open the log for reading; raises `StoreError`."""
        return open_log_files(Path(self.path), immutable=self.immutable)


class SegmentedSource:
    """`LogSource` over the parts that are there, oldest first; `missing` are the numbers of those that are not."""

    def __init__(self, address: SegmentedAddress, parts: Sequence[LogSource], missing: Sequence[int]) -> None:
        self.address, self.missing = address, tuple(missing)
        self._parts = tuple(parts)
        self._first_ids = [part.meta.first_id for part in parts]
        self._before: list[int] = []
        number = 0
        for part in parts:
            self._before.append(number)
            number += part.last_commit().commit_no if part is not parts[-1] else 0
        self.meta: SourceMeta = msgspec.structs.replace(
            parts[0].meta, borders=tuple(map(self._border, range(1, len(parts))))
        )

    @property
    def parts(self) -> tuple[LogSource, ...]:
        """The files that are there, oldest first; the last one is written."""
        return self._parts

    def last_id(self) -> int:
        """Id of the last stored event."""
        return self._parts[-1].last_id()

    def last_commit(self) -> Commit:
        """The last row of the commit chain."""
        return self._renumbered(len(self._parts) - 1, self._parts[-1].last_commit())

    def commits(self, from_no: int, limit: int) -> list[Commit]:
        """At most `limit` chain rows with numbers from `from_no` on, in order, across segments."""
        place = max(0, bisect_right(self._before, from_no - 1) - 1)
        found: list[Commit] = []
        while place < len(self._parts) and len(found) < limit:
            own = self._parts[place].commits(from_no - self._before[place], limit - len(found))
            found += [self._renumbered(place, commit) for commit in own]
            place += 1
        return found

    def commit_at(self, event_id: int) -> Commit | None:
        """The commit that holds an event; None behind the end of the chain."""
        return commit_holding(self, event_id)

    def rows(self, first_id: int, last_id: int) -> list[RawRow]:
        """The stored events with these ids, in order; those that are missing are missing."""
        place = max(0, bisect_right(self._first_ids, first_id) - 1)
        found = self._parts[place].rows(first_id, last_id)
        for part in self._parts[place + 1 :]:
            if part.meta.first_id > last_id:
                break
            found += part.rows(part.meta.first_id, last_id)
        return found

    def differing_objects(self) -> list[str]:
        """What is not as shipped, with the number of the segment."""
        return [f"{name} of segment {part.meta.segment}" for part in self._parts for name in part.differing_objects()]

    def storage_faults(self) -> list[str]:
        """What the engine's own check finds in any segment."""
        return [f"segment {part.meta.segment}: {fault}" for part in self._parts for fault in part.storage_faults()]

    def close(self) -> None:
        """Close all parts."""
        for part in self._parts:
            part.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _border(self, place: int) -> Border:
        meta = self._parts[place].meta
        return Border(meta.segment, meta.first_leaf, meta.first_id, meta.prev_head, self._before[place] + 1)

    def _renumbered(self, place: int, commit: Commit) -> Commit:
        try:
            return msgspec.structs.replace(commit, commit_no=commit.commit_no + self._before[place])
        except TypeError:  # no number any more, as somebody changed it: shown as it is
            return commit


def open_log_files(path: Path, *, immutable: bool = False) -> LogSource:
    """The log that a file belongs to with all its segments; just the file if it is the first one.

    Raises `StoreError` if the file itself, or a segment that is there, is no log.
    """
    newest = SqliteSource(path, immutable=immutable)
    if newest.meta.segment == 0:
        return newest
    parts: list[LogSource] = []
    missing = []
    try:
        for number in range(newest.meta.segment):
            part = _open_part(path, number)
            if part is None:
                missing.append(number)
            else:
                parts.append(part)
        return SegmentedSource(SegmentedAddress(str(path), immutable), [*parts, newest], missing)
    except BaseException:
        for part in (*parts, newest):
            part.close()
        raise


def _open_part(log: Path, number: int) -> LogSource | None:
    if segment_file(log, number).exists():
        return SqliteSource(segment_file(log, number), immutable=True)
    if segment_archive(log, number).exists():
        return ExportSource(segment_archive(log, number))
    return None
