"""The high-water mark: how far the log had come, kept in a file outside the database.

A log alone cannot tell that it is an older copy of itself. The mark can: a log that does not reach it was rolled
back, a log with another head there has another history. Best kept on another volume than the log.
"""

from __future__ import annotations

import os
import tempfile
from enum import Enum
from pathlib import Path
from typing import ClassVar

import msgspec

from watchtower.host.durable import sync_path
from watchtower.host.hygiene import give_to_owner
from watchtower.ports import StoreError
from watchtower.store.source import LogSource, commit_holding

MAX_SIZE = 1_024
"""Bytes of a file that may be a mark; what is longer is none."""


class HighWaterDamaged(StoreError):
    """The file is there and is no high-water mark: nobody knows how far the log had come."""

    slug: ClassVar[str] = "high-water-damaged"


class HighWater(msgspec.Struct, frozen=True):
    """Which log had come how far: `position` events, then the chain head was `head` (32 bytes). Holds no secret.

    `epoch` counts how often the log went on from an older copy.
    """

    origin: str
    log_id: bytes
    epoch: int
    position: int
    head: bytes

    def encode(self) -> str:
        """Five lines of text, a name and a value each."""
        lines = (self.origin, self.log_id.hex(), self.epoch, self.position, self.head.hex())
        return "".join(f"{name} {value}\n" for name, value in zip(self.__struct_fields__, lines, strict=True))

    @classmethod
    def decode(cls, text: str) -> HighWater:
        """Read `encode` back; raises `HighWaterDamaged`."""
        pairs = [line.split(" ", 1) for line in text.splitlines()]
        if [pair[0] for pair in pairs] != list(cls.__struct_fields__) or any(len(pair) != 2 for pair in pairs):
            raise HighWaterDamaged("a high-water mark has the lines origin, log_id, epoch, position and head")
        origin, log_id, epoch, position, head = (value for _, value in pairs)
        try:
            mark = cls(origin, bytes.fromhex(log_id), int(epoch), int(position), bytes.fromhex(head))
        except ValueError as error:
            raise HighWaterDamaged(f"the high-water mark cannot be read: {error}") from None
        if (
            mark.encode() != text
            or len(mark.log_id) != 16
            or len(mark.head) != 32
            or min(mark.epoch, mark.position) < 0
        ):
            raise HighWaterDamaged("the high-water mark cannot be read: a value has the wrong form")
        return mark


class Comparison(Enum):
    """What a log is beside a mark; the value is the exit code of the audit commands."""

    FITS = 0
    DIFFERENT = 40
    SHORTER = 41


def compare(mark: HighWater, source: LogSource) -> Comparison:
    """Whether a log contains the marked place with the marked head; raises `StoreError`."""
    if mark.log_id != source.meta.log_id:
        return Comparison.DIFFERENT
    if source.last_commit().last_id < mark.position:
        return Comparison.SHORTER
    start = source.meta.start()
    at = start if mark.position == start.last_id else commit_holding(source, mark.position)
    fits = at is not None and (at.last_id, at.head) == (mark.position, mark.head)
    return Comparison.FITS if fits else Comparison.DIFFERENT


def mark_of(source: LogSource, epoch: int) -> HighWater:
    """How far a log has come now."""
    tip = source.last_commit()
    return HighWater(source.meta.origin, source.meta.log_id, epoch, tip.last_id, tip.head)


def read_high_water(path: Path) -> HighWater | None:
    """The mark in a file; None if there is no file. Raises `HighWaterDamaged`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SIZE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HighWaterDamaged(f"{path} cannot be read ({error.strerror}); see store.high_water_path") from None
    try:
        if len(content) > MAX_SIZE:
            raise HighWaterDamaged("the file is too long")
        return HighWater.decode(content.decode())
    except UnicodeDecodeError:
        raise HighWaterDamaged(f"{path}: no text; see docs/backup.md") from None
    except HighWaterDamaged as error:
        raise HighWaterDamaged(f"{path}: {error}; see docs/backup.md") from None


def write_high_water(path: Path, mark: HighWater) -> None:
    """Replace the file durably: a crash leaves the old mark or the new one. Raises `OSError`."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(mark.encode())
            file.flush()
            give_to_owner(file.fileno(), path.parent)
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_path(path.parent)
