"""One look at all payments of a party: facts of channels, log and tower in, jobs out. No waiting, no network."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec

from domain.contract.conditions import Condition
from domain.errors import UnknownChannel
from domain.events import PaymentKind
from domain.expiry import last_claim_height
from domain.units import Side
from watchtower.client.party.party import ChannelParty
from watchtower.client.party.payment_log import Leg, Payment, may_retry
from watchtower.client.payments.forwarding import (
    NO_LEG,
    Decision,
    Fail,
    Forward,
    Fulfil,
    Sight,
    invoice_end,
    judge_incoming,
    must_close,
    next_step,
    plan_forward,
)
from watchtower.client.payments.routing import ForwardingPolicy
from watchtower.client.protocol.channel import Content, PartyChannel
from watchtower.client.tower.legs import LegState, LegView, OnChain, leg_view


class Close(msgspec.Struct, frozen=True):
    """Publish the newest state: an HTLC of it is not safe off chain any more."""

    sequence: int


class Job(msgspec.Struct, frozen=True):
    """A decision and where it belongs. `channel_id` None: nothing is to be sent."""

    channel_id: bytes | None
    payment_hash: bytes
    what: Decision | Forward | Close


NOBODY = b""
"""Payment hash of a job that serves a channel and no payment."""


class Round(msgspec.Struct, frozen=True):
    """What a look needs.

    `notes` are those of incoming HTLCs by (channel id, payment hash); an HTLC that is not among them has not been
    heard of yet and waits. `closing` holds the tower's word on channels that close or wait for their funding. Without
    `policy` nothing is forwarded.
    """

    party: ChannelParty
    height: int
    notes: Mapping[tuple[bytes, bytes], bytes | None]
    closing: Mapping[bytes, OnChain]
    policy: ForwardingPolicy | None
    strict: bool

    def jobs(self) -> list[Job]:
        """Everything that should be done now, the most urgent first."""
        channels = {channel.channel_id: channel for channel in self.party.channels() if channel.state is not None}
        jobs = [*self._closes(channels.values())]
        for payment in self.party.open_payments():
            planned = self._invoiced if payment.kind is PaymentKind.INVOICE else self._planned
            jobs += planned(payment, channels)
        for channel in channels.values():
            jobs += self._incoming(channel, channels)
        return jobs

    def _closes(self, channels: Collection[PartyChannel]) -> Iterator[Job]:
        preemptive = self.policy is not None and self.policy.preemptive
        for channel in channels:
            htlcs = channel.htlcs
            known = {c.hash for c in htlcs if self.party.preimage(c.hash) is not None}
            word = self.closing.get(channel.channel_id)
            if word is not None and not word.is_unripe:
                continue
            if channel.published and not channel.spend_seen and htlcs:
                # Signed, and not seen by the tower: the call may have been lost on its way. It may be repeated.
                yield Job(channel.channel_id, NOBODY, Close(max(channel.published)))
                continue
            if must_close(channel, channel.own_side, known, self.height, preemptive=preemptive):
                yield Job(channel.channel_id, NOBODY, Close(channel.sequence))

    def _planned(self, payment: Payment, channels: Mapping[bytes, PartyChannel]) -> Iterator[Job]:
        incoming = self._leg(payment, payment.incoming, channels, is_own=False)
        outgoing = self._leg(payment, payment.outgoing, channels, is_own=True)
        is_known = self.party.preimage(payment.payment_hash) is not None
        step = next_step(payment, Sight(incoming, outgoing, is_known, self.height))
        if step is not None:
            yield Job(getattr(step, "channel_id", None), payment.payment_hash, step)

    def _invoiced(self, payment: Payment, channels: Mapping[bytes, PartyChannel]) -> Iterator[Job]:
        """An invoice whose preimage was shown for an HTLC ends with it."""
        if payment.salt is None or self.party.preimage(payment.payment_hash) is None:
            return
        end = invoice_end([self._view(channel, payment.payment_hash, channel.peer) for channel in channels.values()])
        if end is not None:
            yield Job(None, payment.payment_hash, end)

    def _incoming(self, channel: PartyChannel, channels: Mapping[bytes, PartyChannel]) -> Iterator[Job]:
        """HTLCs to this side that no open plan takes care of."""
        for payment_hash in sorted({c.hash for c in channel.conditions if c.is_htlc and c.offerer is channel.peer}):
            view = self._view(channel, payment_hash, channel.peer)
            payment = self.party.payment(payment_hash)
            if view.state is not LegState.HELD or (channel.channel_id, payment_hash) not in self.notes:
                continue
            for condition in view.conditions:
                if payment is not None and _serves(payment, channel, condition):
                    continue
                step = self._judged(payment, channel, condition, channels)
                if step is not None:
                    yield Job(channel.channel_id, payment_hash, step)

    def _judged(
        self,
        payment: Payment | None,
        channel: PartyChannel,
        condition: Condition,
        channels: Mapping[bytes, PartyChannel],
    ) -> Decision | Forward | None:
        name, period = channel.channel_id, channel.params.challenge_period
        if self.party.preimage(condition.hash) is not None:
            return Fulfil(name, (condition.key,)) if self.height <= last_claim_height(condition, period) else None
        if payment is not None and payment.kind is PaymentKind.INVOICE:
            step = judge_incoming(payment, name, condition, self.height, period)
            return None if payment.salt is None and not isinstance(step, Fail) else step
        if any(other.old_copy for other in channels.values()):
            return None  # an old copy of the log may lack the plan, and the HTLC that was forwarded already
        note = self.notes[name, condition.hash]
        if (payment is not None and not may_retry(payment)) or note is None or self.policy is None:
            return Fail(name, (condition.key,), "the party at the end of this channel knows no payment with this hash")
        found = self._forwarded(self.policy, channel, condition, note, channels)
        return Fail(name, (condition.key,), found[:400]) if isinstance(found, str) else found

    def _forwarded(
        self,
        policy: ForwardingPolicy,
        channel: PartyChannel,
        condition: Condition,
        note: bytes,
        channels: Mapping[bytes, PartyChannel],
    ) -> Forward | str:
        def find(name: bytes) -> tuple[PartyChannel, int] | None:
            asked = channels.get(name)
            return None if asked is None else (asked, self._spendable(asked))

        return plan_forward(policy, (channel, condition), note, find, self.height)

    def _spendable(self, channel: PartyChannel) -> int:
        if channel.is_closing or channel.frozen is not None or channel.channel_id in self.closing:
            return 0
        return self.party.liquidity(channel.channel_id).of(channel.own_side).htlc_spendable

    def _leg(
        self, payment: Payment, leg: Leg | None, channels: Mapping[bytes, PartyChannel], *, is_own: bool
    ) -> LegView:
        channel = None if leg is None else channels.get(leg.channel_id)
        if leg is None or channel is None:
            return NO_LEG
        view = self._view(channel, payment.payment_hash, channel.own_side if is_own else channel.peer)
        if is_own or view.state is not LegState.HELD:
            return view
        # An HTLC with less than was agreed is not this leg.
        fits = tuple(c for c in view.conditions if c.amount >= leg.amount and c.expiry >= leg.expiry)
        return msgspec.structs.replace(view, conditions=fits, state=LegState.HELD if fits else LegState.ABSENT)

    def _view(self, channel: PartyChannel, payment_hash: bytes, offerer: Side) -> LegView:
        closing = self.closing.get(channel.channel_id)
        return leg_view(
            channel,
            payment_hash,
            offerer,
            strict=self.strict,
            closing=closing,
            published=self._published(channel, closing),
            height=self.height,
        )

    def _published(self, channel: PartyChannel, closing: OnChain | None) -> Content | None:
        if closing is None or closing.published is None:
            return None
        if channel.state is not None and channel.sequence == closing.published:
            return channel.state.content
        if channel.pending is not None and channel.pending.content.seq == closing.published:
            return channel.pending.content
        try:
            return self.party.state(channel.channel_id, closing.published).content
        except UnknownChannel:
            return None


def _serves(payment: Payment, channel: PartyChannel, condition: Condition) -> bool:
    """Whether an open plan counts with this HTLC."""
    leg = payment.incoming
    if not payment.is_open or leg is None or leg.channel_id != channel.channel_id:
        return False
    return condition.amount >= leg.amount and condition.expiry >= leg.expiry
