"""Channels whose funding is in no block of the active chain, or void: what to look for in blocks and mempool.

A confirmed funding is a column of `channel_info`; how deep it is depends on the tip, which is not part of a channel's
history.
"""

from __future__ import annotations

import msgspec

from projections.facts import ChannelFacts
from projections.tables import Row, Table


class FundingRow(msgspec.Struct, frozen=True):
    """`height` is None while the funding output is in no block of the active chain; with one, the channel is void."""

    stream: str
    outpoint: bytes
    capacity: int
    seen: int
    height: int | None
    double_spent: int


TABLE = Table("funding_pending", FundingRow)


def rows(stream: str, facts: ChannelFacts) -> list[Row]:
    """The row of a registered channel that is not resolved and waits for its funding."""
    block, void = facts.funding_block, facts.double_spend is not None
    if (block is not None and not void) or facts.resolved is not None or not facts.registered:
        return []
    height = None if block is None else block.height
    terms = facts.terms
    return [(stream, terms.outpoint, terms.capacity, int(facts.funding_seen), height, int(void))]
