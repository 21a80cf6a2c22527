"""Blocks that cannot be had or read, against the model chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from domain.chain import BlockHash
from domain.events import (
    BlockUnavailable,
    BreachDetected,
    FundingBroadcast,
    PenaltyConfirmed,
)
from tests.support.chain_faults import Overridden, faults, is_walk, opened, passes
from tests.support.small_world import SmallWorld
from watchtower.chain.fetch import PATIENCE
from watchtower.channels.register import register
from watchtower.node.blocks import BlockUnparseable
from watchtower.ports import BlockNotAvailable, NodeError


def test_fault_N9_a_lost_block_that_is_proved_is_passed_over() -> None:
    """The breach stands in a block that nobody has: its commitment is computed, its block follows from its depth."""
    world = opened()
    world.cheat(2)
    height = world.chain.height
    world.chain.mine_many(3)
    world.node.peers_have_blocks = False
    world.node.prune(height + 2)

    errors = passes(world, PATIENCE)

    assert [True] * (PATIENCE - 1) + [False] == [isinstance(error, BlockNotAvailable) for error in errors]
    assert world.is_at_tip
    assert [height, height + 1] == [event.block.height for event in world.events(BlockUnavailable, "chain")]
    (breach,) = world.events(BreachDetected)
    assert (height, 2) == (breach.block.height, breach.sequence)
    assert world.penalty(2) is not None
    world.chain.mine()
    world.look()
    assert world.status == "PUNISHED"
    assert is_walk(world)


def test_fault_N9_a_penalty_in_a_lost_block_is_found_by_its_output() -> None:
    """The breach was known; the block with our penalty is lost, but what it paid stands."""
    world = opened()
    world.cheat(2)
    world.look()
    world.chain.mine()
    height = world.chain.height
    world.node.peers_have_blocks = False
    world.node.prune(height + 1)

    passes(world, PATIENCE)

    (confirmed,) = world.events(PenaltyConfirmed)
    assert height == confirmed.block.height
    assert world.status == "PUNISHED"


def test_fault_N9_an_unexplained_output_holds_the_cursor() -> None:
    """A cooperative close in a lost block: nobody can compute it, so the cursor stays until the block is back."""
    world = opened()
    world.chain.mine([world.pool.coop])
    height = world.chain.height
    world.chain.mine_many(2)
    world.node.peers_have_blocks = False
    world.node.prune(height + 1)

    errors = passes(world, PATIENCE + 3)

    assert all(isinstance(error, BlockNotAvailable) for error in errors)
    assert "without a known spender" in str(errors[-1])
    assert height - 1 == world.tower.follower.cursor.height
    assert 1 == len(world.events(BlockUnavailable, "chain"))
    world.node.prune(0)
    world.look()
    assert world.is_at_tip
    assert world.channel.confirmed_spend is not None


def test_fault_N9_a_spend_in_a_later_block_explains_itself() -> None:
    """The lost block was empty; what is gone was spent above it, in a block that can be read."""
    world = opened()
    world.chain.mine(empty=True)
    lost = world.chain.height
    world.chain.mine([world.pool.coop])
    world.node.peers_have_blocks = False
    world.node.missing.update(lost_from(world, lost)[:1])

    passes(world, PATIENCE)

    assert world.is_at_tip
    spend = world.channel.confirmed_spend
    assert spend is not None
    assert spend.block is not None
    assert lost + 1 == spend.block.height


def test_fault_N9_peers_bring_the_block() -> None:
    """A pruned node that still has peers gets the block from one of them: nothing is passed over."""
    world = opened()
    world.cheat(1)
    first = world.chain.height
    world.chain.mine_many(2)
    world.node.missing.update(lost_from(world, first))

    passes(world, 2)

    assert world.is_at_tip
    assert [] == world.events(BlockUnavailable, "chain")
    assert world.penalty(1) is not None


def test_fault_N9_peers_are_asked_again_when_the_first_ones_had_nothing() -> None:
    """A node has no peers in its first seconds; a block that cannot be proved must not wait for a restart."""
    world = opened()
    world.chain.mine([world.pool.coop])
    height = world.chain.height
    world.chain.mine_many(2)
    world.node.peers_have_blocks = False
    world.node.missing.update(lost_from(world, height))
    passes(world, PATIENCE + 1)

    world.node.peers_have_blocks = True
    passes(world, PATIENCE + 1)

    assert world.is_at_tip
    assert world.channel.confirmed_spend is not None


def lost_from(world: SmallWorld, height: int) -> list[BlockHash]:
    """All blocks from a height on."""
    hashes = [world.chain.hash_at(each) for each in range(height, world.chain.height + 1)]
    return [each for each in hashes if each is not None]


def broken_block(world: SmallWorld) -> Callable[[bytes], bytes]:
    """The tip's bytes with one byte too many: valid for its header, unreadable behind it."""
    return lambda block_hash: world.node.block(block_hash) + b"\x00"


def test_fault_N14_what_our_parser_cannot_read_the_node_reads() -> None:
    """The second way finds the breach in the same block."""
    world = opened()
    world.cheat(3)
    faults(world)["block"] = broken_block(world)

    world.look()

    assert world.is_at_tip
    assert world.penalty(3) is not None


def test_fault_N14_what_nobody_can_read_stops_the_cursor() -> None:
    """No block is skipped; the answer to what is known goes on."""
    world = opened()
    world.cheat(3)

    def unreadable(_block_hash: bytes) -> Any:
        raise NodeError("getblock: the reply cannot be read")

    faults(world).update(block=broken_block(world), decoded_block=unreadable)
    errors = passes(world, 3)

    assert all(isinstance(error, BlockUnparseable) for error in errors)
    assert world.chain.height - 1 == world.tower.follower.cursor.height
    faults(world).clear()
    world.look()
    assert world.penalty(3) is not None


def test_fault_N8_a_damaged_transaction_ends_the_pass_and_nothing_else() -> None:
    """Bytes that are no transaction are the node's error, and the next pass asks again."""
    world = opened()
    assert world.chain.send(world.pool.commitments[1]) is None
    faults(world)["mempool_transaction"] = lambda _txid: b"\x03\x00"

    with pytest.raises(NodeError, match="cannot be read"):
        world.look()
    faults(world).clear()
    world.look()

    assert world.channel.mempool_spend is not None


def test_fault_N8_a_damaged_funding_is_not_kept() -> None:
    """What is once in the log would be read in every later block."""
    world = registered_by_outpoint()
    faults(world)["mempool_transaction"] = lambda _txid: b"\x03\x00"

    with pytest.raises(NodeError, match="cannot be read"):
        world.look()

    assert [] == world.events(FundingBroadcast)


def test_an_unreadable_block_can_be_undone() -> None:
    """The funding was confirmed in it, and its bytes are not understood any more: the reorg is followed."""
    world = registered_by_outpoint()
    world.chain.mine()
    world.look()
    assert world.channel.funding_block is not None
    assert world.channel.funding_tx is None
    faults(world)["block"] = broken_block_of(world, world.chain.tip.hash)

    world.chain.reorg(1)
    world.look()

    assert world.is_at_tip


def registered_by_outpoint() -> SmallWorld:
    """The funding transaction is in the mempool, and nobody told its bytes."""
    world = SmallWorld(wrap=Overridden)
    assert world.chain.send(world.pool.funding) is None
    register(world.context, msgspec.structs.replace(world.pool.registration, funding_tx=None))
    return world


def broken_block_of(world: SmallWorld, broken: bytes) -> Callable[[bytes], bytes]:
    """One block has a byte too many."""
    return lambda block_hash: world.node.block(block_hash) + b"\x00" * (block_hash == broken)


def test_everything_is_compared_after_a_block_was_missing() -> None:
    """Once when the block came after all, and once when it was passed over."""
    world = opened()
    rounds = world.tower.audit.report.rounds
    world.chain.mine(empty=True)
    world.node.missing.update(lost_from(world, world.chain.height))
    passes(world, 3)
    came = world.tower.audit.report.rounds
    world.chain.mine(empty=True)
    world.node.peers_have_blocks = False
    world.node.missing.update(lost_from(world, world.chain.height))
    passes(world, PATIENCE + 2)

    assert world.is_at_tip
    assert 1 == world.tower.follower.blocks_passed_over
    assert (1, 2) == (came - rounds, world.tower.audit.report.rounds - rounds)


def test_a_channel_ends_in_a_block_that_was_passed_over() -> None:
    """Its last block of a hundred is lost: what follows from heights alone happens in it."""
    world = opened()
    world.cheat(1)
    world.look()
    world.chain.mine()
    world.chain.mine_many(98)
    world.look()
    assert world.channel.resolved is None
    world.chain.mine(empty=True)
    world.node.peers_have_blocks = False
    world.node.missing.update(lost_from(world, world.chain.height))

    passes(world, PATIENCE)

    assert 1 == world.tower.follower.blocks_passed_over
    assert world.channel.resolved is not None
