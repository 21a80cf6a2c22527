"""Random walks of the cursor against a reference that simply keeps every block."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from domain import cursor as cursors
from domain.chain import BlockRef
from domain.cursor import ChainCursor, Move, next_move
from domain.events import Source, decode_payload, encode_payload
from tests.unit.test_domain_cursor import NOW, START, WORK, header_on, started, step

LIMIT = 6


class Reference:
    """Every block since the start, and how deep the walk may still be undone."""

    def __init__(self) -> None:
        self.blocks = [START]
        self.undoable = 0

    def up(self, block_hash: bytes) -> None:
        """One more block."""
        self.blocks.append(BlockRef(self.blocks[-1].height + 1, block_hash))
        self.undoable = min(self.undoable + 1, LIMIT - 1)

    def down(self) -> None:
        """Back by one block."""
        self.blocks.pop()
        self.undoable -= 1


@given(st.lists(st.integers(0, 5), max_size=60))
def test_a_walk_keeps_the_trail_of_its_own_blocks(choices: list[int]) -> None:
    """0 and 1 go back if that is possible, everything else connects a block of that branch."""
    cursor, reference = started(LIMIT), Reference()
    for choice in choices:
        if choice < 2 and reference.undoable:
            cursor = step(cursor, cursors.disconnect(cursor, NOW))
            reference.down()
        else:
            header = header_on(cursor.hash, nonce=choice)
            cursor = step(cursor, cursors.connect(cursor, header, Source.BLOCK, NOW))
            reference.up(header.hash)

        assert reference.blocks[-(reference.undoable + 1) :] == [kept.block for kept in cursor.trail]
        assert 1_000 + WORK * (len(reference.blocks) - 1) == cursor.chainwork


@given(st.lists(st.booleans(), max_size=30))
def test_a_walk_read_back_from_stored_bytes_is_the_same_cursor(ups: list[bool]) -> None:
    """The log alone gives the cursor."""
    cursor = replayed = started()
    for up in ups:
        event = (
            cursors.connect(cursor, header_on(cursor.hash), Source.BLOCK, NOW)
            if up or len(cursor.trail) < 2
            else cursors.disconnect(cursor, NOW)
        )
        cursor = step(cursor, event)
        replayed = step(replayed, decode_payload(event.TOPIC, encode_payload(event)))

    assert cursor == replayed


@given(
    trunk=st.integers(0, 20),
    ours=st.integers(0, 8),
    theirs=st.integers(0, 8),
)
def test_moves_lead_to_the_nodes_tip_or_wait(trunk: int, ours: int, theirs: int) -> None:
    """Follow the moves until they stop: at the node's tip, or in front of a chain with less work."""
    cursor = started()
    chain = [cursor.hash]
    for _ in range(trunk):
        chain.append(header_on(chain[-1]).hash)
        cursor = _up(cursor, 0)
    node = list(chain)
    for _ in range(theirs):
        node.append(header_on(node[-1], nonce=2).hash)
    for _ in range(ours):
        cursor = _up(cursor, 1)
    node_work, walk = 1_000 + WORK * (len(node) - 1), [cursor]

    while (move := _move(walk[-1], node, node_work)) in (Move.CONNECT, Move.DISCONNECT):
        there = walk[-1]
        walk.append(_up(there, 2) if move is Move.CONNECT else step(there, cursors.disconnect(there, NOW)))

    behind = ours > theirs
    assert (Move.NODE_BEHIND if behind else Move.STAY) is move
    assert (cursor.hash if behind else node[-1]) == walk[-1].hash
    assert len(walk) <= ours + theirs + 1


def _up(cursor: ChainCursor, nonce: int) -> ChainCursor:
    return step(cursor, cursors.connect(cursor, header_on(cursor.hash, nonce), Source.BLOCK, NOW))


def _move(cursor: ChainCursor, node: list[bytes], node_work: int) -> Move:
    return next_move(cursor, node_tip=node[-1], node_work=node_work, is_active=node.__contains__)


@given(st.integers(1, 40))
def test_up_and_down_again_restores_the_cursor(blocks: int) -> None:
    """Connect and disconnect are each other's mirror, apart from the version."""
    cursor = first = started()
    for _ in range(blocks):
        cursor = _up(cursor, 0)
    for _ in range(blocks):
        cursor = step(cursor, cursors.disconnect(cursor, NOW))

    assert first == msgspec.structs.replace(cursor, version=first.version)
