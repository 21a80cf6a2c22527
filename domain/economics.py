"""What it costs to close a channel in each way, what each side gets, and what a static feerate buys.

Feerates are sat/vB, amounts satoshi, sizes vB and never smaller than the real transaction. Commitment and settlement
pay the static fee that both sides signed; everything else pays what the market asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from math import ceil

import msgspec

from domain.contract.closing import build_cooperative_close, close_weight
from domain.contract.conditions import Condition
from domain.contract.htlc import ClaimPath, claim_weight, claimant
from domain.contract.params import MAX_FEERATE, MIN_FEERATE, TAPROOT, ChannelParams
from domain.contract.penalty import max_penalty_fee, penalty_vsize
from domain.contract.scripts import dust_limit
from domain.contract.settlement import overhead, plan_settlement
from domain.errors import InvalidState
from domain.fees import CLAIM_SHARE, Market
from domain.liquidity import Holdings
from domain.transaction import Transaction
from domain.units import Side, vsize

KEY_PATH_WITNESS = 66
"""WU of a witness with one signature of 64 bytes."""

FEE_CHILD_VSIZE = 153
"""A child that pays for a commitment or settlement: anchor and one P2TR input, one P2TR output."""


class Way(StrEnum):
    """How a channel can end."""

    COOPERATIVE_KEY_PATH = "cooperative_key_path"
    COOPERATIVE = "cooperative"
    UNILATERAL = "unilateral"
    PENALTY = "penalty"


class ClosingCost(msgspec.Struct, frozen=True):
    """One way to close. `by` closes, publishes or punishes; `vsize` and `fee` are those of all transactions in it.

    `fee` is what nobody gets: fees, anchors, and amounts below dust. `extra` is what `by` pays on top from its own
    wallet, by fee children, to bring commitment and settlement to the market's feerate; 0 if the static fee is enough.
    `nets` is what A and B have afterwards, without `extra` and without conditional outputs (`claim_costs`).
    """

    way: Way
    by: Side
    vsize: int
    fee: int
    extra: int
    nets: tuple[int, int]


class ClaimCost(msgspec.Struct, frozen=True):
    """What taking one conditional output costs. `is_worth_it` means that a tower pays this fee (`CLAIM_SHARE`)."""

    type: int
    id: int
    path: ClaimPath
    by: Side
    amount: int
    vsize: int
    fee: int
    is_worth_it: bool


class StaticFeerate(msgspec.Struct, frozen=True):
    """What a static feerate (sat per 1000 vB) buys now.

    `relays` means that a commitment enters the mempool without a fee child; `blocks` is the shortest estimated wait of
    which the feerate is enough, None if of no known one.
    """

    feerate: int
    relays: bool
    needed: int
    blocks: int | None


def closing_costs(holdings: Holdings, feerate: float, sweep_spk: bytes | None = None) -> tuple[ClosingCost, ...]:
    """Every way that is open now, for each side that can take it. Without `sweep_spk` a P2TR one is assumed.

    A cooperative close is left out while conditions are pending, and for a side that cannot pay its fee.
    """
    found = [cost for side in Side for cost in _cooperative(holdings, side, feerate)]
    found += [_unilateral(holdings, side, feerate) for side in Side]
    found += [_penalty(holdings.params, side, feerate, sweep_spk or bytes(34)) for side in Side]
    return tuple(found)


def claim_costs(holdings: Holdings, feerate: float) -> tuple[ClaimCost, ...]:
    """Success and timeout of each HTLC that has an output, claimed to the claimant's payout script."""
    return tuple(
        _claim(holdings.params, condition, path, feerate)
        for condition in holdings.conditions
        for path in ClaimPath
        if condition.is_htlc and condition.amount >= dust_limit(bytes(34))
    )


def recommended_static_feerate(market: Market) -> int:
    """Static feerate for a new channel, sat per 1000 vB within the protocol's bounds.

    Twice what relays now, and at least what the market asks for a patient transaction: a commitment should enter the
    mempool alone also when feerates have doubled. A high static feerate binds money of A for the whole life of the
    channel; the rest is the fee child's work.
    """
    patient = market.estimates[-1][1] if market.estimates else 0.0
    wanted = ceil(1000 * max(2 * market.relay_floor, patient))
    return min(max(wanted, MIN_FEERATE), MAX_FEERATE)


def what_it_buys(static_feerate: int, market: Market) -> StaticFeerate:
    """Whether transactions of this static feerate (sat per 1000 vB) relay now, and how long they would wait."""
    needed = ceil(1000 * max(market.relay, market.minimum))
    enough = [target for target, estimate in market.estimates if 1000 * estimate <= static_feerate]
    return StaticFeerate(static_feerate, static_feerate >= needed, needed, min(enough, default=None))


def _cooperative(holdings: Holdings, closer: Side, feerate: float) -> Sequence[ClosingCost]:
    if holdings.conditions:
        return ()
    params = holdings.params
    ways = [Way.COOPERATIVE_KEY_PATH] if params.profile == TAPROOT else []
    found = []
    for way in (*ways, Way.COOPERATIVE):
        try:
            # Built twice: what the fee leaves may be dust, and then the transaction is one output smaller.
            rough = build_cooperative_close(params, holdings.balances, closer, 0)
            fee = ceil(feerate * _close_vsize(params, rough, way))
            tx = build_cooperative_close(params, holdings.balances, closer, fee)
        except InvalidState:
            continue
        nets = _kept_outputs(params, _less(holdings.balances, closer, fee))
        found.append(ClosingCost(way, closer, _close_vsize(params, tx, way), params.capacity - sum(nets), 0, nets))
    return found


def _close_vsize(params: ChannelParams, tx: Transaction, way: Way) -> int:
    if way is Way.COOPERATIVE_KEY_PATH:
        return vsize(4 * len(tx.serialize(witness=False)) + 2 + KEY_PATH_WITNESS)
    return vsize(close_weight(params, tx))


def _unilateral(holdings: Holdings, publisher: Side, feerate: float) -> ClosingCost:
    params, (balance_a, balance_b) = holdings.params, holdings.balances
    note = bytes(32) if params.has_onchain_state else None
    plan = plan_settlement(params, balance_a, balance_b, holdings.conditions, note)
    nets = _kept_outputs(params, (balance_a - overhead(params, plan.fee), balance_b))
    pending = sum(condition.amount for condition in holdings.conditions) - plan.trimmed_sat
    parents = ((params.commitment_vsize, params.commitment_fee), (plan.vsize, plan.fee))
    extra = sum(_child_fee(size, fee, feerate) for size, fee in parents)
    lost = params.capacity - pending - sum(nets)
    return ClosingCost(Way.UNILATERAL, publisher, params.commitment_vsize + plan.vsize, lost, extra, nets)


def _child_fee(parent_vsize: int, parent_fee: int, feerate: float) -> int:
    """What a fee child pays so that both together reach a feerate; 0 if the parent reaches it alone."""
    if parent_fee >= feerate * parent_vsize:
        return 0
    return ceil(feerate * (parent_vsize + FEE_CHILD_VSIZE)) - parent_fee


def _penalty(params: ChannelParams, punisher: Side, feerate: float, sweep_spk: bytes) -> ClosingCost:
    size = penalty_vsize(params, sweep_spk)
    fee = min(ceil(feerate * size), max_penalty_fee(params, sweep_spk))
    net = params.contest_value - fee
    nets = (net, 0) if punisher is Side.A else (0, net)
    return ClosingCost(Way.PENALTY, punisher, params.commitment_vsize + size, params.capacity - net, 0, nets)


def _claim(params: ChannelParams, condition: Condition, path: ClaimPath, feerate: float) -> ClaimCost:
    by = claimant(condition, path)
    payout = params.keys(by).payout
    size = vsize(claim_weight(params, condition, path, payout))
    fee = ceil(feerate * size)
    is_worth_it = fee <= condition.amount * CLAIM_SHARE - dust_limit(payout)
    return ClaimCost(int(condition.type), condition.id, path, by, condition.amount, size, fee, is_worth_it)


def _less(balances: tuple[int, int], side: Side, amount: int) -> tuple[int, int]:
    a, b = balances
    return (a - amount, b) if side is Side.A else (a, b - amount)


def _kept_outputs(params: ChannelParams, values: tuple[int, int]) -> tuple[int, int]:
    """Values without those that are dust: they have no output and become fee."""
    a, b = (
        value if value >= dust_limit(params.keys(side).payout) else 0 for side, value in zip(Side, values, strict=True)
    )
    return a, b
