"""The cursor: one step at a time along our own walk, and what to do when the node disagrees."""

from __future__ import annotations

import random

import pytest

from domain import cursor as cursors
from domain.chain import BlockHeader, BlockRef, OutPoint, chain_hash, work_of_bits
from domain.cursor import ChainCursor, Move, newest_active, next_move
from domain.errors import Refusal
from domain.events import (
    CHAIN_STREAM,
    AuditMismatch,
    BlockConnected,
    Envelope,
    Payload,
    Source,
    envelopes,
)

NOW = 1_700_000_000_000_000
REGTEST_BITS = 0x207FFFFF
WORK = work_of_bits(REGTEST_BITS)
START = BlockRef(100, b"\x64" * 32)


def header_on(prev: bytes, nonce: int = 0, bits: int = REGTEST_BITS) -> BlockHeader:
    """A header on top of a block; another nonce is another branch."""
    raw = (4).to_bytes(4, "little") + prev + bytes(32) + bytes(4) + bits.to_bytes(4, "little")
    return BlockHeader.parse(raw + nonce.to_bytes(4, "little"))


def step(cursor: ChainCursor, payload: Payload) -> ChainCursor:
    """The cursor after one more event."""
    return cursors.evolve(cursor, envelopes(CHAIN_STREAM, cursor.version, [payload])[0], cursor.limit)


def started(limit: int = cursors.UNDO_LIMIT) -> ChainCursor:
    """A cursor at block 100 with a chainwork of 1,000."""
    first = cursors.start(START, chain_hash("regtest"), 1_000, NOW)
    return cursors.evolve(None, envelopes(CHAIN_STREAM, 0, first)[0], limit)


def walked(blocks: int, limit: int = cursors.UNDO_LIMIT, nonce: int = 0) -> ChainCursor:
    """A cursor that connected some blocks."""
    cursor = started(limit)
    for _ in range(blocks):
        cursor = step(cursor, cursors.connect(cursor, header_on(cursor.hash, nonce), Source.BLOCK, NOW))
    return cursor


def move(cursor: ChainCursor, active: set[bytes], node_tip: bytes = b"\x01" * 32, node_work: int = 10**6) -> Move:
    """The next move for a node with these active blocks of ours."""
    return next_move(cursor, node_tip=node_tip, node_work=node_work, is_active=active.__contains__)


def hashes(cursor: ChainCursor) -> list[bytes]:
    """Our walk's blocks, oldest first."""
    return [step.block.hash for step in cursor.trail]


# ── steps ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_cursor_starts_where_the_node_stands() -> None:
    """First contact: version 1, no history."""
    cursor = started()

    assert (1, START, 1_000) == (cursor.version, cursor.tip, cursor.chainwork)
    assert (100, START.hash) == (cursor.height, cursor.hash)
    assert chain_hash("regtest") == cursor.chain_hash


def test_a_connected_block_adds_its_work() -> None:
    """Height and chainwork grow; the header is kept as a proof."""
    cursor = started()
    header = header_on(START.hash)

    event = cursors.connect(cursor, header, Source.BLOCK, NOW)
    after = step(cursor, event)

    assert (101, header.hash, 1_000 + WORK) == (after.height, after.hash, after.chainwork)
    assert (header.raw, START.hash) == (event.header, event.prev)
    assert 2 == after.version


def test_a_block_with_another_parent_is_refused() -> None:
    """The chain moved between two calls: nothing is skipped."""
    with pytest.raises(Refusal, match="does not build on the cursor"):
        cursors.connect(started(), header_on(b"\x09" * 32), Source.BLOCK, NOW)


def test_a_disconnect_returns_to_the_parent_and_its_work() -> None:
    """Height, hash and chainwork of the block before; the version still grows."""
    before = walked(2)
    event = cursors.disconnect(walked(3), NOW)

    after = step(walked(3), event)

    assert (before.tip, before.chainwork) == (after.tip, after.chainwork)
    assert before.trail == after.trail
    assert 5 == after.version


def test_the_first_block_is_never_undone() -> None:
    """There is no history before the start: an operator decides."""
    with pytest.raises(Refusal, match="operator"):
        cursors.disconnect(started(), NOW)


def test_the_undo_limit_is_a_setting() -> None:
    """With a limit of 5 blocks, four can be undone."""
    cursor = walked(20, limit=5)
    for _ in range(4):
        cursor = step(cursor, cursors.disconnect(cursor, NOW))

    assert 116 == cursor.height
    with pytest.raises(Refusal, match="deeper"):
        cursors.disconnect(cursor, NOW)


def test_other_events_of_the_stream_move_only_the_version() -> None:
    """The version is the compare-and-set; notes count as well."""
    cursor = walked(2)
    note = AuditMismatch(recorded_at=NOW, outpoint=bytes(36), expected=1, found=2, block=START)

    after = step(cursor, note)

    assert (cursor.trail, cursor.version + 1) == (after.trail, after.version)


def test_a_stream_without_a_start_is_refused() -> None:
    """A store with blocks and without a cursor is an error, never a guess."""
    block = BlockConnected(
        recorded_at=NOW, block=START, prev=bytes(32), header=bytes(80), chainwork=b"\x01", source=Source.BLOCK
    )

    with pytest.raises(AssertionError, match="CursorStarted"):
        cursors.evolve(None, envelopes(CHAIN_STREAM, 0, [block])[0])


@pytest.mark.parametrize("work", [0, 1, 255, 256, 2**255, 2**256 - 1])
def test_chainwork_survives_its_bytes(work: int) -> None:
    """Big-endian without leading zeros, up to 256 bits."""
    first = cursors.start(START, chain_hash("regtest"), work, NOW)

    assert work == cursors.evolve(None, envelopes(CHAIN_STREAM, 0, first)[0]).chainwork


@pytest.mark.parametrize(
    ("bits", "work"), [(0x207FFFFF, 2), (0x1D00FFFF, 0x100010001), (0x00000000, 0), (0x01003456, 0)]
)
def test_work_of_a_target(bits: int, work: int) -> None:
    """Regtest, the genesis block of mainnet, and targets of zero."""
    assert work == work_of_bits(bits)


# ── moves ────────────────────────────────────────────────────────────────────────────────────────────────


def test_stay_at_the_nodes_tip() -> None:
    """Nothing to ask when the hashes agree."""
    cursor = walked(3)

    assert Move.STAY is move(cursor, set(), node_tip=cursor.hash)


def test_connect_while_our_tip_is_active() -> None:
    """The node is ahead on our branch, whatever its work says."""
    cursor = walked(3)

    assert Move.CONNECT is move(cursor, set(hashes(cursor)), node_work=0)


def test_disconnect_at_the_same_height_with_another_hash() -> None:
    """A fork of one block: same height, same work, another hash."""
    cursor = walked(3)
    active = set(hashes(cursor)[:-1])

    assert Move.DISCONNECT is move(cursor, active, node_work=cursor.chainwork)


@pytest.mark.parametrize(
    ("difference", "expected"), [(-1, Move.NODE_BEHIND), (0, Move.DISCONNECT), (1, Move.DISCONNECT)]
)
def test_less_work_is_a_node_behind_and_equal_work_a_reorg(difference: int, expected: Move) -> None:
    """Nothing is disconnected for a chain with less work."""
    cursor = walked(3)

    assert expected is move(cursor, {START.hash}, node_work=cursor.chainwork + difference)


def test_a_node_that_was_rolled_back_to_our_ancestor_is_behind() -> None:
    """After a kill the node's tip is a block that we have passed."""
    cursor = walked(3)
    tip = hashes(cursor)[1]

    assert Move.NODE_BEHIND is move(cursor, set(hashes(cursor)[:2]), node_tip=tip, node_work=cursor.trail[1].chainwork)


@pytest.mark.parametrize("node_work", [0, 10**9])
def test_a_node_that_knows_none_of_our_blocks_is_another_chain(node_work: int) -> None:
    """Unknown whatever the work: another chain, or a reorg beyond the limit."""
    assert Move.UNKNOWN is move(walked(3), set(), node_work=node_work)


def test_a_fork_below_the_kept_trail_is_unknown() -> None:
    """Our older blocks are active, but they are beyond the undo limit."""
    cursor = walked(20, limit=5)
    older = set(hashes(walked(15)))

    assert Move.UNKNOWN is move(cursor, older)


@pytest.mark.parametrize("active", range(51))
def test_bisection_finds_the_fork_point(active: int) -> None:
    """Every fork point on a trail of 50, and none at all; at most six questions."""
    cursor = walked(49)
    known, asked = hashes(cursor), []

    def is_active(block_hash: bytes) -> bool:
        asked.append(block_hash)
        return block_hash in known[:active]

    expected = cursor.trail[active - 1].block if active else None
    assert expected == newest_active(cursor.trail, is_active)
    assert len(asked) <= 6


def test_an_empty_trail_has_no_fork_point() -> None:
    """Nothing to bisect."""
    assert newest_active((), lambda _: True) is None


def random_walk(seed: int, moves: int, limit: int) -> tuple[list[Envelope], ChainCursor]:
    """The chain stream of a walk with reorgs and other events, and the cursor at its end."""
    rnd, cursor = random.Random(seed), started(limit)
    events = envelopes(CHAIN_STREAM, 0, cursors.start(START, chain_hash("regtest"), 1_000, NOW))
    mismatch = AuditMismatch(recorded_at=NOW, outpoint=OutPoint(bytes(36)), expected=1, found=2, block=START)
    for nonce in range(moves):
        choices: list[Payload] = [cursors.connect(cursor, header_on(cursor.hash, nonce), Source.BLOCK, NOW), mismatch]
        choices += [cursors.disconnect(cursor, NOW)] if len(cursor.trail) > 1 else []
        payload = rnd.choices(choices, (5, 1, 3)[: len(choices)])[0]
        events += envelopes(CHAIN_STREAM, cursor.version, [payload])
        cursor = step(cursor, payload)
    return events, cursor


@pytest.mark.parametrize("seed", range(20))
def test_the_last_events_say_the_same_as_all(seed: int) -> None:
    """Whatever part of the stream is read, the cursor is that of the whole stream or none."""
    events, cursor = random_walk(seed, moves=60, limit=4)

    found = [cursors.from_tail(events[0], events[-length:], 4) for length in range(1, len(events))]

    assert {cursor, None} == set(found)


def test_a_short_memory_of_the_walk_is_not_enough() -> None:
    """Fewer blocks than the limit could hide where a reorg began."""
    events, _ = random_walk(1, moves=60, limit=4)

    assert cursors.from_tail(events[0], events[-2:], 4) is None


def test_the_stream_has_to_begin_with_its_start() -> None:
    """Without it nobody knows which chain it is."""
    events, _ = random_walk(1, moves=5, limit=4)

    with pytest.raises(AssertionError, match="CursorStarted"):
        cursors.from_tail(events[1], events[2:], 4)
