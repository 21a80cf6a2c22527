"""Versions of every stream are 1, 2, 3 … over the whole log, found out with bounded memory.

Each stretch notes the first and last version of the streams it saw, sorted into shares by a hash of the stream, in a
file of its own. At the end each share is joined over all stretches, one share at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import msgspec

from watchtower.audit.findings import ExitCode, Finding, cleaned
from watchtower.store.source import RawRow

SHARE_EVENTS = 1_000_000
"""Events of the log per share: not more streams than this are held in memory by a process."""

_encode = msgspec.msgpack.Encoder().encode


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """What one stretch saw of a stream: its first event (id, version) and its last version."""

    stream: bytes
    first_id: int
    first: int
    last: int


_decoder = msgspec.msgpack.Decoder(list[Seen])


class RunFile(msgspec.Struct, frozen=True):
    """A file of one stretch: its name in the scratch directory, SHA-256 (hex), sizes of its shares in bytes."""

    name: str
    sha256: str
    sizes: tuple[int, ...]


class DamagedRun(Exception):
    """A file of an interrupted run is not the one that was written."""


def shares_for(events: int) -> int:
    """How many shares a log of so many events gets."""
    return max(1, -(-events // SHARE_EVENTS))


def share_of(stream: bytes, shares: int) -> int:
    """The share that a stream belongs to: the same in every process and run."""
    return crc32(stream) % shares


class VersionRun:
    """The versions that one stretch sees, and the `findings` inside it."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._first: dict[str, tuple[int, int]] = {}
        self._last: dict[str, int] = {}

    def note(self, rows: Sequence[RawRow]) -> None:
        """Take rows in order of ids; their values have the right types."""
        last, first = self._last, self._first
        for event_id, stream, version, topic, _ in rows:
            before = last.get(stream)
            if before is None:
                first[stream] = (event_id, version)
            elif version != before + 1:
                self.findings.append(_gap(event_id, stream, topic, version, before))
            last[stream] = version

    def write(self, scratch: Path, name: str, shares: int) -> RunFile:
        """Put what was seen into a file; raises `OSError`."""
        lists: list[list[Seen]] = [[] for _ in range(shares)]
        for stream, (first_id, first) in self._first.items():
            key = stream.encode(errors="surrogateescape")
            lists[share_of(key, shares) if shares > 1 else 0].append(Seen(key, first_id, first, self._last[stream]))
        blobs = [_encode(each) for each in lists]
        content = b"".join(blobs)
        (scratch / name).write_bytes(content)
        return RunFile(name, sha256(content).hexdigest(), tuple(map(len, blobs)))


def join(scratch: Path, runs: Sequence[RunFile], share: int, begins: bool) -> tuple[int, list[Finding]]:
    """Number of streams of a share, and what is wrong between stretches. `begins`: every stream begins in this range.

    Raises `DamagedRun`.
    """
    known: dict[bytes, int] = {}
    findings = []
    for seen in _read(scratch, runs, share):
        before = known.get(seen.stream)
        if (before is not None or begins) and seen.first != (before or 0) + 1:
            stream = seen.stream.decode(errors="surrogateescape")
            findings.append(_gap(seen.first_id, stream, "", seen.first, before or 0))
        known[seen.stream] = seen.last
    return len(known), [cleaned(finding) for finding in findings]


def is_intact(scratch: Path, run: RunFile) -> bool:
    """True if the file is the one that was written."""
    try:
        return sha256((scratch / run.name).read_bytes()).hexdigest() == run.sha256
    except OSError:
        return False


def _read(scratch: Path, runs: Sequence[RunFile], share: int) -> Iterator[Seen]:
    for run in runs:
        with (scratch / run.name).open("rb") as file:
            file.seek(sum(run.sizes[:share]))
            content = file.read(run.sizes[share])
        try:
            yield from _decoder.decode(content)
        except msgspec.MsgspecError as error:
            raise DamagedRun(f"{scratch / run.name} was changed: {error}") from None


def _gap(event_id: int, stream: str, topic: str, version: int, before: int) -> Finding:
    if version <= before:
        words = f"stream {stream}: version {version} comes again behind version {before}"
    elif before == 0:
        words = f"stream {stream} begins with version {version}"
    else:
        words = f"stream {stream}: version {version} follows on version {before}"
    return Finding(code=ExitCode.ORDER, position=event_id, stream=stream, topic=topic, sentence=words)
