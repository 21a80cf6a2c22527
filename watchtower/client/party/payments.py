"""Payments of a party: invoices, plans and their ends, durable before anything is offered for them."""

from __future__ import annotations

from hashlib import sha256

import msgspec

from domain.errors import ChannelNotReady, MalformedInput, Refusal
from domain.events import (
    Envelope,
    InvoiceMade,
    LegOffered,
    Payload,
    PaymentEnded,
    PaymentKind,
    PaymentOutcome,
    PaymentPlanned,
    envelopes,
)
from domain.units import MAX_MONEY
from watchtower.client.party.core import PartyCore
from watchtower.client.party.payment_log import Leg, Payment, evolve_payment, may_retry
from watchtower.client.protocol import htlcs
from watchtower.client.protocol.channel import PartyChannel

CATEGORY = "p"
"""First letter of the streams of payments; channels have `c`."""


class PaymentConflict(Refusal):
    """This payment hash already stands for something else here; every payment needs its own."""

    slug = "payment-conflict"


class PartyPayments(PartyCore):
    """The part of `ChannelParty` that remembers payments. `watchtower.client.payments` decides what is done."""

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, {len(self._payments)} payments>"

    # ── asking to be paid ────────────────────────────────────────────────────────────────────────────────

    def make_invoice(self, amount: int, payable_until: int, payment_hash: bytes | None = None) -> Payment:
        """Promise to take `amount` satoshi until height `payable_until`; durable on return.

        Without a `payment_hash` the party makes preimage and hash. With one (SHA-256 of somebody's 32 bytes, such as
        that of a Lightning invoice) an HTLC waits until `learn_preimage`. `PaymentConflict` for a hash in use.
        """
        if not 1 <= amount <= MAX_MONEY:
            raise MalformedInput(f"an invoice asks for at least 1 sat and at most {MAX_MONEY}, got {amount}")
        with self._mutex:
            salt = self._entropy() if payment_hash is None else None
            known = payment_hash if salt is None else sha256(self._keys.preimage(salt)).digest()
            assert known is not None, "either it was given, or it was made"
            made = InvoiceMade(
                recorded_at=self._clock.wall_microseconds(),
                payment_hash=_hash(known),
                amount=amount,
                payable_until=payable_until,
                salt=salt,
            )
            before = self._payments.get(made.payment_hash)
            if before is None:
                return self._remember(made.payment_hash, made)
            if (before.kind, before.amount, before.payable_until) == (PaymentKind.INVOICE, amount, payable_until):
                return before
            raise PaymentConflict(f"payment {made.payment_hash.hex()[:16]} is known here with other terms")

    # ── plans ────────────────────────────────────────────────────────────────────────────────────────────

    def plan_payment(
        self,
        kind: PaymentKind,
        payment_hash: bytes | None,
        *,
        incoming: Leg | None = None,
        outgoing: Leg | None = None,
        note: bytes | None = None,
    ) -> Payment:
        """Store the legs before anything is offered. The same again changes nothing; else `PaymentConflict`.

        A payment that failed may be tried again under its hash, on any legs. Without a
        `payment_hash` (for swaps) this party makes the preimage.
        """
        with self._mutex:
            salt = self._entropy() if payment_hash is None else None
            known = sha256(self._keys.preimage(salt)).digest() if salt is not None else _hash(payment_hash or b"")
            before = self._payments.get(known)
            if before is not None and not may_retry(before):
                if (before.kind, before.incoming, before.outgoing) == (kind, incoming, outgoing):
                    return before
                raise PaymentConflict(
                    f"payment {known.hex()[:16]} was begun here with other amounts, channels or expiries, or is an "
                    "invoice of this party; ask the receiver for a fresh payment hash"
                )
            planned = PaymentPlanned(
                recorded_at=self._clock.wall_microseconds(),
                payment_hash=known,
                kind=kind,
                in_channel=incoming.channel_id if incoming else None,
                in_amount=incoming.amount if incoming else 0,
                in_expiry=incoming.expiry if incoming else 0,
                out_channel=outgoing.channel_id if outgoing else None,
                out_amount=outgoing.amount if outgoing else 0,
                out_expiry=outgoing.expiry if outgoing else 0,
                note=note,
                salt=salt,
            )
            return self._remember(known, planned)

    def note_leg_offered(self, payment_hash: bytes) -> Payment:
        """The one attempt of the outgoing HTLC begins; durable on return. `ChannelNotReady` for a second one."""
        with self._mutex:
            payment = self.payment(payment_hash)
            if payment is None or payment.offered or not payment.is_open:
                raise ChannelNotReady("this payment had its attempt; a new one needs a fresh payment hash")
            event = LegOffered(recorded_at=self._clock.wall_microseconds(), payment_hash=payment.payment_hash)
            return self._remember(payment.payment_hash, event)

    def end_payment(self, payment_hash: bytes, outcome: PaymentOutcome, reason: str = "") -> Payment:
        """Nothing is left to do. The first end counts."""
        with self._mutex:
            payment = self.payment(payment_hash)
            if payment is None:
                raise ChannelNotReady("there is no such payment here")
            if not payment.is_open:
                return payment
            now = self._clock.wall_microseconds()
            event = PaymentEnded(
                recorded_at=now, payment_hash=payment.payment_hash, outcome=outcome, reason=reason[:120]
            )
            return self._remember(payment.payment_hash, event)

    def reveal(self, channel_id: bytes, payment_hash: bytes) -> None:
        """From here the own preimage of a payment counts as known: it claims, and the own tower gets it.

        `ChannelNotReady` if this party did not make it.
        """
        with self._mutex:
            payment = self.payment(payment_hash)
            if payment is None or payment.salt is None:
                raise ChannelNotReady("the preimage of this payment was not made here")
            channel = self.channel(channel_id)
            self._take(channel, htlcs.learn(self._seat(channel), self._keys.preimage(payment.salt)))

    def withdraw_leg(self, channel_id: bytes, payment_hash: bytes) -> bool:
        """Forget an own offer of this payment's HTLC that the peer did not take up; False once somebody signed for it.

        A late answer of the peer is then the answer to nothing.
        """
        with self._mutex:
            channel = self.channel(channel_id)
            if not _offers_htlcs(channel, payment_hash):
                return False
            self._keep(msgspec.structs.replace(channel, pending=None))
            return True

    # ── what is known ────────────────────────────────────────────────────────────────────────────────────

    @property
    def height(self) -> int | None:
        """The height of the chain as far as this party was told."""
        return self._height

    def payment(self, payment_hash: bytes) -> Payment | None:
        """A payment by its hash."""
        with self._mutex:
            return self._payments.get(bytes(payment_hash))

    def payments(self) -> tuple[Payment, ...]:
        """All payments, oldest first."""
        with self._mutex:
            return tuple(self._payments.values())

    def open_payments(self) -> tuple[Payment, ...]:
        """Those for which something may be left to do, oldest first; as few as are in flight, however long the log."""
        with self._mutex:
            return tuple(self._payments[payment_hash] for payment_hash in self._open)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    def _load(self) -> None:
        self._payments: dict[bytes, Payment] = {}
        self._open: dict[bytes, None] = {}
        self._payment_of_stream: dict[str, bytes] = {}
        super()._load()
        for channel in tuple(self._channels.values()):
            self._keep(_without_old_offer(channel))

    def _reload(self, stream: str) -> PartyChannel:
        return self._keep(_without_old_offer(super()._reload(stream)))

    def _apply(self, event: Envelope) -> None:
        if event.stream.startswith(CATEGORY):
            known = self._payment_of_stream.get(event.stream)
            payment = evolve_payment(None if known is None else self._payments[known], event)
            self._payment_of_stream[event.stream] = payment.payment_hash
            self._payments[payment.payment_hash] = payment
            if payment.is_open:
                self._open[payment.payment_hash] = None
            else:
                self._open.pop(payment.payment_hash, None)
            return
        super()._apply(event)

    def _remember(self, payment_hash: bytes, payload: Payload) -> Payment:
        before = self._payments.get(payment_hash)
        stream = self._store.stream_id(CATEGORY, payment_hash)
        stored = envelopes(stream, 0 if before is None else before.version, (payload,))
        self._append(stored)
        for event in stored:
            self._apply(event)
        return self._payments[payment_hash]


def _without_old_offer(channel: PartyChannel) -> PartyChannel:
    """The channel as the log has it, without an own offer of HTLCs that nobody signed.

    An offer that was given up stands in the log, too, and its payment may have gone back to the hop before. Made again
    after a restart it would be paid from this side's own money. Nothing is lost by forgetting it.
    """
    return msgspec.structs.replace(channel, pending=None) if _offers_htlcs(channel) else channel


def _offers_htlcs(channel: PartyChannel, payment_hash: bytes | None = None) -> bool:
    """Whether an own offer without a signature adds HTLCs of this side (with this hash)."""
    pending = channel.pending
    if pending is None or pending.is_bound or pending.by is not channel.own_side:
        return False
    before = set(channel.conditions)
    added = (c for c in pending.content.read_conditions() if c not in before)
    own = (c for c in added if c.is_htlc and c.offerer is channel.own_side)
    return any(payment_hash in (None, c.hash) for c in own)


def _hash(payment_hash: bytes) -> bytes:
    if len(payment_hash) != 32:
        raise MalformedInput(f"a payment hash has 32 bytes, got {len(payment_hash)}")
    return bytes(payment_hash)
