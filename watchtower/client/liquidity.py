"""What can be spent and received: as the tower tells it, and as a party counts it from its own log."""

from __future__ import annotations

import msgspec

from domain.contract.state import DEFAULT_STATE_POLICY, StatePolicy
from domain.liquidity import Holdings, Liquidity, liquidity, without_updates
from watchtower.client.party_channel import PartyChannel
from watchtower.wire.liquidity import (
    ClaimCostBody,
    ClosingCostBody,
    PendingBody,
    SideLiquidityBody,
    SideTotalBody,
    StaticFeerateBody,
    TotalLiquidityBody,
)

__all__ = [
    "ChannelLiquidity",
    "ClaimCostBody",
    "ClosingCostBody",
    "PendingBody",
    "SideLiquidityBody",
    "SideTotalBody",
    "StaticFeerateBody",
    "TotalLiquidityBody",
    "channel_liquidity",
]


class ChannelLiquidity(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `get_liquidity`. Amounts in satoshi, `feerate` in sat/vB; see `wire.liquidity` for every field.

    `spendable` and `receivable` are exact for the next state; without `usable` they are 0, for updates are refused.
    """

    channel_id: str
    sequence: int
    usable: bool
    capacity: int
    overhead: int
    a: SideLiquidityBody = msgspec.field(name="A")
    b: SideLiquidityBody = msgspec.field(name="B")
    pending: tuple[PendingBody, ...]
    dust_exposure: int
    max_dust_exposure: int
    max_conditions: int
    feerate: float
    closing: tuple[ClosingCostBody, ...]
    claims: tuple[ClaimCostBody, ...]
    static: StaticFeerateBody | None = None


def channel_liquidity(channel: PartyChannel, policy: StatePolicy = DEFAULT_STATE_POLICY) -> Liquidity:
    """The newest complete state of a party's channel; nothing can be spent while updates are refused."""
    conditions = channel.state.content.read_conditions() if channel.state is not None else ()
    figures = liquidity(Holdings(channel.params, channel.balances, tuple(conditions), policy))
    takes_updates = channel.state is not None and channel.frozen is None and not channel.is_closing
    return figures if takes_updates and not channel.abandoned else without_updates(figures)
