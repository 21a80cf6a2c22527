"""Outpoints that the chain scanner must notice, and whose channel they belong to.

Several channels may share an outpoint (one transaction funds many channels), so the stream is part of the key.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from domain.status import COMMITMENT_KINDS
from projections.facts import ChannelFacts
from projections.tables import Row, Table


class Role(IntEnum):
    """What a spend of the outpoint would mean."""

    FUNDING = 1
    CONTEST = 2
    FUNDING_INPUT = 3


class WatchRow(msgspec.Struct, frozen=True):
    """An outpoint (36 bytes) of a channel."""

    outpoint: bytes
    stream: str
    role: int


_FUNDING = int(Role.FUNDING)

TABLE = Table("watch_index", WatchRow, key=2)


def rows(stream: str, facts: ChannelFacts) -> list[Row]:
    """The outpoints of a channel that is not resolved.

    The inputs of the funding transaction matter while it is not in a block: in the block they are spent by it.
    """
    if facts.resolved is not None or not facts.registered:
        return []
    found: list[Row] = [(facts.terms.outpoint, stream, _FUNDING)]
    contests = (s for s in facts.spends if s.is_present and s.kind in COMMITMENT_KINDS)
    found += [(spend.contest, stream, int(Role.CONTEST)) for spend in contests]
    if facts.funding_block is None:
        found += [(outpoint, stream, int(Role.FUNDING_INPUT)) for outpoint in facts.funding_inputs]
    return found
