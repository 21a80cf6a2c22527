"""What can be spent and received, as the tower tells it."""

from __future__ import annotations

import msgspec

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
