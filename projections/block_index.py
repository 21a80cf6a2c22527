"""Which channels have a fact behind their funding in which block: what a disconnect of the block must undo.

The block of the funding is a column of `channel_info`, which has an index on it.
"""

from __future__ import annotations

import msgspec

from projections.facts import ChannelFacts
from projections.tables import Row, Table


class BlockRow(msgspec.Struct, frozen=True):
    """A block (hash in internal order) that holds a spend, an end, a claim or a double spend of a channel."""

    block_hash: bytes
    stream: str


TABLE = Table("block_index", BlockRow, key=2)


def rows(stream: str, facts: ChannelFacts) -> list[Row]:
    """The blocks of a channel that is not resolved; a resolved outcome is not defended any more."""
    if facts.resolved is not None or not (facts.spends or facts.double_spend):
        return []
    found = {spend.block.hash for spend in facts.spends if spend.block is not None}
    found.update(end.block.hash for end in facts.ends)
    found.update(taken.block.hash for taken in facts.claims)
    if facts.double_spend is not None:
        found.add(facts.double_spend.block.hash)
    return [(block_hash, stream) for block_hash in sorted(found)]
