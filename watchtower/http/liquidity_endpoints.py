"""Rows of the table of endpoints for liquidity and costs."""

from __future__ import annotations

from watchtower.http.endpoint import Endpoint
from watchtower.wire.liquidity import LiquidityBody, TotalLiquidityBody

LIQUIDITY: tuple[Endpoint, ...] = (
    Endpoint(
        name="get_liquidity",
        method="GET",
        path="/v1/channels/{id}/liquidity",
        summary="What can be spent and received, and what closing costs",
        description=(
            "Exact amounts for the next state: what is named gives a valid state, one satoshi more does not. Costs are "
            "counted with the node's feerates, with the channel's static one if the node does not answer."
        ),
        scope="channels:read",
        answer=LiquidityBody,
        call=lambda services, call: services.get_liquidity(call.name),
    ),
    Endpoint(
        name="get_total_liquidity",
        method="GET",
        path="/v1/liquidity",
        summary="Liquidity of all channels that are not over",
        description="A party sees the sums of its own channels.",
        scope="channels:read",
        parties=True,
        answer=TotalLiquidityBody,
        call=lambda services, call: services.get_total_liquidity(call.principal.key),
    ),
)
