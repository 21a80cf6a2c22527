"""What a breach asks for right now: which fee the penalty should carry, or to wait.

Level-triggered: the answer follows from the channel and from what the node says this moment, never from an
edge that could be missed. Signing needs a secret and happens outside (`domain.contract.penalty`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from math import ceil, floor

import msgspec

from domain.channel import Bid, Channel, Spend
from domain.contract.penalty import penalty_vsize
from domain.contract.scripts import dust_limit
from domain.deadlines import deadline, remaining
from domain.events import (
    BidMethod,
    BroadcastOutcome,
    Payload,
    PenaltyBroadcast,
    PenaltyPrepared,
    PenaltyRefused,
    SpendKind,
    Via,
)
from domain.fees import (
    Limits,
    Market,
    bid,
    bid_limits,
    doubled_step,
    fee_for,
    mempool_budget,
    mempool_fee,
    phase_estimate,
)
from domain.transaction import Transaction


class Rival(msgspec.Struct, frozen=True):
    """The cheater's child of the unconfirmed commitment: fee in sat, size in vB."""

    fee: int
    vsize: int


class Price(msgspec.Struct, frozen=True):
    """What to do about one breach: `fee` is what the penalty should carry now, None means: wait for the block.

    Waiting is right only before confirmation, when a rival's child is too dear to outbid. `limits` are what a new
    penalty may pay in this block.
    """

    fee: int | None
    remaining: int | None
    uneconomical: bool = False
    limits: Limits = Limits(0, 0)


def breach_to_answer(channel: Channel) -> Spend | None:
    """The breach that counts now and is not answered in a block.

    Without any present spend it is the last stale commitment that dropped out of sight (evicted, or lost in a
    reorg): its kept bytes are sent again together with the penalty. Nothing of it can ever confirm if the funding
    was double-spent.
    """
    if channel.double_spend is not None:
        return None
    spend = channel.present_spend
    if spend is None:
        spend = channel.spends[-1] if channel.spends else None
    if spend is None or spend.kind is not SpendKind.BREACH or channel.contest_spend(spend.txid) is not None:
        return None
    return spend


SKIPPED_BLOCKS = 6
"""So many blocks in a row without our penalty, although it pays more than they ask for, are an alarm."""


def price(
    channel: Channel,
    breach: Spend,
    *,
    tip: int,
    market: Market,
    rival: Rival | None,
    spendable: float,
    refused: bool = False,
) -> Price:
    """The fee that the penalty for this breach should carry at this tip. Never below the last bid.

    `rival` is a foreign transaction that keeps ours out of the mempool now. `refused` says that the node has just
    refused the last bid as too low: if nobody is seen who bids more, the next bid rises blindly.
    """
    bids = channel.bids_on(breach.txid)
    last = bids[-1] if bids else None
    blind = _blind_fee(channel, bids, market) if refused and rival is None else 0
    if breach.block is None:
        return _mempool_price(channel, last, market, rival, blind, spendable)
    params = channel.params
    vsize, dust = penalty_vsize(params, channel.sweep_spk), dust_limit(channel.sweep_spk)
    left = remaining(deadline(breach.block.height, params.challenge_period), tip)
    estimate = above_rival(phase_estimate(left, params.challenge_period, market), rival, vsize, market)
    last_rate = None if last is None else last.fee / vsize
    feerate = bid(
        remaining=left,
        window=params.challenge_period,
        value=params.contest_value,
        estimate=max(estimate or 0.0, blind / vsize) if blind else estimate,
        last=last_rate,
        relay_floor=market.relay_floor,
        vsize=vsize,
        dust=dust,
        step=market.step,
        spendable=spendable,
    )
    limits = bid_limits(
        remaining=left,
        window=params.challenge_period,
        value=params.contest_value,
        last=last_rate,
        relay_floor=market.relay_floor,
        vsize=vsize,
        dust=dust,
        step=market.step,
        spendable=spendable,
    )
    # The last bid as it is: a fee that goes through a feerate and back may come out a satoshi higher.
    fee = last.fee if last is not None and feerate == last_rate else fee_for(feerate, vsize, params.contest_value, dust)
    cap = (params.contest_value - dust) / vsize
    least = 0 if last is None else _renewed_fee(last, limits.highest, vsize, market)
    return Price(max(fee, least), left, uneconomical=cap < market.relay_floor, limits=limits)


def _renewed_fee(last: Bid, highest: int, vsize: int, market: Market) -> int:
    """The last bid, or one step above it if it was signed before the breach was in a block.

    The network may not have it: refused while the cheater's child held its place, or forgotten with the commitment.
    A node offers the same txid to a peer only once, so only a new one spreads. Waits while the block allows no step.
    """
    fee = last.fee + ceil(market.step * vsize)
    return fee if last.unconfirmed and fee <= highest else last.fee


def above_rival(estimate: float | None, rival: Rival | None, vsize: int, market: Market) -> float | None:
    """An estimate (sat/vB) raised to what replaces the rival: a step above its feerate, and its whole fee."""
    if rival is None:
        return estimate
    needed = max(rival.fee / rival.vsize + market.step, (rival.fee + market.step * vsize) / vsize)
    return max(estimate or 0.0, needed)


def _blind_fee(channel: Channel, bids: Sequence[Bid], market: Market) -> int:
    """What to bid when the last one was refused as too low and nobody can be seen."""
    if not bids:
        return 0
    in_a_row = takewhile(lambda bid: bid.outcome is BroadcastOutcome.INSUFFICIENT_FEE, reversed(bids))
    vsize = penalty_vsize(channel.params, channel.sweep_spk)
    return doubled_step(bids[-1].fee, vsize, market.step, sum(1 for _ in in_a_row))


def _mempool_price(
    channel: Channel, last: Bid | None, market: Market, rival: Rival | None, blind: int, spendable: float
) -> Price:
    vsize = penalty_vsize(channel.params, channel.sweep_spk)
    fee = mempool_fee(
        vsize=vsize,
        commitment_vsize=channel.params.commitment_vsize,
        commitment_fee=channel.params.commitment_fee,
        package_estimate=market.estimate(2),
        rival_fee=rival.fee if rival else None,
        rival_feerate=rival.fee / rival.vsize if rival else None,
        relay_floor=market.relay_floor,
        last_fee=last.fee if last else None,
        step=market.step,
        least=blind,
    )
    budget = Limits(0, mempool_budget(channel.params.contest_value, spendable))
    if fee <= budget.highest or (last is not None and fee == last.fee):
        return Price(fee, None, limits=budget)
    # An earlier bid goes on standing, but against a dearer rival it would only be refused again and again.
    return Price(last.fee if last is not None and rival is None else None, None, limits=budget)


def skipped_blocks(channel: Channel, breach: Spend, left: int, market: Market) -> int:
    """For how many blocks the node has held a penalty that pays more than the next block asks for.

    Counted from the first such bid, because a higher one replaces it and goes on. Without an estimate every bid that
    relays counts: then nobody asks for more.
    """
    vsize = penalty_vsize(channel.params, channel.sweep_spk)
    going_rate = max(market.relay_floor, market.estimate(1) or 0.0)
    sufficient = (b for b in channel.bids_on(breach.txid) if b.accepted and b.fee >= going_rate * vsize)
    return max((b.remaining - left for b in sufficient if b.remaining is not None), default=0)


def penalty_prepared(
    channel: Channel,
    breach: Spend,
    *,
    txid: bytes,
    raw: bytes,
    fee: int,
    left: int | None,
    now: int,
    rung: int | None = None,
) -> list[Payload]:
    """The intent: these bytes are about to be sent. Must be durable before the node is called.

    `rung` is the place in a ladder of penalties that were signed before, None for one that was signed here.
    """
    bids = channel.bids_on(breach.txid)
    return [
        PenaltyPrepared(
            recorded_at=now,
            commit_txid=breach.txid,
            bid_no=len(bids) + 1,
            replaces=bids[-1].txid if bids else None,
            txid=txid,
            raw=raw,
            fee=fee,
            feerate_kvb=floor(fee * 1000 / penalty_vsize(channel.params, channel.sweep_spk)),
            method=BidMethod.RESIGN if rung is None else BidMethod.LADDER,
            rung=rung,
            remaining=left,
        )
    ]


def penalty_found(channel: Channel, breach: Spend, raw: bytes, now: int) -> list[Payload]:
    """A spend of the contest output in the mempool that our log does not know: ours if it pays our sweep script.

    Nobody else gives us money, so it is an own bid that was lost from the log. The higher bid is adopted, so that
    bids do not fall; a lower one will be replaced.
    """
    tx, bids = Transaction.parse(raw), channel.bids_on(breach.txid)
    if len(tx.inputs) != 1 or [out.spk for out in tx.outputs] != [channel.sweep_spk]:
        return []
    fee = channel.params.contest_value - tx.outputs[0].value
    if bids and fee <= bids[-1].fee:
        return []
    return penalty_prepared(channel, breach, txid=tx.txid, raw=raw, fee=fee, left=None, now=now)


def penalty_answered(
    bid_sent: Bid, outcome: BroadcastOutcome, via: Via, code: int, text: str, tip: int, now: int
) -> list[Payload]:
    """The node's answer, recorded once per txid and again only when its class changes."""
    if outcome in (BroadcastOutcome.ACCEPTED, BroadcastOutcome.ALREADY_KNOWN):
        if bid_sent.accepted:
            return []
        return [PenaltyBroadcast(recorded_at=now, txid=bid_sent.txid, outcome=outcome, via=via, height=tip)]
    if bid_sent.outcome is outcome:
        return []
    return [
        PenaltyRefused(recorded_at=now, txid=bid_sent.txid, outcome=outcome, code=code, text=text[:120], height=tip)
    ]
