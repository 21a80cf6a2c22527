"""Payments of a party over several channels: what it promised before anything was offered for it.

They stand in the party's log only, one stream per payment hash; a tower knows channels, not payments.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from domain.events.base import Amount, Hash32, Payload, Text120
from domain.events.enums import PaymentKind, PaymentOutcome

Note = Annotated[bytes, Meta(max_length=4096)]
"""What goes to the next hop beside the HTLC, unread here."""


class InvoiceMade(Payload, frozen=True, kw_only=True, array_like=True):
    """This party asks to be paid `amount` until height `payable_until`.

    What opens the payment follows from the party's seed and `salt`; without a salt somebody else made the hash.
    """

    TOPIC: ClassVar[str] = "py01"
    payment_hash: Hash32
    amount: Amount
    payable_until: int
    salt: Hash32 | None


class PaymentPlanned(Payload, frozen=True, kw_only=True, array_like=True):
    """The legs of a payment, a forwarded payment or a swap, before the outgoing HTLC is offered.

    A leg is a channel, an amount and an expiry height. `salt` as in `InvoiceMade`, for swaps.
    """

    TOPIC: ClassVar[str] = "py02"
    payment_hash: Hash32
    kind: PaymentKind
    in_channel: Hash32 | None
    in_amount: Amount
    in_expiry: int
    out_channel: Hash32 | None
    out_amount: Amount
    out_expiry: int
    note: Note | None
    salt: Hash32 | None


class LegOffered(Payload, frozen=True, kw_only=True, array_like=True):
    """The outgoing HTLC is about to be offered. Once per payment: it is never offered a second time."""

    TOPIC: ClassVar[str] = "py03"
    payment_hash: Hash32


class PaymentEnded(Payload, frozen=True, kw_only=True, array_like=True):
    """Nothing of the payment is left to do."""

    TOPIC: ClassVar[str] = "py04"
    payment_hash: Hash32
    outcome: PaymentOutcome
    reason: Text120
