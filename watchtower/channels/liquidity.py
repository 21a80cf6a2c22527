"""`get_liquidity`: what the sides of a channel can spend and receive, and what closing it costs."""

from __future__ import annotations

from domain.channel import Channel
from domain.economics import (
    ClaimCost,
    ClosingCost,
    claim_costs,
    closing_costs,
    recommended_static_feerate,
    what_it_buys,
)
from domain.fees import Market
from domain.liquidity import Holdings, Liquidity, PendingOutput, SideLiquidity, liquidity, without_updates
from domain.status import ChannelStatus
from watchtower.channels.context import ChannelPolicy, Context
from watchtower.channels.info import side_name, status
from watchtower.channels.listing import every_channel, is_over
from watchtower.ports import NodeError
from watchtower.wire.hexes import Hex32
from watchtower.wire.liquidity import (
    ClaimCostBody,
    ClosingCostBody,
    LiquidityBody,
    PendingBody,
    SideLiquidityBody,
    SideTotalBody,
    StaticFeerateBody,
    TotalLiquidityBody,
)

TARGETS = (1, 3, 6, 144)
COST_TARGET = 6
"""Blocks of the estimate that costs are counted with: nobody hurries to close."""


def get_liquidity(context: Context, stream: str) -> LiquidityBody:
    """One channel, with costs at the feerate of the node's market; at the static one if the node does not answer."""
    try:
        market = context.node.fee_market(TARGETS)
    except NodeError:
        market = None
    return liquidity_body(context.channels.load(stream), context.policy, context.tip_height(), market)


def get_total_liquidity(context: Context, owner: bytes | None = None) -> TotalLiquidityBody:
    """Sums over the channels of the tower that are not over.

    `owner` (x-only auth key, 32 bytes): only channels that are watched for this key.
    """
    channels = usable = capacity = exposure = 0
    own: list[SideLiquidity] = []
    counterparty: list[SideLiquidity] = []
    for row in every_channel(context, owner):
        if is_over(row):
            continue
        channel = context.channels.load(row.stream)
        figures, is_usable = _figures(channel, context.policy, context.tip_height())
        channels, usable = channels + 1, usable + is_usable
        capacity, exposure = capacity + figures.capacity, exposure + figures.dust_exposure
        own.append(figures.of(channel.own_side))
        counterparty.append(figures.of(channel.counterparty))
    return TotalLiquidityBody(
        channels=channels,
        usable=usable,
        capacity=capacity,
        own=_sum(own),
        counterparty=_sum(counterparty),
        dust_exposure=exposure,
    )


def liquidity_body(
    channel: Channel,
    policy: ChannelPolicy,
    tip_height: int,
    market: Market | None = None,
    *,
    feerate: float | None = None,
) -> LiquidityBody:
    """The API form for a channel as it stands in the log; costs at `feerate`, else at the market's, else the static."""
    figures, is_usable = _figures(channel, policy, tip_height)
    static = channel.params.static_feerate
    if feerate is None:
        feerate = static / 1000 if market is None else _feerate(market)
    held = holdings_of(channel, policy)
    return LiquidityBody(
        channel_id=Hex32(channel.params.channel_id),
        sequence=channel.sequence,
        usable=is_usable,
        capacity=figures.capacity,
        overhead=figures.overhead,
        a=_side_body(figures.a),
        b=_side_body(figures.b),
        pending=tuple(map(_pending_body, figures.pending)),
        dust_exposure=figures.dust_exposure,
        max_dust_exposure=figures.max_dust_exposure,
        max_conditions=figures.max_conditions,
        feerate=round(feerate, 3),
        closing=tuple(map(_closing_body, closing_costs(held, feerate))),
        claims=tuple(map(_claim_body, claim_costs(held, feerate))),
        static=None if market is None else _static_body(static, market),
    )


def holdings_of(channel: Channel, policy: ChannelPolicy) -> Holdings:
    """The newest complete state of a channel."""
    record = channel.state(channel.sequence)
    conditions = tuple(record.read_conditions()) if record is not None else ()
    return Holdings(channel.params, channel.balances, conditions, policy.state)


def _figures(channel: Channel, policy: ChannelPolicy, tip_height: int) -> tuple[Liquidity, bool]:
    """The figures, and whether updates are accepted; without updates nothing can be spent or received."""
    figures = liquidity(holdings_of(channel, policy))
    if status(channel, policy, tip_height) is ChannelStatus.ACTIVE:
        return figures, True
    return without_updates(figures), False


def _feerate(market: Market) -> float:
    return max(market.relay_floor, market.estimate(COST_TARGET) or 0.0)


def _sum(sides: list[SideLiquidity]) -> SideTotalBody:
    return SideTotalBody(
        balance=sum(side.balance for side in sides),
        spendable=sum(side.spendable for side in sides),
        receivable=sum(side.receivable for side in sides),
        pending_out=sum(side.pending_out for side in sides),
        pending_in=sum(side.pending_in for side in sides),
    )


def _side_body(side: SideLiquidity) -> SideLiquidityBody:
    return SideLiquidityBody(**{name: getattr(side, name) for name in side.__struct_fields__})


def _pending_body(pending: PendingOutput) -> PendingBody:
    return PendingBody(
        type=pending.type,
        id=pending.id,
        offerer=None if pending.offerer is None else side_name(pending.offerer),
        amount=pending.amount,
        expiry=pending.expiry,
        trimmed=pending.is_trimmed,
    )


def _closing_body(cost: ClosingCost) -> ClosingCostBody:
    return ClosingCostBody(
        way=cost.way.value, by=side_name(cost.by), vsize=cost.vsize, fee=cost.fee, extra=cost.extra, nets=cost.nets
    )


def _claim_body(cost: ClaimCost) -> ClaimCostBody:
    return ClaimCostBody(
        type=cost.type,
        id=cost.id,
        path="success" if cost.path.name == "SUCCESS" else "timeout",
        by=side_name(cost.by),
        amount=cost.amount,
        vsize=cost.vsize,
        fee=cost.fee,
        worth_it=cost.is_worth_it,
    )


def _static_body(feerate: int, market: Market) -> StaticFeerateBody:
    bought = what_it_buys(feerate, market)
    return StaticFeerateBody(
        feerate=bought.feerate,
        relays=bought.relays,
        needed=bought.needed,
        blocks=bought.blocks,
        recommended=recommended_static_feerate(market),
    )
