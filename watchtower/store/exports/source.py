"""An export read as a log: raw rows for verification and replay, without a database."""

from __future__ import annotations

from pathlib import Path

import msgspec

from watchtower.store.exports.manifest import Manifest, read_manifest
from watchtower.store.exports.records import ExportMalformed, RecordReader
from watchtower.store.exports.rows import read_commit, read_entry
from watchtower.store.source import Commit, RawRow, SourceMeta, Unreadable, commit_holding


class ExportAddress(msgspec.Struct, frozen=True):
    """The directory of an export."""

    directory: str

    def open(self) -> ExportSource:
        """Open it for reading; raises `ExportMalformed`."""
        return ExportSource(Path(self.directory))


class ExportSource:
    """`LogSource` over an export; raises `ExportMalformed` if its manifest is damaged.

    An export that begins in the middle of a log shows the commit before its first one without events: the head is
    known, its events are not here.
    """

    def __init__(self, directory: Path) -> None:
        self.address = ExportAddress(str(directory))
        self.directory = directory
        self.manifest: Manifest = read_manifest(directory)
        self.meta: SourceMeta = self.manifest.source_meta()
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
        found: list[Commit] = []
        first, last = self.manifest.first_commit, self.manifest.last_commit
        if from_no < first and not self.manifest.is_whole:
            found.append(self._before())
        begin = max(from_no, first)
        end = min(last, begin + limit - len(found) - 1)
        try:
            found += map(read_commit, self._commits.read(begin, end))
        except ExportMalformed as error:
            raise Unreadable(str(error)) from None
        return found

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
            fields = ((read_entry(raw), state) for raw, state in pairs)
            return [
                (number, entry.stream, entry.version, entry.topic, state)
                for number, (entry, state) in enumerate(fields, begin)
            ]
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
        """An export has no pages; its files are compared with their digests before it is opened as a log."""
        return []

    def close(self) -> None:
        """No file stays open between calls."""

    def _before(self) -> Commit:
        first = self.manifest.first_position
        head = bytes.fromhex(self.manifest.start_head)
        return Commit(self.manifest.first_commit - 1, first - 1, 0, first - 1, head, b"")
