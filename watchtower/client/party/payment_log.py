"""One payment as its party sees it, folded from the stream of its payment hash."""

from __future__ import annotations

import msgspec

from domain.errors import LogCorrupt
from domain.events import (
    Envelope,
    InvoiceMade,
    LegOffered,
    PaymentEnded,
    PaymentKind,
    PaymentOutcome,
    PaymentPlanned,
)


class Leg(msgspec.Struct, frozen=True):
    """One HTLC of a payment: channel id, satoshi, expiry height."""

    channel_id: bytes
    amount: int
    expiry: int


class Payment(msgspec.Struct, frozen=True):
    """What the party promised under one payment hash.

    `incoming` pays this side, `outgoing` is paid by it; an invoice has neither, any channel may pay it. `offered`
    means that the outgoing HTLC had its one attempt. `salt` is there if this party can make the preimage.
    """

    payment_hash: bytes
    kind: PaymentKind
    version: int
    amount: int = 0
    payable_until: int = 0
    incoming: Leg | None = None
    outgoing: Leg | None = None
    note: bytes | None = None
    salt: bytes | None = None
    offered: bool = False
    outcome: PaymentOutcome | None = None
    reason: str = ""

    @property
    def is_open(self) -> bool:
        """Whether something may be left to do."""
        return self.outcome is None


def evolve_payment(payment: Payment | None, event: Envelope) -> Payment:
    """The payment after one event of its stream."""
    payload = event.payload
    match payload:
        case InvoiceMade():
            return Payment(
                payload.payment_hash,
                PaymentKind.INVOICE,
                event.version,
                amount=payload.amount,
                payable_until=payload.payable_until,
                salt=payload.salt,
            )
        case PaymentPlanned():
            return Payment(
                payload.payment_hash,
                payload.kind,
                event.version,
                amount=payload.out_amount,
                incoming=_leg(payload.in_channel, payload.in_amount, payload.in_expiry),
                outgoing=_leg(payload.out_channel, payload.out_amount, payload.out_expiry),
                note=payload.note,
                salt=payload.salt,
            )
    if payment is None:
        raise LogCorrupt(f"stream {event.stream} of a payment does not begin with its plan")
    match payload:
        case LegOffered():
            return msgspec.structs.replace(payment, version=event.version, offered=True)
        case PaymentEnded():
            ended = {"outcome": payload.outcome, "reason": payload.reason}
            return msgspec.structs.replace(payment, version=event.version, **ended)
    return msgspec.structs.replace(payment, version=event.version)


def _leg(channel_id: bytes | None, amount: int, expiry: int) -> Leg | None:
    return None if channel_id is None else Leg(channel_id, amount, expiry)


def may_retry(payment: Payment) -> bool:
    """Whether the payment hash may be used again: what failed came back on every leg before it was called failed."""
    return payment.outcome is PaymentOutcome.FAILED and payment.kind in (PaymentKind.PAY, PaymentKind.FORWARD)
