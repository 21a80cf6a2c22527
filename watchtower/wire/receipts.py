"""Bodies of receipts."""

from __future__ import annotations

import msgspec

from domain.contract.receipt_proofs import ANSWER_SIZE
from domain.contract.receipts import LOG_RECEIPT_SIZE, SignedReceipt
from watchtower.wire.hexes import Hex, Hex64


class ReceiptHex(Hex):
    """The bytes of `RCP2`."""

    SIZE = LOG_RECEIPT_SIZE


class SignedReceiptBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A receipt: the 204 bytes that the tower signed (docs/receipts.md) and its signature."""

    body: ReceiptHex
    signature: Hex64

    def signed(self) -> SignedReceipt:
        """The receipt; nothing is checked."""
        return SignedReceipt(bytes(self.body), bytes(self.signature))


class AnswerHex(Hex):
    """The bytes of `RCA1`."""

    SIZE = ANSWER_SIZE


class ReceiptAnswerBody(msgspec.Struct, frozen=True, kw_only=True):
    """What the tower's log holds at the position of a receipt: the 164 bytes that it signed, and the signature."""

    body: AnswerHex
    signature: Hex64


def body_of(signed: SignedReceipt | None) -> SignedReceiptBody | None:
    """The API form of a receipt, or of none."""
    if signed is None:
        return None
    return SignedReceiptBody(body=ReceiptHex(signed.body), signature=Hex64(signed.signature))
