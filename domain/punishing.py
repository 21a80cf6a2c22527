"""What a breach asks for right now: which fee the penalty should carry, or to wait.

Level-triggered: the answer follows from the channel and from what the node says this moment, never from an
edge that could be missed. Signing needs a secret and happens outside (`domain.contract.penalty`).
"""

from __future__ import annotations

from math import floor

import msgspec

from domain.channel import Bid, Channel, Spend
from domain.contract.penalty import penalty_vsize
from domain.contract.scripts import dust_limit
from domain.deadlines import deadline, remaining
from domain.events import BidMethod, BroadcastOutcome, Payload, PenaltyBroadcast, PenaltyPrepared, PenaltyRefused, Via
from domain.fees import Market, bid, fee_for, mempool_budget, mempool_fee, phase_estimate
from domain.transaction import Transaction


class Rival(msgspec.Struct, frozen=True):
    """The cheater's child of the unconfirmed commitment: fee in sat, size in vB."""

    fee: int
    vsize: int


class Price(msgspec.Struct, frozen=True):
    """What to do about one breach: `fee` is what the penalty should carry now, None means: wait for the block.

    Waiting is right only before confirmation, when a rival's child is too dear to outbid.
    """

    fee: int | None
    remaining: int | None
    uneconomical: bool = False


def price(
    channel: Channel,
    breach: Spend,
    *,
    tip: int,
    market: Market,
    rival: Rival | None,
    spendable: float,
) -> Price:
    """The fee that the penalty for this breach should carry at this tip. Never below the last bid.

    `rival` is a foreign transaction that keeps ours out of the mempool now.
    """
    bids = channel.bids_on(breach.txid)
    last = bids[-1] if bids else None
    if breach.block is None:
        return _mempool_price(channel, last, market, rival)
    params = channel.params
    vsize, dust = penalty_vsize(params, channel.sweep_spk), dust_limit(channel.sweep_spk)
    left = remaining(deadline(breach.block.height, params.challenge_period), tip)
    estimate = phase_estimate(left, params.challenge_period, market)
    feerate = bid(
        remaining=left,
        window=params.challenge_period,
        value=params.contest_value,
        estimate=_above(estimate, rival, vsize, market),
        last=None if last is None else last.fee / vsize,
        relay_floor=market.relay_floor,
        vsize=vsize,
        dust=dust,
        step=market.step,
        spendable=spendable,
    )
    fee = fee_for(feerate, vsize, params.contest_value, dust)
    cap = (params.contest_value - dust) / vsize
    return Price(max(fee, last.fee if last else 0), left, uneconomical=cap < market.relay_floor)


def _above(estimate: float | None, rival: Rival | None, vsize: int, market: Market) -> float | None:
    if rival is None:
        return estimate
    needed = max(rival.fee / rival.vsize + market.step, (rival.fee + market.step * vsize) / vsize)
    return max(estimate or 0.0, needed)


def _mempool_price(channel: Channel, last: Bid | None, market: Market, rival: Rival | None) -> Price:
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
    )
    if fee <= mempool_budget(channel.params.contest_value) or (last is not None and fee == last.fee):
        return Price(fee, None)
    # An earlier bid goes on standing, but against a dearer rival it would only be refused again and again.
    return Price(last.fee if last is not None and rival is None else None, None)


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
