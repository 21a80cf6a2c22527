"""Where the tower's cursor stands, as the log says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from domain.chain import BlockRef
from domain.events import CHAIN_STREAM, BlockConnected, BlockDisconnected, CursorStarted, Payload, Recorded, topics_of
from projections.tables import Change, Key, Row, Table, as_row


class TipRow(msgspec.Struct, frozen=True):
    """The only row: height and hash (internal order) of the last block whose events are durable."""

    only_row: int
    height: int
    block_hash: bytes
    last_id: int
    recorded_at: int


TABLE = Table("chain_tip", TipRow)


class ChainTip:
    """Folds the chain stream; the last event that moves the cursor decides."""

    name: ClassVar[str] = "chain_tip"
    version: ClassVar[int] = 1
    topics: ClassVar[frozenset[str]] = topics_of(CursorStarted, BlockConnected, BlockDisconnected)
    tables: ClassVar[tuple[Table, ...]] = (TABLE,)

    def keys(self, _recorded: Recorded) -> Sequence[Key]:
        """Nothing needs to be loaded: the new row does not depend on the old one."""
        return ()

    def apply(self, _before: Mapping[Key, Row], page: Iterable[Recorded]) -> list[Change]:
        """The tip after the page."""
        moved = [
            (r, block) for r in page if r.envelope.stream == CHAIN_STREAM for block in tip_after(r.envelope.payload)
        ]
        if not moved:
            return []
        recorded, block = moved[-1]
        row = TipRow(1, block.height, block.hash, recorded.id, recorded.envelope.payload.recorded_at)
        return [Change(TABLE.name, (1,), as_row(row))]


def tip_after(payload: Payload) -> tuple[BlockRef, ...]:
    """Where the cursor stands after an event, if that moves it."""
    match payload:
        case CursorStarted(block=block) | BlockConnected(block=block):
            return (block,)
        case BlockDisconnected(parent=parent):
            return (parent,)
        case _:
            return ()
