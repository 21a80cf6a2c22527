"""An export read as a log: raw rows for verification and replay, without a database."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from watchtower.store.exports.manifest import Manifest, Segment, read_manifest
from watchtower.store.exports.records import ExportMalformed, RecordReader, file_fault
from watchtower.store.exports.rows import read_commit, read_entry
from watchtower.store.source import Border, Commit, RawRow, SourceMeta, Unreadable, commit_holding


def _row(number: int, raw: bytes, state: bytes) -> RawRow:
    """An event whose entry and state belong together; raises `ExportMalformed`."""
    stream, version, topic, size, state_hash = read_entry(raw)
    if len(state) != size or sha256(state).digest() != state_hash:
        raise ExportMalformed(f"event {number} has another state than its entry names")
    return number, stream, version, topic, state


class ExportAddress(msgspec.Struct, frozen=True):
    """The directory of an export."""

    directory: str

    def open(self) -> ExportSource:
        """Open it for reading; raises `ExportMalformed`."""
        return ExportSource(Path(self.directory))


class _MiddleMeta(SourceMeta, frozen=True):
    """The name of a log of which the first commits are not here."""

    before: Commit = Commit(0, 0, 0, 0, b"", b"")

    def start(self) -> Commit:
        """What stands before the first commit: the number and head of one that is elsewhere."""
        return self.before


def _meta(manifest: Manifest) -> SourceMeta:
    start = manifest.segments[0]
    name = (bytes.fromhex(manifest.log_id), manifest.origin, start.segment)
    first, prev_head = manifest.first_position, bytes.fromhex(start.prev_head)
    if manifest.first_commit == 1:
        borders = tuple(map(_border, manifest.segments[1:]))
        return SourceMeta(*name, start.first_leaf, start.first_id, prev_head, manifest.schema, borders)
    before = Commit(manifest.first_commit - 1, first - 1, 0, first - 1, bytes.fromhex(manifest.start_head), b"")
    borders = tuple(_border(segment) for segment in manifest.segments if segment.first_id >= first)
    return _MiddleMeta(*name, first - 1, first, prev_head, manifest.schema, borders, before)


def _border(segment: Segment) -> Border:
    place = (segment.first_leaf, segment.first_id, bytes.fromhex(segment.prev_head))
    return Border(segment.segment, *place, segment.first_commit)


class ExportSource:
    """`LogSource` over an export; raises `ExportMalformed` if its manifest is damaged.

    An export that begins in the middle of a log reads as a log that begins there, behind a head that it names.
    """

    def __init__(self, directory: Path) -> None:
        self.address = ExportAddress(str(directory))
        self.directory = directory
        self.manifest: Manifest = read_manifest(directory)
        self.meta: SourceMeta = _meta(self.manifest)
        self._entries = RecordReader(directory, self.manifest.entries)
        self._events = RecordReader(directory, self.manifest.events)
        self._commits = RecordReader(directory, self.manifest.commits)

    def last_id(self) -> int:
        """Id of the last event."""
        return self.manifest.last_position

    def last_commit(self) -> Commit:
        """The last row of the commit chain."""
        return self.commits(self.manifest.last_commit, 1)[0]

    def commits(self, from_no: int, limit: int) -> list[Commit]:
        """At most `limit` chain rows with numbers from `from_no` on, in order; `Unreadable` if they are damaged."""
        begin = max(from_no, self.manifest.first_commit)
        end = min(self.manifest.last_commit, begin + limit - 1)
        try:
            return list(map(read_commit, self._commits.read(begin, end)))
        except ExportMalformed as error:
            raise Unreadable(str(error)) from None

    def commit_at(self, event_id: int) -> Commit | None:
        """The chain row that holds this event; None behind the end."""
        return commit_holding(self, event_id)

    def rows(self, first_id: int, last_id: int) -> list[RawRow]:
        """The events with ids from `first_id` to `last_id`, in order; `Unreadable` if damaged or without payloads."""
        if self.manifest.entries_only:
            raise Unreadable("this export holds entries only, no payloads")
        begin, end = max(first_id, self.manifest.first_position), min(last_id, self.manifest.last_position)
        try:
            pairs = zip(self._entries.read(begin, end), self._events.read(begin, end), strict=True)
            return [_row(number, raw, state) for number, (raw, state) in enumerate(pairs, begin)]
        except ExportMalformed as error:
            raise Unreadable(str(error)) from None

    def entries(self, first_id: int, last_id: int) -> list[bytes]:
        """The bytes of the entries of these events; raises `Unreadable`."""
        try:
            return list(self._entries.read(first_id, last_id))
        except ExportMalformed as error:
            raise Unreadable(str(error)) from None

    def differing_objects(self) -> list[str]:
        """An export has no triggers or rights."""
        return []

    def storage_faults(self) -> list[str]:
        """Files that are not those of the manifest."""
        listed = self.manifest.listed().items()
        faults = ((name, file_fault(self.directory / name, *said)) for name, said in listed)
        return [f"{name} {fault}" for name, fault in faults if fault is not None]

    def start_of(self, first_id: int) -> bytes | None:
        """The head with which a segment begins at this event, None if no segment begins there."""
        for border in map(_border, self.manifest.segments):
            if border.first_id == first_id:
                return self.meta.begin(border, border.prev_head)
        return None

    def head_before(self, commit_no: int) -> bytes:
        """The head that a commit of this export follows; raises `Unreadable`."""
        if commit_no == self.manifest.first_commit:
            return bytes.fromhex(self.manifest.start_head)
        return self.commits(commit_no - 1, 1)[0].head

    def close(self) -> None:
        """No file stays open between calls."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
