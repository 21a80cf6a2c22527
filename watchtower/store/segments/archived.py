"""A closed segment that was packed: read through its export, with an index of streams."""

from __future__ import annotations

import threading
from itertools import groupby
from pathlib import Path

from watchtower.ports import Place
from watchtower.store.exports.records import ExportMalformed
from watchtower.store.exports.source import ExportSource
from watchtower.store.exports.streams import StreamReader
from watchtower.store.place import CommitRow
from watchtower.store.source import RawRow, Unreadable


class SegmentArchive:
    """`ClosedSegment` over a directory. One reader at a time: a frame is decoded for each question."""

    def __init__(self, directory: Path) -> None:
        """Raises `ExportMalformed` if the directory is no archive."""
        self._source = ExportSource(directory)
        self._streams = StreamReader(directory, self._source.manifest)
        self._reading = threading.Lock()
        self.meta = self._source.meta
        self.last_id = self._source.manifest.last_position
        self.head = bytes.fromhex(self._source.manifest.head)

    def by_id(self, first_id: int, last_id: int) -> list[RawRow]:
        """Events with these ids, in order; raises `Unreadable`."""
        with self._reading:
            return self._source.rows(first_id, last_id)

    def by_stream(self, stream: str, first: int, last: int) -> list[RawRow]:
        """Events of a stream with versions from `first` to `last`, in order; raises `Unreadable`."""
        with self._reading:
            try:
                ids = self._streams.ids(stream, first, last)
            except ExportMalformed as error:
                raise Unreadable(str(error)) from None
            runs = groupby(enumerate(ids), key=lambda pair: pair[1] - pair[0])
            spans = [[event_id for _, event_id in run] for _, run in runs]
            return [row for span in spans for row in self._source.rows(span[0], span[-1])]

    def place(self, event_id: int) -> Place | None:
        """Where one of its events stands; raises `Unreadable`."""
        with self._reading:
            commit = self._source.commit_at(event_id)
        return None if commit is None else CommitRow(commit.last_id, commit.head, commit.leaves).place(event_id)

    def close(self) -> None:
        """Nothing stays open."""
