"""What an export says about itself: `manifest.json` in the canonical form of RFC 8785.

Nothing in it depends on the clock, the machine or the place of the store: the same log gives the same bytes.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Annotated

import msgspec
from msgspec import Meta

from domain.canonical_json import decode_state_data, encode_state_data
from domain.errors import MalformedInput
from watchtower.store.exports.records import ExportMalformed, RecordFile

FORMAT = "watchtower-export/1"
MANIFEST, README, SUMS, SIGNATURE = "manifest.json", "README.txt", "SHA256SUMS", "manifest.sig"

MAX_MANIFEST = 256 << 20
"""Bytes of a manifest that is read: enough for the frames of ten billion events."""

Hex32 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Hex16 = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]


_NAME = re.compile(r"(events|entries|commits|streams)/[0-9]{12,16}\.zst")


class Segment(msgspec.Struct, frozen=True):
    """A file of the log: its first event and commit, and the head that its chain continues (hex)."""

    segment: Count
    first_leaf: Count
    first_id: Count
    prev_head: Hex32
    first_commit: Count


class Digests(msgspec.Struct, frozen=True):
    """Read models folded from the first event to `position`: version per projection, SHA-256 (hex) per table."""

    position: Count
    versions: dict[str, Count]
    tables: dict[str, Hex32]


class Versions(msgspec.Struct, frozen=True):
    """What made the export. Another version of zstd may compress to other bytes."""

    software: str
    zstd: str


class ListedFile(msgspec.Struct, frozen=True):
    """A file of the export that holds no records."""

    name: str
    sha256: Hex32
    size: Count


class Manifest(msgspec.Struct, frozen=True):
    """Positions are ids and dense; `start_head` stands before commit `first_commit`, `head` behind `last_commit`.

    An archived segment has `streams` too: where the events of each stream are. `stream_keys` has the first stream of
    each of their frames.
    """

    format: str
    log_id: Hex16
    origin: str
    schema: Count
    first_position: Count
    last_position: Count
    first_commit: Count
    last_commit: Count
    start_head: Hex32
    head: Hex32
    entries_only: bool
    segments: tuple[Segment, ...]
    events: tuple[RecordFile, ...]
    entries: tuple[RecordFile, ...]
    commits: tuple[RecordFile, ...]
    files: tuple[ListedFile, ...]
    digests: Digests | None
    versions: Versions
    streams: tuple[RecordFile, ...] = ()
    stream_keys: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """True if the export begins with the first event of the log."""
        return self.first_position == 1

    def record_files(self) -> tuple[RecordFile, ...]:
        """All files with records."""
        return self.events + self.entries + self.commits + self.streams

    def listed(self) -> dict[str, tuple[str, int]]:
        """SHA-256 (hex) and bytes of every listed file, by name."""
        everything: tuple[RecordFile | ListedFile, ...] = (*self.record_files(), *self.files)
        return {file.name: (file.sha256, file.size) for file in everything}


def encode_manifest(manifest: Manifest) -> bytes:
    """The canonical bytes."""
    return encode_state_data(msgspec.to_builtins(manifest))


def decode_manifest(raw: bytes) -> Manifest:
    """Read and check a manifest; raises `ExportMalformed` that says what is wrong with it."""
    try:
        manifest = msgspec.convert(decode_state_data(raw), Manifest, strict=True)
    except MalformedInput:
        raise ExportMalformed(f"{MANIFEST} is no JSON in the canonical form of RFC 8785; it was changed") from None
    except msgspec.ValidationError as error:
        raise ExportMalformed(f"{MANIFEST} is no manifest of an export: {error}") from None
    if manifest.format != FORMAT:
        raise ExportMalformed(f"{MANIFEST} says format {manifest.format!r}; this program reads {FORMAT}")
    if not manifest.segments or not 0 < manifest.first_position <= manifest.last_position:
        raise ExportMalformed(f"{MANIFEST} names no events")
    names = [file.name for file in manifest.record_files()]
    if any(_NAME.fullmatch(name) is None for name in names) or len(set(names)) != len(names):
        raise ExportMalformed(f"{MANIFEST} lists a file that cannot be part of an export")
    if any(PurePosixPath(file.name).name != file.name for file in manifest.files):
        raise ExportMalformed(f"{MANIFEST} lists a file outside the export")
    _check_run("events", manifest.events, manifest.first_position, manifest.last_position, manifest.entries_only)
    _check_run("entries", manifest.entries, manifest.first_position, manifest.last_position)
    _check_run("commits", manifest.commits, manifest.first_commit, manifest.last_commit)
    _check_run("streams", manifest.streams, 1, sum(file.records for file in manifest.streams))
    if len(manifest.stream_keys) != sum(len(file.frames) for file in manifest.streams):
        raise ExportMalformed(f"{MANIFEST} does not name a stream for each frame of streams")
    return manifest


def _check_run(kind: str, files: tuple[RecordFile, ...], first: int, last: int, absent: bool = False) -> None:
    """The files of a kind hold its records from the first to the last, once and in order."""
    if absent and not files:
        return
    at = first
    for file in files:
        if file.first != at or not file.name.startswith(kind + "/") or any(f.records < 1 for f in file.frames):
            raise ExportMalformed(f"{MANIFEST} does not list the {kind} in one run: {file.name} begins at {file.first}")
        if file.size != sum(frame.size for frame in file.frames) or any(frame.size < 1 for frame in file.frames):
            raise ExportMalformed(f"{MANIFEST} lists {file.name} with a size that its frames do not have")
        at += file.records
    if at != last + 1 or absent:
        raise ExportMalformed(f"{MANIFEST} lists {kind} up to {at - 1}, not up to {last}")


def read_manifest(directory: Path) -> Manifest:
    """The manifest of an export; raises `ExportMalformed`."""
    path = directory / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST:
            raise ExportMalformed(f"{MANIFEST} is larger than any manifest")
        return decode_manifest(path.read_bytes())
    except FileNotFoundError:
        raise ExportMalformed(f"{directory} has no {MANIFEST}; it is no export, or one that was cut off") from None
    except OSError as error:
        raise ExportMalformed(f"{MANIFEST} cannot be read ({error.strerror})") from None
