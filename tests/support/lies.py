"""Changes of single fields of events, and logs to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from domain.chain import BlockRef
from domain.transaction import Transaction, TxOut
from watchtower.audit.findings import ExitCode

SIGNATURE, RULE = ExitCode.SIGNATURE, ExitCode.RULE


Change = Callable[[Any], dict[str, object]]


def flip(value: bytes, at: int) -> bytes:
    """With the lowest bit of one byte changed."""
    return value[:at] + bytes((value[at] ^ 1,)) + value[at + 1 :]


def signed(side: str, name: str) -> Change:
    """One bit of one of the eight signatures."""

    def change(event: Any) -> dict[str, object]:
        signatures = getattr(event, side)
        return {side: msgspec.structs.replace(signatures, **{name: flip(getattr(signatures, name), 40)})}

    return change


def elsewhere(event: Any) -> dict[str, object]:
    """The same height in another block."""
    return {"block": BlockRef(event.block.height, bytes(32))}


def paid_elsewhere(event: Any) -> dict[str, object]:
    """A penalty to another script, with the txid that belongs to it."""
    tx = Transaction.parse(event.raw)
    output = TxOut(tx.outputs[0].value, b"\x51\x20" + bytes(31) + b"\x01")
    changed = msgspec.structs.replace(tx, outputs=(output,))
    return {"raw": changed.serialize(), "txid": changed.txid}
