"""Which channels have a fact in which block: what a disconnect of the block must undo."""

from __future__ import annotations

import msgspec

from projections.facts import ChannelFacts
from projections.tables import Row, Table, as_row


class BlockRow(msgspec.Struct, frozen=True):
    """A block (hash in internal order) that holds a fact of a channel."""

    block_hash: bytes
    stream: str


TABLE = Table("block_index", BlockRow, key=2)


def rows(stream: str, facts: ChannelFacts) -> list[Row]:
    """The blocks of a channel that is not resolved; a resolved outcome is not defended any more."""
    if facts.resolved is not None:
        return []
    blocks = [facts.funding_block, *(spend.block for spend in facts.spends), *(end.block for end in facts.ends)]
    blocks += [taken.block for taken in facts.claims]
    if facts.double_spend is not None:
        blocks.append(facts.double_spend.block)
    return [as_row(BlockRow(block_hash, stream)) for block_hash in sorted({b.hash for b in blocks if b is not None})]
