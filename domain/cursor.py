"""The chain cursor: which block's events are durable, and how to get from there to the node's tip.

The only reorg logic of the program. It works on what the log says about our own walk; the node is asked only
which of our blocks is on its active chain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec

from domain.chain import BlockHeader, BlockRef, work_of_bits
from domain.errors import Refusal
from domain.events import (
    BlockConnected,
    BlockDisconnected,
    CursorStarted,
    Envelope,
    Payload,
    Source,
)

UNDO_LIMIT = 2016
"""Blocks that can be undone without an operator: two weeks, above every default challenge period."""


class Step(msgspec.Struct, frozen=True):
    """A block of our own walk with the cumulative chainwork up to it."""

    block: BlockRef
    chainwork: int


class ChainCursor(msgspec.Struct, frozen=True):
    """Where the follower stands. `version` is the chain stream's version, the compare-and-set of the cursor.

    `trail` holds our walk's last blocks, oldest first, ending with the tip.
    """

    version: int
    trail: tuple[Step, ...]
    chain_hash: bytes
    limit: int = UNDO_LIMIT

    @property
    def tip(self) -> BlockRef:
        """The last block whose events are durable."""
        return self.trail[-1].block

    @property
    def chainwork(self) -> int:
        """Cumulative chainwork of the tip."""
        return self.trail[-1].chainwork

    @property
    def height(self) -> int:
        """Height of the tip."""
        return self.tip.height

    @property
    def hash(self) -> bytes:
        """Hash of the tip."""
        return self.tip.hash


def evolve(cursor: ChainCursor | None, event: Envelope, limit: int = UNDO_LIMIT) -> ChainCursor:
    """Cursor after one event of the chain stream."""
    payload = event.payload
    if isinstance(payload, CursorStarted):
        work = int.from_bytes(payload.chainwork, "big")
        return ChainCursor(event.version, (Step(payload.block, work),), payload.chain_hash, limit)
    if cursor is None:
        raise AssertionError("the chain stream does not begin with CursorStarted")
    if isinstance(payload, BlockConnected):
        work = int.from_bytes(payload.chainwork, "big")
        trail = (*cursor.trail, Step(payload.block, work))[-cursor.limit :]
        return msgspec.structs.replace(cursor, version=event.version, trail=trail)
    if isinstance(payload, BlockDisconnected):
        return _step_back(cursor, event.version, payload)
    return msgspec.structs.replace(cursor, version=event.version)


def from_tail(first: Envelope, tail: Sequence[Envelope], limit: int = UNDO_LIMIT) -> ChainCursor | None:
    """The cursor from the first and the last events of the chain stream, the same as from all of them.

    None if the last events do not say enough: then take more of them. They do once they fill the whole memory of the
    walk, because what came before is forgotten there.
    """
    chain, cursor, was_full = evolve(None, first, limit).chain_hash, None, False
    for event in tail:
        if cursor is None and isinstance(event.payload, BlockConnected):
            step = Step(event.payload.block, int.from_bytes(event.payload.chainwork, "big"))
            cursor = ChainCursor(event.version, (step,), chain, limit)
        elif cursor is not None:
            cursor = evolve(cursor, event, limit)
        was_full = was_full or (cursor is not None and len(cursor.trail) == limit)
    return cursor if was_full else None


def _step_back(cursor: ChainCursor, version: int, payload: BlockDisconnected) -> ChainCursor:
    parent = Step(payload.parent, int.from_bytes(payload.chainwork, "big"))
    return msgspec.structs.replace(cursor, version=version, trail=cursor.trail[:-1] or (parent,))


class Move(StrEnum):
    """What the follower has to do next."""

    STAY = "stay"
    CONNECT = "connect"
    DISCONNECT = "disconnect"
    NODE_BEHIND = "node_behind"
    UNKNOWN = "cursor_unknown"


def next_move(
    cursor: ChainCursor,
    *,
    node_tip: bytes,
    node_work: int,
    is_active: Callable[[bytes], bool],
) -> Move:
    """Decide one step. `is_active` tells whether a block of ours is on the node's active chain.

    With less work than ours the node is behind (rolled back or syncing): nothing is disconnected. Equal work
    is a reorg. Nothing is ever skipped.
    """
    if node_tip == cursor.hash:
        return Move.STAY
    if is_active(cursor.hash):
        return Move.CONNECT
    # Without the tip itself: should the chain flip back between two questions, there is still a block to return to.
    if newest_active(cursor.trail[:-1], is_active) is None:
        return Move.UNKNOWN
    return Move.NODE_BEHIND if node_work < cursor.chainwork else Move.DISCONNECT


def newest_active(trail: Sequence[Step], is_active: Callable[[bytes], bool]) -> BlockRef | None:
    """Fork point by bisection: activity of our blocks is a prefix property of the trail."""
    low, high = 0, len(trail)
    while low < high:
        middle = (low + high) // 2
        if is_active(trail[middle].block.hash):
            low = middle + 1
        else:
            high = middle
    return trail[low - 1].block if low else None


def start(block: BlockRef, chain_hash: bytes, chainwork: int, now: int) -> list[Payload]:
    """First contact: the cursor begins at the node's tip."""
    return [CursorStarted(recorded_at=now, block=block, chain_hash=chain_hash, chainwork=_work_bytes(chainwork))]


def connect(cursor: ChainCursor, header: BlockHeader, source: Source, now: int) -> BlockConnected:
    """The block on top of the cursor; refuses a block with another parent."""
    if header.prev != cursor.hash:
        raise Refusal("the block does not build on the cursor: the chain moved between two calls")
    return BlockConnected(
        recorded_at=now,
        block=BlockRef(cursor.height + 1, header.hash),
        prev=header.prev,
        header=header.raw,
        chainwork=_work_bytes(cursor.chainwork + work_of_bits(header.bits)),
        source=source,
    )


def disconnect(cursor: ChainCursor, now: int) -> BlockDisconnected:
    """One step back along our own walk; refuses when the trail is used up."""
    if len(cursor.trail) < 2:
        raise Refusal("the reorg is deeper than the history that may be undone; an operator has to decide")
    parent = cursor.trail[-2]
    return BlockDisconnected(
        recorded_at=now,
        block=cursor.tip,
        parent=parent.block,
        chainwork=_work_bytes(parent.chainwork),
    )


def _work_bytes(work: int) -> bytes:
    return work.to_bytes((work.bit_length() + 7) // 8, "big")
