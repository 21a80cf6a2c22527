"""The power goes: what a database's writes and syncs leave on a disk that keeps only what was synced.

    statements = recorded(monkeypatch, path, lambda: grow(path))     # what our code says to SQLite
    run = driven(base, directory, statements)                        # the same, through a traced file system
    for image in images(run, random.Random(1), 3):                   # what may be on the disk at some moment
        image.write(directory)

A disk may keep any of the writes since the last sync of a file, in any order, and of each of them any sectors. Bytes
beside a write are never hurt: SQLite assumes that too (SQLITE_IOCAP_POWERSAFE_OVERWRITE).
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""

WAL = "-wal"
KEPT_FILES = ("", WAL)
"""The database and its write-ahead log; the shared memory beside them is made anew after a loss of power."""


class Write(msgspec.Struct, frozen=True):
    """Bytes at a place of a file."""

    file: str
    at: int
    content: bytes


class Cut(msgspec.Struct, frozen=True):
    """A file gets this size."""

    file: str
    size: int


class Sync(msgspec.Struct, frozen=True):
    """Everything written to a file before is durable."""

    file: str


class Told(msgspec.Struct, frozen=True):
    """A commit returned; `value` is the answer to the question that was asked behind it."""

    value: int


Step = Write | Cut | Sync | Told


class Run(msgspec.Struct, frozen=True):
    """What was there before, by suffix of the file's name, and all that happened since."""

    before: dict[str, bytes]
    steps: tuple[Step, ...]


class Image(msgspec.Struct, frozen=True):
    """What may be on the disk after a loss of power; `told` is the last answer before it (0: none)."""

    files: dict[str, bytes]
    told: int
    moment: int

    def write(self, path: Path) -> None:
        """Put the files in place of a database and its write-ahead log."""
        path.parent.mkdir()
        for suffix, content in self.files.items():
            path.with_name(path.name + suffix).write_bytes(content)


# ── what our code says to SQLite ─────────────────────────────────────────────────────────────────────────


def recorded(monkeypatch: pytest.MonkeyPatch, path: Path, work: Callable[[], None]) -> list[str]:
    """Every statement of the connection that writes the file at `path` while `work` runs, values filled in."""
    statements: list[str] = []
    connect = sqlite3.connect

    def tapped(address: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(address, **options)
        if str(address).startswith(f"file:{path}?mode=rw"):
            connection.set_trace_callback(statements.append)
        return connection

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", tapped)
        work()
    return [each for each in statements if not each.startswith("--")]  # trace names triggers in comments


# ── the same through a traced file system ────────────────────────────────────────────────────────────────


class _TracedFile(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], base: str, steps: list[Step]) -> None:
        self._suffix, self._steps = _suffix(name, base), steps
        super().__init__("", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        self._steps.append(Write(self._suffix, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self._steps.append(Cut(self._suffix, newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        self._steps.append(Sync(self._suffix))
        super().xSync(flags)


class _TracedDisk(apsw.VFS):
    NAME = "traced"

    def __init__(self, base: str, steps: list[Step]) -> None:
        self._base, self._steps = base, steps
        super().__init__(self.NAME, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _TracedFile(name, flags, self._base, self._steps)


def _suffix(name: Any, base: str) -> str:
    found = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
    return found.removeprefix(base)


def driven(base: Path, directory: Path, statements: Sequence[str], *, ask: str, changed: Sequence[str] = ()) -> Run:
    """Say the statements to a copy of `base`, with those of `changed` behind the first settings; ask after each commit.

    `ask` is a query for one number. The connection is never closed: that would write again.
    """
    path = Path(shutil.copy(base, directory / "driven.db"))
    before = {"": path.read_bytes()}
    steps: list[Step] = []
    disk = _TracedDisk(str(path), steps)
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=disk.NAME)
    try:
        begun = False
        for statement in statements:
            if not begun and statement.startswith("BEGIN"):
                begun = True
                for each in changed:
                    connection.execute(each).fetchall()
            with suppress(apsw.ConstraintError):  # what was refused in the real run is refused here
                connection.execute(statement).fetchall()
            if statement == "COMMIT":
                steps.append(Told(int(connection.execute(ask).get)))
        return Run(before, tuple(steps))
    finally:
        connection.close()
        disk.unregister()


# ── what may be on the disk ──────────────────────────────────────────────────────────────────────────────


class _File:
    """A file on the disk: its durable bytes, and the changes that no sync has covered."""

    def __init__(self, durable: bytes) -> None:
        self.durable = durable
        self.pending: list[Write | Cut] = []

    def sync(self) -> None:
        self.durable, self.pending = _applied(self.durable, self.pending), []

    def survivors(self, chance: random.Random) -> bytes:
        """The durable bytes and some of the others, reordered and torn."""
        kept: list[Write | Cut] = []
        share = chance.choice((0.0, 0.5, 0.9, 1.0))
        for change in self.pending:
            if isinstance(change, Cut):
                kept += [change] if chance.random() < share else []
            else:
                kept += [piece for piece in _sectors(change) if chance.random() < share]
        if chance.random() < 0.5:
            chance.shuffle(kept)
        return _applied(self.durable, kept)


def _sectors(write: Write) -> Iterator[Write]:
    at, end = write.at, write.at + len(write.content)
    while at < end:
        border = min(end, (at // SECTOR + 1) * SECTOR)
        yield Write(write.file, at, write.content[at - write.at : border - write.at])
        at = border


def _applied(content: bytes, changes: Sequence[Write | Cut]) -> bytes:
    made = bytearray(content)
    for change in changes:
        if isinstance(change, Cut):
            del made[change.size :]
            made.extend(bytes(max(0, change.size - len(made))))
        else:
            made.extend(bytes(max(0, change.at - len(made))))
            made[change.at : change.at + len(change.content)] = change.content
    return bytes(made)


def images(run: Run, chance: random.Random, each: int) -> Iterator[Image]:
    """The least that is left, and `each` random remains, at every moment before and after a sync and an answer."""
    files = {suffix: _File(run.before.get(suffix, b"")) for suffix in KEPT_FILES}
    told = 0
    for moment, step in enumerate(run.steps):
        match step:
            case Write(file=file) | Cut(file=file):
                files[file].pending.append(step)
            case Sync(file=file):
                yield from _remains(files, told, moment, chance, each)
                files[file].sync()
            case Told(value=value):
                told = value
                yield from _remains(files, told, moment, chance, each)


def _remains(files: dict[str, _File], told: int, moment: int, chance: random.Random, each: int) -> Iterator[Image]:
    yield Image({suffix: file.durable for suffix, file in files.items()}, told, moment)
    if any(file.pending for file in files.values()):
        for _ in range(each):
            yield Image({suffix: file.survivors(chance) for suffix, file in files.items()}, told, moment)
