"""Receipts in plain files, as clients keep them (`receipts_path`) and auditors read them.

A directory has one file per channel; a line is body and signature of one receipt in hexadecimal digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from domain.contract.receipts import SIGNED_RECEIPT_SIZE, SignedReceipt
from domain.errors import MalformedInput

SUFFIX = ".receipts"


def read_receipts(directory: Path) -> Iterator[SignedReceipt]:
    """The receipts in the files of a directory. Signatures are not checked; `MalformedInput` names a damaged line."""
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        yield from read_receipt_file(path)


def read_receipt_file(path: Path) -> Iterator[SignedReceipt]:
    """The receipts in one file, in order. Raises `OSError`, and `MalformedInput` for a damaged line."""
    for number, line in enumerate(path.read_text(encoding="ascii", errors="replace").splitlines(), 1):
        yield _read_line(line.strip(), f"{path.name}:{number}")


def _read_line(line: str, place: str) -> SignedReceipt:
    try:
        return SignedReceipt.decode(bytes.fromhex(line))
    except (ValueError, MalformedInput):
        raise MalformedInput(
            f"{place} is no receipt: a line has {2 * SIGNED_RECEIPT_SIZE} hexadecimal digits"
        ) from None
