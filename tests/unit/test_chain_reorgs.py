"""Reorgs against the model chain: every depth, flip-flops, chains of less work, and what moves between two calls."""

from __future__ import annotations

from typing import Any

import pytest

from domain.events import (
    BlockDisconnected,
    SpendConfirmed,
)
from tests.support.chain_faults import faults, is_walk, opened
from tests.support.small_world import SWEEP, SmallWorld
from watchtower.chain.follow import CursorUnknown, NodeBehind
from watchtower.ports import NodeError, StoreError, WrongChain


@pytest.mark.slow
@pytest.mark.parametrize("depths", [range(1, 34), range(34, 67), range(67, 101)])
def test_fault_C2_reorgs_of_every_depth(depths: range) -> None:
    """From 1 to 100 blocks: the walk ends at the new tip, by disconnects down to the fork and nothing else."""
    world = SmallWorld()
    for depth in depths:
        world.chain.reorg(depth)
        before = len(world.events(BlockDisconnected, "chain"))
        world.look()
        assert depth == len(world.events(BlockDisconnected, "chain")) - before
        assert world.is_at_tip
    assert is_walk(world)


@pytest.mark.parametrize("depth", [2, 3, 11, 20])
def test_fault_C2_a_breach_is_carried_through_a_deep_reorg(depth: int) -> None:
    """Breach and penalty are undone together and redone: nothing is forgotten below ten blocks either."""
    world = opened()
    world.cheat(1)
    world.look()
    for _ in range(depth - 1):
        world.chain.mine()
        world.look()
    assert world.status == "PUNISHED"

    world.chain.reorg(depth)
    world.look()
    world.look()
    assert world.penalty(1) is not None
    world.chain.mine()
    world.look()

    assert world.status == "PUNISHED"
    assert is_walk(world)


def test_fault_C9_flip_flop_between_two_branches() -> None:
    """Twenty flips: connect and disconnect are each other's mirror, and each return is recorded again."""
    world = opened()
    world.cheat(2)
    world.look()
    with_breach = world.chain.tip.hash
    world.chain.reorg(1, [[]])
    without = world.chain.tip.hash
    for _ in range(10):
        world.look()
        assert world.channel.confirmed_spend is None
        world.chain.prefer(with_breach)
        world.look()
        assert world.status == "UNILATERAL"
        world.chain.prefer(without)
    world.look()

    assert 11 == len(world.events(SpendConfirmed))
    assert is_walk(world)


def test_fault_C12_a_reorg_below_the_undo_limit_waits_for_a_person() -> None:
    """With a history of 5 a reorg of 10 changes nothing; whoever has the whole history gets through."""
    world = SmallWorld(undo_limit=5)
    world.chain.reorg(10)
    events = len(world.store.read_stream("chain"))

    for _ in range(3):
        with pytest.raises(CursorUnknown):
            world.look()
    assert events == len(world.store.read_stream("chain"))

    world.undo_limit = 10**9
    world.restart()
    assert world.is_at_tip
    assert is_walk(world)


def test_fault_N10_less_work_undoes_nothing_and_a_person_may_accept_it() -> None:
    """A node that was rolled back is waited for; `step_back` is what a person's command does."""
    world = opened()
    world.chain.mine_many(5)
    world.look()
    world.node.roll_back(4)
    events = len(world.store.read_stream("chain"))

    with pytest.raises(NodeBehind):
        world.look()
    assert events == len(world.store.read_stream("chain"))
    assert 4 == world.tower.follower.step_back()
    assert world.look().error is None
    assert world.tower.follower.cursor.hash == world.node.best_hash()


def test_fault_C8_the_chain_flips_back_while_the_fork_is_searched() -> None:
    """Between two questions our own tip becomes active again: no disconnect, no crash, the next pass connects."""
    world = opened()
    ours = world.chain.tip.hash
    world.chain.reorg(1, [[], []])
    asked: list[bytes] = []

    def flipping(block_hash: bytes) -> Any:
        asked.append(block_hash)
        if block_hash == ours and asked.count(ours) == 2:
            world.chain.prefer(ours)
        return world.node.header(block_hash)

    faults(world)["header"] = flipping
    for _ in range(3):
        world.tower.run_pass(SWEEP)

    assert world.is_at_tip
    assert is_walk(world)


@pytest.mark.parametrize("method", ["best_hash", "hash_at", "header", "block", "utxos", "mempool_spenders"])
def test_fault_C8_the_chain_moves_between_any_two_calls(method: str) -> None:
    """A reorg with the breach right before each kind of question: the walk stays one, and the breach is found."""
    world = opened()
    world.chain.mine_many(2)
    world.tower.audit.request()
    done: list[int] = []

    def moving(*arguments: Any, **named: Any) -> Any:
        if not done:
            done.append(1)
            world.chain.reorg(2, [[], [world.pool.commitments[1]], []])
        return getattr(world.node, method)(*arguments, **named)

    faults(world)[method] = moving
    for _ in range(4):
        world.tower.run_pass(SWEEP)

    assert is_walk(world)
    assert world.penalty(1) is not None


def test_a_block_of_another_hash_is_not_taken() -> None:
    """The bytes must be those of the hash that was asked for."""
    world = opened()
    other = world.chain.tip.raw
    world.cheat(1)
    faults(world)["block"] = lambda _hash: other

    with pytest.raises(NodeError, match="another block"):
        world.look()
    faults(world).clear()
    world.look()
    assert world.penalty(1) is not None


def test_a_log_with_channels_and_without_a_cursor_is_an_error() -> None:
    """Never "start at the tip": what was mined meanwhile would be skipped."""
    world = opened()
    world.store._streams["chain"].clear()

    with pytest.raises(StoreError, match="no cursor"):
        world.restart()


def test_fault_N11_another_network_writes_nothing() -> None:
    """A node of another chain is refused before anything is written."""
    world = opened()
    info = world.node.chain_info()
    faults(world)["chain_info"] = lambda: type(info)(
        "signet", info.blocks, info.headers, info.best_hash, info.initial_block_download, 0
    )
    events = world.store.last_id()

    with pytest.raises(WrongChain):
        world.restart()
    assert events == world.store.last_id()
