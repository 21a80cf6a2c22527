"""Receipts in plain files, as clients keep them (`receipts_path`) and auditors read them.

A directory has one file per channel; a line is body and signature of one receipt in hexadecimal digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


def write_receipts(directory: Path, receipts: Iterable[tuple[str, str]]) -> int:
    """Write channel ids and receipts (hexadecimal) as files of channels, replacing them; the number of files.

    Private to their owner: they tell which channels there are. Raises `OSError`.
    """
    lines: dict[str, list[str]] = {}
    for channel_id, receipt in receipts:
        lines.setdefault(channel_id, []).append(receipt)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for channel_id, found in lines.items():
        path = directory / f"{channel_id}{SUFFIX}"
        path.touch(mode=0o600)
        path.write_text("".join(f"{line}\n" for line in found), encoding="ascii")
    return len(lines)


def _read_line(line: str, place: str) -> SignedReceipt:
    try:
        return SignedReceipt.decode(bytes.fromhex(line))
    except (ValueError, MalformedInput):
        raise MalformedInput(
            f"{place} is no receipt: a line has {2 * SIGNED_RECEIPT_SIZE} hexadecimal digits"
        ) from None
