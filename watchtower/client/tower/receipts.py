"""What a client believes of a receipt: its own upload, its own tower, and an order that never runs back.

An update counts as armed only with a receipt that passed here (rule U4).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from domain.contract.receipts import LogReceipt, SignedReceipt
from domain.contract.uploads import REGISTRATION_SEQ
from domain.errors import InvalidSignature, MalformedInput
from watchtower.client.errors import (
    ReceiptForged,
    ReceiptFromTheFuture,
    ReceiptMissing,
    ReceiptOfAnotherTower,
    ReceiptOfAnotherUpload,
    ReceiptOutOfOrder,
    ReceiptRefused,
)
from watchtower.client.types import LogState


class Expected(msgspec.Struct, frozen=True):
    """What a receipt has to be about: tower and channel id, state number (or a registration's), hash of the upload."""

    tower_id: bytes
    subject: bytes
    seq: int
    upload_sha256: bytes


class ReceiptText(msgspec.Struct, frozen=True):
    """A receipt in an answer: hexadecimal texts."""

    body: str
    signature: str

    def read(self) -> SignedReceipt:
        """Raises `ReceiptForged` for what is no hexadecimal text."""
        try:
            return SignedReceipt(bytes.fromhex(self.body), bytes.fromhex(self.signature))
        except ValueError:
            raise ReceiptForged("the tower's receipt is no hexadecimal text; the upload counts as not stored") from None


class ReceiptBook:
    """What one client knows of the receipts of its tower. For one event loop.

    In one epoch the receipts of a channel stand in the log in the order of its states; a later epoch comes later, and
    may begin with an earlier state, because a restored tower gets back what it lost.
    """

    def __init__(self) -> None:
        self._last: dict[bytes, LogReceipt] = {}
        self._highest: LogReceipt | None = None

    @property
    def highest(self) -> LogReceipt | None:
        """The receipt with the latest place in the log, None without any."""
        return self._highest

    def load(self, receipts: Iterable[SignedReceipt], tower_id: bytes) -> None:
        """Remember receipts that were checked before; those of other towers are left out."""
        for signed in receipts:
            receipt = signed.read()
            if receipt.tower_id == tower_id:
                self.note(receipt)

    def check(self, told: ReceiptText | None, expected: Expected) -> SignedReceipt:
        """The receipt, if it may be relied on. Raises a `ReceiptRefused` that says what is wrong; nothing is noted."""
        if told is None:
            raise ReceiptMissing("the tower stored the upload and gave no receipt: it counts as not armed; ask again")
        signed = told.read()
        try:
            self._check_order(_verified(signed, expected))
        except ReceiptRefused as error:
            error.receipt = signed
            raise
        return signed

    def note(self, receipt: LogReceipt) -> None:
        """Remember an accepted receipt."""
        last = self._last.get(receipt.subject)
        if last is None or _order(receipt) >= _order(last):
            self._last[receipt.subject] = receipt
        if self._highest is None or _place(receipt) > _place(self._highest):
            self._highest = receipt

    def _check_order(self, receipt: LogReceipt) -> None:
        highest, last = self._highest, self._last.get(receipt.subject)
        if highest is not None and receipt.log_id != highest.log_id:
            raise ReceiptOutOfOrder(
                f"the receipt is about log {receipt.log_id.hex()}, earlier ones about {highest.log_id.hex()}: "
                "the tower lost its log, or keeps two"
            )
        if highest is not None and receipt.epoch < highest.epoch and receipt.position > highest.position:
            raise ReceiptOutOfOrder(
                f"the receipt is of epoch {receipt.epoch}, an earlier one of epoch {highest.epoch}: none goes back"
            )
        if last is None:
            return
        if receipt.seq == last.seq:
            _check_same_state(receipt, last)
            return
        earlier, later = sorted((receipt, last), key=_order)
        if _place(earlier) >= _place(later):
            raise _backwards(receipt, last)


def check_shown(highest: LogReceipt | None, shown: LogState | None) -> None:
    """Raise `ReceiptFromTheFuture` if the tower shows less than it signed in the same epoch.

    `highest` must have been known before the tower was asked.
    """
    if highest is None or shown is None or shown.log_id != highest.log_id.hex():
        return
    if (shown.epoch, shown.position) < _place(highest):
        raise ReceiptFromTheFuture(
            f"the tower signed event {highest.position} of epoch {highest.epoch}, but shows a log of {shown.position} "
            f"events in epoch {shown.epoch}: it lost that event, or never had it; keep the receipt as proof"
        )


def _verified(signed: SignedReceipt, expected: Expected) -> LogReceipt:
    try:
        receipt = signed.verified()
    except (MalformedInput, InvalidSignature) as error:
        raise ReceiptForged(f"{error}; the upload counts as not armed") from None
    if receipt.tower_id != expected.tower_id:
        raise ReceiptOfAnotherTower(
            f"the receipt is signed by tower {receipt.tower_id.hex()}, not by {expected.tower_id.hex()}"
        )
    if receipt.subject != expected.subject:
        raise ReceiptOfAnotherUpload(f"the receipt is about channel {receipt.subject.hex()}, not the one uploaded")
    if receipt.seq != expected.seq:
        wanted = "the registration" if expected.seq == REGISTRATION_SEQ else f"state {expected.seq}"
        raise ReceiptOfAnotherUpload(f"the receipt is about {receipt.what}, {wanted} was uploaded")
    if receipt.upload_sha256 != expected.upload_sha256:
        hint = "; the other party may have registered it here first: each needs a tower of its own"
        raise ReceiptOfAnotherUpload(
            f"the receipt of {receipt.what} names another upload than the one that was sent"
            f"{hint if expected.seq == REGISTRATION_SEQ else ''}"
        )
    return receipt


def _check_same_state(receipt: LogReceipt, last: LogReceipt) -> None:
    """One upload has one place in an epoch; with a revocation a state is another upload, which may come later."""
    moved = receipt.upload_sha256 == last.upload_sha256 and receipt.epoch == last.epoch and receipt != last
    if receipt.epoch < last.epoch or moved:
        raise _backwards(receipt, last)


def _backwards(receipt: LogReceipt, last: LogReceipt) -> ReceiptOutOfOrder:
    return ReceiptOutOfOrder(
        f"{receipt.what} is said to stand at event {receipt.position} of epoch {receipt.epoch}, {last.what} at event "
        f"{last.position} of epoch {last.epoch}: the order of states cannot be another one in the log"
    )


def _order(receipt: LogReceipt) -> tuple[int, int, int]:
    """Registration first, then states by number; the later of two receipts of one state counts.

    A later epoch comes behind all of an earlier one: there, states that were lost are stored again.
    """
    return receipt.epoch, -1 if receipt.is_registration else receipt.seq, receipt.position


def _place(receipt: LogReceipt) -> tuple[int, int]:
    return receipt.epoch, receipt.position
