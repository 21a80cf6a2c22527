"""What is to be done about payments, as pure functions: of the plan in the log, of both legs, of the height.

Nothing here remembers anything. After a crash, a reconnection or a day of silence the same facts give the same
decision, and a decision that was carried out changes the facts. The rules that keep a party from losing:

* an outgoing HTLC is offered once, after the plan is durable and the incoming HTLC is HELD (rule U4);
* an incoming HTLC is given back only when the outgoing one is over for good and nobody showed the preimage;
* a preimage, wherever it comes from, takes the incoming HTLC at once;
* a preimage of our own is shown only when what it takes is HELD and early enough to be claimed on chain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from domain.contract.conditions import Condition, ConditionKey
from domain.errors import MalformedInput
from domain.events import PaymentKind, PaymentOutcome
from domain.expiry import closing_blocks, last_claim_height, must_go_on_chain
from domain.liquidity import HTLC_DUST
from domain.units import Side
from watchtower.client.party.payment_log import Leg, Payment
from watchtower.client.payments.routing import ForwardingPolicy, Hop, decode_note, encode_note, least_expiry
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.protocol.htlcs import NewHtlc
from watchtower.client.tower.legs import LegState, LegView


class Offer(msgspec.Struct, frozen=True):
    """Offer the outgoing HTLC; the attempt is recorded first."""

    channel_id: bytes
    htlc: NewHtlc


class Reveal(msgspec.Struct, frozen=True):
    """Count the own preimage as known, in this channel."""

    channel_id: bytes


class Fulfil(msgspec.Struct, frozen=True):
    """Take incoming HTLCs with the preimage."""

    channel_id: bytes
    keys: tuple[ConditionKey, ...]


class Fail(msgspec.Struct, frozen=True):
    """Give incoming HTLCs back."""

    channel_id: bytes
    keys: tuple[ConditionKey, ...]
    reason: str


class Expire(msgspec.Struct, frozen=True):
    """Ask the peer to give outgoing HTLCs back, whose time is over."""

    channel_id: bytes
    keys: tuple[ConditionKey, ...]


class End(msgspec.Struct, frozen=True):
    """Nothing is left to do."""

    outcome: PaymentOutcome
    reason: str = ""


Decision = Offer | Reveal | Fulfil | Fail | Expire | End


class Sight(msgspec.Struct, frozen=True):
    """Both legs of a payment; ABSENT for a leg that the payment does not have. `is_known`: the preimage may be used."""

    incoming: LegView
    outgoing: LegView
    is_known: bool
    height: int


NO_LEG = LegView(LegState.ABSENT)


def next_step(payment: Payment, sight: Sight) -> Decision | None:
    """What a planned payment needs now, None for patience. Invoices are judged by `judge_incoming`."""
    if sight.is_known:
        return _with_preimage(payment, sight)
    step = _without_preimage(payment, sight)
    return step if step is not None else _expiry(payment, sight)


def _with_preimage(payment: Payment, sight: Sight) -> Decision | None:
    incoming = sight.incoming
    if incoming.state is LegState.HELD and payment.incoming is not None:
        timely = all(sight.height <= last_claim_height(c, incoming.period) for c in incoming.conditions)
        return Fulfil(payment.incoming.channel_id, incoming.keys) if timely else None
    if payment.incoming is not None and not incoming.state.is_over:
        return None
    if incoming.state is LegState.THEIRS:
        return End(PaymentOutcome.FAILED, "the counterparty took the incoming HTLC back before it was claimed")
    # What is left of the outgoing leg is the peer's: it has shown the preimage, or may show it to the chain.
    return End(PaymentOutcome.PAID)


def _without_preimage(payment: Payment, sight: Sight) -> Decision | None:
    incoming, outgoing = sight.incoming, sight.outgoing
    if not payment.offered:
        return _first_offer(payment, sight)
    if outgoing.state.is_over:
        if payment.incoming is not None and incoming.state is LegState.HELD:
            return Fail(payment.incoming.channel_id, incoming.keys, "the next hop did not take it")
        return End(PaymentOutcome.FAILED, "the HTLC came back") if incoming.state.is_over else None
    is_ours = payment.kind is PaymentKind.SWAP and payment.salt is not None and payment.incoming is not None
    if is_ours and payment.incoming and outgoing.state is LegState.HELD and incoming.state is LegState.HELD:
        timely = all(sight.height <= last_claim_height(c, incoming.period) for c in incoming.conditions)
        return Reveal(payment.incoming.channel_id) if timely else None
    return None


def _first_offer(payment: Payment, sight: Sight) -> Decision | None:
    """An own payment and a swap with an own preimage begin at once; all others wait for what they are given."""
    leg = payment.outgoing
    if leg is None:
        return None
    waits, incoming = payment.incoming is not None and payment.salt is None, sight.incoming
    late = leg.expiry < least_expiry(sight.height, sight.outgoing.period, 1)
    if waits and incoming.state is not LegState.HELD:
        over = incoming.state.is_over and (late or payment.kind is PaymentKind.FORWARD)
        return End(PaymentOutcome.FAILED, "the incoming HTLC did not come in time") if over else None
    if not late:
        return Offer(leg.channel_id, NewHtlc(leg.amount, payment.payment_hash, leg.expiry, payment.note))
    if waits and payment.incoming is not None:
        return Fail(payment.incoming.channel_id, incoming.keys, "too late for the other leg")
    return End(PaymentOutcome.FAILED, "too late: the receiver could not claim any more")


def _expiry(payment: Payment, sight: Sight) -> Decision | None:
    outgoing = sight.outgoing
    if payment.outgoing is None or outgoing.state is not LegState.HELD:
        return None
    due = all(sight.height >= condition.expiry for condition in outgoing.conditions)
    return Expire(payment.outgoing.channel_id, outgoing.keys) if due else None


def invoice_end(legs: Sequence[LegView]) -> End | None:
    """The end of an invoice whose preimage was shown: all HTLCs that paid it are gone, one way or the other."""
    if not all(leg.state.is_over for leg in legs):
        return None
    lost = any(leg.state is LegState.THEIRS for leg in legs)
    return End(PaymentOutcome.FAILED, "the payer took it back on chain") if lost else End(PaymentOutcome.PAID)


def judge_incoming(payment: Payment, channel_id: bytes, condition: Condition, height: int, period: int) -> Decision:
    """What an HTLC that pays an invoice is worth: shown the preimage, or given back with a reason."""
    reason = _objection(payment, condition, height, period)
    return Reveal(channel_id) if reason is None else Fail(channel_id, (condition.key,), reason)


def _objection(payment: Payment, condition: Condition, height: int, period: int) -> str | None:
    if condition.amount < payment.amount:
        return f"{condition.amount} sat offered, {payment.amount} sat asked for"
    if condition.amount > 2 * payment.amount:
        return "more than twice the amount was offered"
    if height > payment.payable_until:
        return "the invoice is out of date"
    if height > last_claim_height(condition, period):
        return "the HTLC expires too soon to be claimed"
    return None


class Forward(msgspec.Struct, frozen=True):
    """An incoming HTLC and the outgoing one that pays it on."""

    incoming: Leg
    outgoing: Leg
    note: bytes | None


def plan_forward(
    policy: ForwardingPolicy,
    incoming: tuple[PartyChannel, Condition],
    note: bytes,
    find: Callable[[bytes], tuple[PartyChannel, int] | None],
    height: int,
) -> Forward | str:
    """The forwarding of an HTLC as its note asks for, or the reason against it.

    `find` gives a channel of this party by id, with what an HTLC can hold there now (satoshi).
    """
    channel, condition = incoming
    try:
        hop, *rest = decode_note(note)
        onward = encode_note(rest)
    except MalformedInput as error:
        return f"the note cannot be read: {error}"
    found = find(hop.channel_id)
    if found is None or hop.channel_id == channel.channel_id:
        return "there is no such next channel here"
    reason = _terms(policy, (channel, condition), found, hop, height)
    if reason is not None:
        return reason
    taken = Leg(channel.channel_id, condition.amount, condition.expiry)
    return Forward(taken, Leg(hop.channel_id, hop.amount, hop.expiry), onward)


def _terms(
    policy: ForwardingPolicy,
    incoming: tuple[PartyChannel, Condition],
    found: tuple[PartyChannel, int],
    hop: Hop,
    height: int,
) -> str | None:
    (channel, condition), (outgoing, spendable) = incoming, found
    period_in, period_out = channel.params.challenge_period, outgoing.params.challenge_period
    try:
        delta = policy.delta(period_in, period_out)
    except MalformedInput as error:
        return str(error)
    if not policy.min_amount <= hop.amount <= policy.max_amount:
        return f"amounts from {policy.min_amount} to {policy.max_amount} sat are forwarded"
    if condition.amount - hop.amount < policy.fee(hop.amount):
        return f"the fee for {hop.amount} sat is {policy.fee(hop.amount)} sat"
    if condition.expiry - hop.expiry < delta:
        return f"between the expiries there must be {delta} blocks"
    if hop.expiry < least_expiry(height, period_out, 1):
        return "the next hop would have no time to claim"
    if condition.expiry - height > policy.max_lock_blocks:
        return f"an HTLC may be locked for {policy.max_lock_blocks} blocks at most"
    if hop.amount > spendable:
        return "the next channel has not enough to spend now"
    return None


def swap_objection(
    give: tuple[Leg, int], take: tuple[Leg, int], height: int, *, secret_here: bool, preemptive: bool = False
) -> str | None:
    """Why a swap would be unsafe, None if it is not. Legs with T of their channels.

    Who makes the preimage shows it last: what it gives must outlive what it takes, so that the other side can still
    use the preimage. Who does not make it must take later than it gives. Both legs leave 184 blocks (T = 144) from now.
    """
    (given, period_give), (taken, period_take) = give, take
    if given.channel_id == taken.channel_id:
        return "both legs are in one channel; make an update there"
    if min(given.amount, taken.amount) < HTLC_DUST:
        # Nobody could enforce it: the preimage would be paid for by the other side's good will alone.
        return f"a leg below {HTLC_DUST} sat has no output on chain, so that one leg could happen without the other"
    for leg, period in (give, take):
        if leg.expiry < least_expiry(height, period):
            return f"a leg expires at height {leg.expiry}; it needs at least {least_expiry(height, period)}"
    policy = ForwardingPolicy(preemptive=preemptive)
    if secret_here:
        short = given.expiry - taken.expiry < policy.delta(period_give, period_take)
        return "who takes first must leave the other side its delta: give longer" if short else None
    short = taken.expiry - given.expiry < policy.delta(period_take, period_give)
    return f"take longer than you give by {policy.delta(period_take, period_give)} blocks" if short else None


def must_close(channel: PartyChannel, own: Side, known: set[bytes], height: int, *, preemptive: bool = False) -> bool:
    """Whether the channel must go on chain now for the sake of an HTLC (protocol 3.5). `known`: payment hashes."""
    if channel.closes or channel.published or channel.spend_seen or channel.state is None:
        return False  # not for a spend that is gone: nobody but this side may send one again
    period, conditions = channel.params.challenge_period, _at_stake(channel, own, known)
    early = height + closing_blocks(period)
    if preemptive and any(early >= c.expiry for c in conditions if c.offerer is own and c.hash not in known):
        return True
    return bool(must_go_on_chain(height, conditions, own, known, period))


def _at_stake(channel: PartyChannel, own: Side, known: set[bytes]) -> set[Condition]:
    """The HTLCs that time runs against: those of the newest state, and of the state before or behind it.

    An own one that was signed for and is not complete: the peer may finish it at any time. One that the newest state
    dropped while the peer has not revoked the state before: a silent peer could publish that one late and take both.
    An own one that was paid is no such case, for its receiver is due it either way.
    """
    newest = {c for c in channel.conditions if c.is_htlc}
    bound = channel.pending.content.read_conditions() if channel.pending and channel.pending.is_bound else ()
    added = {c for c in bound if c.is_htlc and c.offerer is own}
    before = channel.settled.read_conditions() if channel.settled and channel.firm is None else ()
    dropped = {c for c in before if c.is_htlc and not (c.offerer is own and c.hash in known)}
    return newest | added | dropped
