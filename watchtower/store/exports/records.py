"""Record files: many byte strings in one file of small zstd frames, readable from the middle and by any zstd tool.

A record is `u32 length | bytes` (big-endian). A frame holds at most 1,024 records and is closed by the one that takes
it to 1 MiB; a file is its frames, one behind the other, and holds at most 65,536 records. No frame carries a checksum
of its own: every file has its SHA-256 in the manifest, and what a damaged frame still gives must not be withheld by
the decompressor, because it shows which record is the first that differs.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import zstandard

from watchtower.ports import StoreError

LEVEL = 3
FILE_RECORDS = 65_536
FRAME_RECORDS = 1_024
FRAME_BYTES = 1 << 20

LARGEST_FRAME = 4 << 20
"""Bytes of a decompressed frame: 1 MiB and one more record (an event of 1 MiB, a commit of 50,000 leaves) fit in."""

_SALVAGE_STEP = 64
"""Bytes fed at once to the decompressor of a damaged frame; what came out before it stops is kept."""


class ExportMalformed(StoreError):
    """A file or the manifest of an export is not what an export consists of (exit 10)."""

    slug = "export-malformed"


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """Compressed bytes and records of one frame."""

    size: int
    records: int


class RecordFile(msgspec.Struct, frozen=True):
    """One written file: name inside the directory, SHA-256 (hex) and bytes, number of its first record, its frames."""

    name: str
    sha256: str
    size: int
    first: int
    frames: tuple[Frame, ...]

    @property
    def records(self) -> int:
        """Records in the file."""
        return sum(frame.records for frame in self.frames)

    @property
    def last(self) -> int:
        """Number of its last record."""
        return self.first + self.records - 1


class RecordWriter:
    """Writes one file record by record; `finish` makes it durable. An unfinished one is overwritten by the next try."""

    def __init__(self, directory: Path, name: str, first: int) -> None:
        """`first` is the number of the first record."""
        path = directory / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._name, self.first = name, first
        self._file = path.open("wb")
        self._compress = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False, write_content_size=True).compress
        self._digest, self._frames = hashlib.sha256(), list[Frame]()
        self._raw, self._waiting = bytearray(), 0

    @property
    def begins_frame(self) -> bool:
        """True if the next record is the first of a frame."""
        return self._waiting == 0

    def add(self, record: bytes) -> None:
        """Append a record."""
        self._raw += len(record).to_bytes(4, "big")
        self._raw += record
        self._waiting += 1
        if self._waiting == FRAME_RECORDS or len(self._raw) >= FRAME_BYTES:
            self._close_frame()

    def finish(self) -> RecordFile:
        """Write what is left, sync and close; the facts of the file."""
        if self._waiting:
            self._close_frame()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        size = sum(frame.size for frame in self._frames)
        return RecordFile(self._name, self._digest.hexdigest(), size, self.first, tuple(self._frames))

    def abandon(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def _close_frame(self) -> None:
        compressed = self._compress(bytes(self._raw))
        self._file.write(compressed)
        self._digest.update(compressed)
        self._frames.append(Frame(len(compressed), self._waiting))
        self._raw, self._waiting = bytearray(), 0


def decode_frame(compressed: bytes, frame: Frame) -> list[bytes]:
    """The records of a frame; raises `ExportMalformed` if it is damaged or holds another number of them."""
    try:
        if not 0 < zstandard.frame_content_size(compressed) <= LARGEST_FRAME:
            raise ExportMalformed("a frame does not say its size, or is larger than any frame of an export")
        raw = zstandard.ZstdDecompressor().decompress(compressed, max_output_size=LARGEST_FRAME, allow_extra_data=False)
    except zstandard.ZstdError:
        raise ExportMalformed("a frame cannot be decompressed") from None
    records, rest = split_records(raw, frame.records)
    if rest or len(records) != frame.records:
        raise ExportMalformed(
            f"a frame holds {len(records)} records and {rest} bytes more, not {frame.records} records"
        )
    return records


def split_records(raw: bytes, most: int = FILE_RECORDS) -> tuple[list[bytes], int]:
    """The whole records at the front, at most so many, and how many bytes stand behind them."""
    records: list[bytes] = []
    at, end = 0, len(raw)
    while at + 4 <= end and len(records) < most:
        length = int.from_bytes(raw[at : at + 4], "big")
        if at + 4 + length > end:
            break
        records.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    return records, end - at


def salvage(compressed: bytes, most: int) -> list[bytes]:
    """The first records, at most so many, that a damaged or cut frame still gives; wrong ones are among them."""
    stream, raw = zstandard.ZstdDecompressor().decompressobj(), bytearray()
    try:
        for at in range(0, len(compressed), _SALVAGE_STEP):
            raw += stream.decompress(compressed[at : at + _SALVAGE_STEP])
            if len(raw) > LARGEST_FRAME:
                break
    except zstandard.ZstdError:
        pass  # what was decompressed before is the answer
    return split_records(bytes(raw), most)[0]


class RecordReader:
    """Records by number across the files of one kind, in order; a few decoded frames stay in memory.

    Opens nothing before the first read. Not for several threads.
    """

    def __init__(self, directory: Path, files: Sequence[RecordFile]) -> None:
        self._directory, self._files = directory, tuple(files)
        self._firsts = [file.first for file in self._files]
        self._kept: dict[tuple[int, int], list[bytes]] = {}

    def read(self, first: int, last: int) -> Iterator[bytes]:
        """Records `first` to `last` (both included); raises `ExportMalformed` if one of them is not there."""
        wanted = first
        for place in range(max(0, bisect_right(self._firsts, first) - 1), len(self._files)):
            if wanted > last:
                return
            for record in self._of_file(place, wanted, last):
                wanted += 1
                yield record
        if wanted <= last:
            raise ExportMalformed(f"record {wanted} is in no file of the export")

    def _of_file(self, place: int, first: int, last: int) -> Iterator[bytes]:
        file = self._files[place]
        number, offset = file.first, 0
        for index, frame in enumerate(file.frames):
            end = number + frame.records - 1
            if number > last:
                return
            if end >= first:
                records = self._frame(place, index, offset)
                yield from records[max(0, first - number) : last - number + 1]
            number, offset = end + 1, offset + frame.size

    def _frame(self, place: int, index: int, offset: int) -> list[bytes]:
        kept = self._kept.get((place, index))
        if kept is not None:
            return kept
        file = self._files[place]
        try:
            records = decode_frame(
                read_frame(self._directory / file.name, offset, file.frames[index]), file.frames[index]
            )
        except ExportMalformed as error:
            raise ExportMalformed(f"{file.name}: {error}") from None
        self._kept[(place, index)] = records
        if len(self._kept) > _KEPT_FRAMES:
            del self._kept[next(iter(self._kept))]
        return records


_KEPT_FRAMES = 4


def read_frame(path: Path, offset: int, frame: Frame) -> bytes:
    """The compressed bytes of a frame; fewer if the file is cut. Raises `ExportMalformed` if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(frame.size)
    except OSError as error:
        raise ExportMalformed(f"{path.name} cannot be read ({error.strerror})") from None


def file_fault(path: Path, sha256: str, size: int) -> str | None:
    """What is wrong with a file, None if nothing is."""
    try:
        found = path.stat().st_size
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(FRAME_BYTES):
                digest.update(block)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if found != size:
        return f"has {found} bytes, not {size}"
    return None if digest.hexdigest() == sha256 else "has a wrong digest"
