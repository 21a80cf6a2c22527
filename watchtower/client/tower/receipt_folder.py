"""Receipts in plain files, for clients that have no party store and for auditors: one file per channel, append-only.

A line is body and signature of one receipt in hexadecimal digits. A last line that a crash cut off was never relied on
and is dropped at the next opening.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from domain.contract.receipts import SIGNED_RECEIPT_SIZE, SignedReceipt
from watchtower.client.errors import ConfigurationError
from watchtower.host.durable import sync_path
from watchtower.receipts.files import SUFFIX, read_receipts

_LINE = 2 * SIGNED_RECEIPT_SIZE + 1


class ReceiptFolder:
    """Keeps receipts durably. One client per directory."""

    def __init__(self, directory: Path) -> None:
        """Makes the directory if needed (private to its owner); `ConfigurationError` if it cannot be used."""
        self._directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in directory.glob(f"*{SUFFIX}"):
                _cut_torn_line(path)
        except OSError as error:
            raise ConfigurationError(f"receipts_path {directory} cannot be used: {error.strerror}") from None

    def add(self, signed: SignedReceipt) -> None:
        """Append a checked receipt; durable when it returns. `ConfigurationError` if it cannot be written."""
        path = self._directory / f"{signed.read().subject.hex()}{SUFFIX}"
        line = signed.encode().hex().encode() + b"\n"
        try:
            is_new = not path.exists()
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                _append(descriptor, line)
            finally:
                os.close(descriptor)
            if is_new:
                sync_path(self._directory)
        except OSError as error:
            raise ConfigurationError(f"the receipt cannot be kept in {path}: {error.strerror}") from None

    def read(self) -> Iterator[SignedReceipt]:
        """All receipts, per channel in the order in which they came. `MalformedInput` names a damaged line."""
        return read_receipts(self._directory)


def _append(descriptor: int, line: bytes) -> None:
    """All of the line, durably, or nothing: a full disk takes a part, and the next line would stand behind it."""
    size = os.fstat(descriptor).st_size
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, "only a part of the line was written")
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _cut_torn_line(path: Path) -> None:
    size = path.stat().st_size
    if size % _LINE == 0:
        return
    with path.open("rb+") as file:
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        os.fsync(file.fileno())
