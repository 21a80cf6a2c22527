"""Faults of the chain on a real node: reorgs of every kind, blocks that are gone, a chain that moves between calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.events import (
    BlockUnavailable,
    BreachDetected,
    Payload,
    Source,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.conftest import StartNode
from tests.regtest.world import SWEEP, World
from tests.support.parties import Pair
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.rpc import BitcoindNode
from watchtower.ports import BlockNotAvailable


class FaultyNode:
    """The real node with single methods replaced."""

    def __init__(self, adapter: BitcoindNode) -> None:
        self.adapter = adapter
        self.faults: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return self.faults.get(name) or getattr(self.adapter, name)


MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(node: RegtestNode, tmp_path: Path) -> Iterator[MakeWorld]:
    """Worlds with a node whose methods can be replaced; all end with the test."""
    made: list[World] = []

    def make(chosen: RegtestNode = node) -> World:
        made.append(World(chosen, tmp_path / f"tower{len(made)}", node_port=FaultyNode))
        return made[-1]

    yield make
    for each in made:
        each.close()


def faults(world: World) -> dict[str, Callable[..., Any]]:
    """The replaced methods of the world's node."""
    assert isinstance(world.port, FaultyNode)
    return world.port.faults


def chain_events(world: World, kind: type[Payload]) -> list[Any]:
    """Events of the chain stream of one type."""
    return [e.payload for e in world.store.read_stream("chain") if isinstance(e.payload, kind)]


def is_at_tip(world: World) -> bool:
    """The cursor is the node's tip, by hash."""
    return world.tower.follower.cursor.hash == world.node.tip()


def penalty_in_mempool(world: World, pair: Pair, sequence: int) -> Transaction:
    """Our penalty, waiting for a block."""
    penalty = world.penalty_of(pair, sequence)
    assert penalty is not None
    assert penalty.txid in world.node.mempool()
    return penalty


def punish(world: World, pair: Pair, sequence: int) -> None:
    """A block with the penalty, and its pass."""
    penalty_in_mempool(world, pair, sequence)
    world.node.mine(1)
    world.look()
    assert world.status(pair) == "PUNISHED"


def missing(_block_hash: bytes) -> bytes:
    """A node that has the block no longer."""
    raise BlockNotAvailable("block: Block not available (pruned data)")


# ── blocks that are gone ─────────────────────────────────────────────────────────────────────────────────


def test_fault_N9_breach_in_a_pruned_block(start_node: StartNode, make_world: MakeWorld) -> None:
    """The tower slept while its node pruned the block of a breach: the audit proves the gap, the penalty confirms."""
    world = make_world(start_node(extra_args=["-prune=1", "-fastprune"]))
    pair = world.open(updates=3, challenge_period=2_000)
    world.stop()
    world.node.generate_block([pair.commitment(Side.A, 1)])
    breach = world.node.height()
    for _ in range(4):
        world.node.mine(170)
    world.node.rpc("pruneblockchain", breach + 100)
    world.wake()

    reports = [world.tower.run_pass(SWEEP) for _ in range(4)]

    assert isinstance(reports[0].error, BlockNotAvailable)
    assert reports[-1].error is None
    assert is_at_tip(world)
    assert world.node.hash_at(breach) in {event.block.hash for event in chain_events(world, BlockUnavailable)}
    (found,) = [e for e in world.events(pair, BreachDetected) if isinstance(e, BreachDetected)]
    assert found.block is not None
    assert (Source.AUDIT, breach) == (found.source, found.block.height)
    punish(world, pair, 1)


def test_fault_N9_cursor_waits_while_a_spend_is_unexplained(make_world: MakeWorld) -> None:
    """A channel that was closed and settled inside a lost block: nothing proves how, so the cursor stays."""
    world = make_world()
    pair = world.open(updates=2)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.node.mine(1)
    faults(world)["block"] = missing
    faults(world)["utxos"] = lambda outpoints, include_mempool: [None] * len(outpoints)

    errors = [world.tower.run_pass(SWEEP).error for _ in range(6)]

    assert all(isinstance(error, BlockNotAvailable) for error in errors)
    assert world.tower.follower.cursor.height == world.node.height() - 2
    faults(world).clear()
    world.look()
    punish(world, pair, 1)
