"""Where the funding of every watched channel stands.

Channels whose funding is 100 blocks deep stay in the table until they are resolved: depth depends on the tip, which
is not part of the channel's history. Readers ask with a height.
"""

from __future__ import annotations

import msgspec

from projections.facts import ChannelFacts
from projections.tables import Row, Table


class FundingRow(msgspec.Struct, frozen=True):
    """`height` is None while the funding output is in no block of the active chain."""

    stream: str
    outpoint: bytes
    capacity: int
    seen: int
    height: int | None
    double_spent: int


TABLE = Table("funding_pending", FundingRow, indexes=(("height",),))


def rows(stream: str, facts: ChannelFacts) -> list[Row]:
    """The row of a registered channel that is not resolved."""
    if facts.resolved is not None or not facts.registered:
        return []
    block = facts.funding_block
    height = None if block is None else block.height
    terms, void = facts.terms, facts.double_spend is not None
    return [(stream, terms.outpoint, terms.capacity, int(facts.funding_seen), height, int(void))]
