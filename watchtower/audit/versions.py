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

from watchtower.audit.findings import ExitCode, Finding, printable
from watchtower.store.source import RawRow

SHARE_EVENTS = 2_000_000
"""Events of the log per share: not more streams than this are held in memory by a process."""

MOST_SHARES = 1_000
"""Shares of the longest log; a changed number at the end of a chain may name any length."""

_encode = msgspec.msgpack.Encoder().encode


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """What one stretch saw of the streams of one share, as columns: names, first event (id, version), last version."""

    streams: list[str]
    first_ids: list[int]
    firsts: list[int]
    lasts: list[int]


_decoder = msgspec.msgpack.Decoder(Seen)


class RunFile(msgspec.Struct, frozen=True):
    """A file of one stretch: its name in the scratch directory, SHA-256 (hex), sizes of its shares in bytes."""

    name: str
    sha256: str
    sizes: tuple[int, ...]


class DamagedRun(OSError):
    """A file of an interrupted run is not the one that was written."""


def shares_for(events: int) -> int:
    """How many shares a log of so many events gets."""
    return min(MOST_SHARES, max(1, -(-events // SHARE_EVENTS)))


def share_of(stream: str, shares: int) -> int:
    """The share that a stream belongs to: the same in every process and run."""
    return crc32(stream.encode(errors="surrogateescape")) % shares


class VersionRun:
    """The versions that one stretch sees, and the `findings` inside it."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._first_ids: dict[str, int] = {}
        self._firsts: dict[str, int] = {}
        self._lasts: dict[str, int] = {}

    def note(self, rows: Sequence[RawRow]) -> None:
        """Take rows in order of ids; their values have the right types."""
        lasts, firsts, first_ids = self._lasts, self._firsts, self._first_ids
        for event_id, stream, version, topic, _ in rows:
            before = lasts.get(stream)
            if before is None:
                first_ids[stream], firsts[stream] = event_id, version
            elif version != before + 1:
                self.findings.append(_gap(event_id, stream, topic, version, before))
            lasts[stream] = version

    def write(self, scratch: Path, name: str, shares: int) -> RunFile:
        """Put what was seen into a file; raises `OSError`."""
        blobs = [_encode(seen) for seen in self._seen(shares)]
        content = b"".join(blobs)
        (scratch / name).write_bytes(content)
        return RunFile(name, sha256(content).hexdigest(), tuple(map(len, blobs)))

    def _seen(self, shares: int) -> list[Seen]:
        """The columns of every share; the three dictionaries have their keys in the same order."""
        names = list(map(printable, self._lasts))
        columns = [list(each.values()) for each in (self._first_ids, self._firsts, self._lasts)]
        if shares == 1:
            return [Seen(names, *columns)]
        lists = [Seen([], [], [], []) for _ in range(shares)]
        for stream, first_id, first, last in zip(names, *columns, strict=True):
            seen = lists[share_of(stream, shares)]
            seen.streams.append(stream)
            seen.first_ids.append(first_id)
            seen.firsts.append(first)
            seen.lasts.append(last)
        return lists


def join(scratch: Path, runs: Sequence[RunFile], share: int, begins: bool) -> tuple[int, list[Finding]]:
    """Number of streams of a share, and what is wrong between stretches. `begins`: every stream begins in this range.

    Raises `DamagedRun`.
    """
    known: dict[str, int] = {}
    findings = []
    for seen in _read(scratch, runs, share):
        for stream, first_id, first, last in zip(seen.streams, seen.first_ids, seen.firsts, seen.lasts, strict=True):
            before = known.get(stream)
            if (before is not None or begins) and first != (before or 0) + 1:
                findings.append(_gap(first_id, stream, "", first, before or 0))
            known[stream] = last
    return len(known), findings


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
            yield _decoder.decode(content)
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
