"""The calls of `StateChannelClient` about receipts: what it takes from the tower, keeps, and can show later."""

from __future__ import annotations

import msgspec

from domain.contract.receipts import LogReceipt, SignedReceipt
from domain.contract.uploads import REGISTRATION_SEQ
from domain.errors import DomainError
from watchtower.client.errors import ReceiptForged, ReceiptMissing, TowerUnavailable
from watchtower.client.ids import channel_id_of, channel_name
from watchtower.client.tower.preimages import PreimageCalls
from watchtower.client.tower.receipts import Expected, ReceiptText, check_shown
from watchtower.client.tower.session import read

SUSPENDED = "receipts-suspended"


class ReceiptCalls(PreimageCalls):
    """Every receipt passes `_take` before anybody relies on it."""

    async def get_receipt(self, channel_id: str, sequence: int | None) -> str:
        """Ask the tower once more for the receipt of a state; None for that of the registration.

        Body and signature in hexadecimal digits, as `verify_proof` takes them. It is checked against the tower's key
        and the channel, and against what the client knows of the order of receipts. Raises `StateNotStored`,
        `ReceiptMissing` while the tower gives none, `ReceiptFromTheFuture`, and the other kinds of `ReceiptRefused`.
        What was uploaded the caller compares (`LogReceipt.upload_sha256`).
        """
        signed = await self._ask_again(channel_id, sequence)
        receipt = signed.read()
        number = REGISTRATION_SEQ if sequence is None else sequence
        expected = Expected(self._tower_id, channel_id_of(channel_id), number, receipt.upload_sha256)
        self._book.check(ReceiptText(signed.body.hex(), signed.signature.hex()), expected)
        check_shown(receipt, (await self.get_state()).log)
        return signed.encode().hex()

    async def check_receipts(self) -> None:
        """Compare how far the tower's log is with the receipts that this client holds; `ReceiptFromTheFuture`."""
        highest = self._book.highest
        check_shown(highest, (await self.get_state()).log)

    def _take(self, told: ReceiptText | None, expected: Expected) -> SignedReceipt:
        """Check a receipt and keep it in files, if there are any; raises `ReceiptRefused`."""
        signed = self._book.check(told, expected)
        if self._folder is not None:
            self._folder.add(signed)
        self._book.note(signed.read())
        return signed

    async def _ask_again(self, channel_id: str, sequence: int | None) -> SignedReceipt:
        number = "registration" if sequence is None else str(sequence)
        try:
            raw, _ = await self._call("GET", f"/v1/receipts/{channel_name(channel_id)}/{number}")
        except TowerUnavailable as error:
            if error.slug != SUSPENDED:
                raise
            raise ReceiptMissing(str(error)) from None
        signed = read(raw, ReceiptText).read()
        try:
            LogReceipt.decode(signed.body)
        except DomainError as error:
            raise ReceiptForged(str(error)) from None
        return signed


class Told(msgspec.Struct, frozen=True):
    """The part of an answer that every upload has."""

    receipt: ReceiptText | None = None
