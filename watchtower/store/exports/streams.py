"""Where the events of each stream are in an archived segment: records sorted by stream and version.

A record is `u8 n | stream, n bytes | u64 version of the first event | u64 id` for each event; a stream with many
events has several records.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from watchtower.store.exports.manifest import Manifest
from watchtower.store.exports.records import FILE_RECORDS, ExportMalformed, RecordFile, RecordReader, RecordWriter

MOST_IDS = 4_096
"""Events of one record: 32 kB."""


def write_streams(
    directory: Path, index: Iterable[tuple[str, int, int]]
) -> tuple[tuple[RecordFile, ...], tuple[str, ...]]:
    """Write the records for (stream, version, id) in order; the files, and the first stream of each frame."""
    files: list[RecordFile] = []
    keys: list[str] = []
    number, writer = 1, RecordWriter(directory, f"streams/{1:012}.zst", 1)
    for stream, record in _records(index):
        if number - writer.first == FILE_RECORDS:
            files.append(writer.finish())
            writer = RecordWriter(directory, f"streams/{number:012}.zst", number)
        if writer.begins_frame:
            keys.append(stream)
        writer.add(record)
        number += 1
    files.append(writer.finish())
    return tuple(files), tuple(keys)


def _records(index: Iterable[tuple[str, int, int]]) -> Iterator[tuple[str, bytes]]:
    for stream, group in groupby(index, key=lambda row: row[0]):
        rows = list(group)
        for start in range(0, len(rows), MOST_IDS):
            part = rows[start : start + MOST_IDS]
            yield stream, write_stream(stream, part[0][1], [row[2] for row in part])


def write_stream(stream: str, first: int, ids: Sequence[int]) -> bytes:
    """One record; versions follow each other from `first` on."""
    name = stream.encode()
    return bytes((len(name),)) + name + struct.pack(f">{len(ids) + 1}Q", first, *ids)


def read_stream(raw: bytes) -> tuple[str, int, tuple[int, ...]]:
    """Stream, first version, ids; raises `ExportMalformed`."""
    end = 1 + raw[0] if raw else 0
    count, rest = divmod(len(raw) - end, 8)
    if rest or count < 2:
        raise ExportMalformed(f"{len(raw)} bytes do not say where a stream is")
    first, *ids = struct.unpack(f">{count}Q", raw[end:])
    return raw[1:end].decode(errors="replace"), first, tuple(ids)


class StreamReader:
    """Finds the events of a stream. Not for several threads."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self._records = RecordReader(directory, manifest.streams)
        self._keys = manifest.stream_keys
        self._starts = [1]
        for frame in (frame for file in manifest.streams for frame in file.frames):
            self._starts.append(self._starts[-1] + frame.records)

    def ids(self, stream: str, first: int, last: int) -> list[int]:
        """Ids of the events with versions from `first` to `last`, in order. Raises `ExportMalformed`."""
        found: list[int] = []
        for name, version, ids in self._from(max(0, bisect_left(self._keys, stream) - 1)):
            if name > stream or (name == stream and version > last):
                break
            if name == stream:
                found += ids[max(0, first - version) : max(0, last - version + 1)]
        return found

    def all(self) -> Iterator[tuple[str, int, int]]:
        """Stream, version and id of all events, in order."""
        for name, version, ids in self._from(0):
            for place, event_id in enumerate(ids):
                yield name, version + place, event_id

    def _from(self, frame: int) -> Iterator[tuple[str, int, tuple[int, ...]]]:
        last = self._starts[-1] - 1
        return map(read_stream, self._records.read(self._starts[frame], last)) if last else iter(())
