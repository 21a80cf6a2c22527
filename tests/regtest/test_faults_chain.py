"""Faults of the chain on a real node: reorgs of every kind, blocks that are gone, a chain that moves between calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from domain.events import (
    BlockConnected,
    BlockDisconnected,
    BlockUnavailable,
    BreachDetected,
    Payload,
    PenaltyPrepared,
    Source,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.conftest import StartNode
from tests.regtest.world import SWEEP, World
from tests.support.parties import Pair
from watchtower.chain.follow import CursorUnknown, NodeBehind
from watchtower.chain.needs import Needs
from watchtower.chain.rescan import Rescan
from watchtower.cli import _main
from watchtower.devnode.provision import Found
from watchtower.devnode.regtest import RegtestNode, RpcRefused
from watchtower.host.system import SystemClock
from watchtower.new_tower import NewTower
from watchtower.node.rpc import BitcoindNode
from watchtower.node.second import SecondNode, TwoNodes
from watchtower.ports import BlockNotAvailable
from watchtower.store.datastore import no_failpoint


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


# ── reorgs ───────────────────────────────────────────────────────────────────────────────────────────────


def test_fault_C1_the_tip_is_mined_again_with_and_without_the_breach(world: World) -> None:
    """The height stays, the hash decides: the breach goes and comes with the block."""
    pair = world.open(updates=3)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    world.node.reorg(1, [[]])
    world.look()
    assert world.channel(pair).confirmed_spend is None
    world.node.reorg(1, [[pair.commitment(Side.A, 1)]])
    world.look()

    spend = world.channel(pair).confirmed_spend
    assert spend is not None
    assert spend.block is not None
    assert world.node.tip() == spend.block.hash
    punish(world, pair, 1)


def test_fault_C2_deep_reorgs(world: World) -> None:
    """Depths 1 to 100 on the real node; the deepest ones are met at a restart."""
    for depth in (1, 2, 6, 11, 20):
        world.node.reorg(depth)
        world.look()
        assert is_at_tip(world)
    for depth in (50, 100):
        world.node.reorg(depth)
        world.restart()
        assert is_at_tip(world)
    assert 190 == len(chain_events(world, BlockDisconnected))


def test_fault_C3_breach_is_mined_again_later(world: World) -> None:
    """A new height gives a new deadline; the bid is not lowered."""
    pair = world.open(updates=3)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    before = world.channel(pair).bids[-1]
    world.node.reorg(1, [[], [], [], [pair.commitment(Side.A, 1)]])
    world.look()

    first, again = (e for e in world.events(pair, BreachDetected) if isinstance(e, BreachDetected) and e.block)
    assert first.deadline is not None
    assert again.deadline == first.deadline + 3
    assert world.channel(pair).bids[-1].fee >= before.fee
    punish(world, pair, 1)


@pytest.mark.parametrize("depth", [1, 5, 6, 50, 99])
def test_fault_C6_penalty_is_reorged_out(world: World, depth: int) -> None:
    """However deep it was, the channel is not resolved before 100; after a restart the penalty is there again."""
    pair = world.open(updates=2)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    punish(world, pair, 1)
    world.node.mine(depth - 1)
    world.look()
    assert world.channel(pair).resolved is None

    world.node.reorg(depth)
    world.restart()

    assert world.status(pair) == "UNILATERAL"
    punish(world, pair, 1)


def test_fault_C7_the_mempool_is_empty_after_a_deep_reorg(world: World) -> None:
    """Eleven blocks take commitment and penalty along; both are sent again together."""
    pair = world.open(updates=2)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    penalty = penalty_in_mempool(world, pair, 1)
    world.node.mine(1)
    world.node.mine(11)
    world.look()
    assert world.status(pair) == "PUNISHED"

    world.node.reorg(13)
    world.restart()
    world.look()

    assert {pair.commitment_txid(Side.A, 1), penalty.txid} <= world.node.mempool()
    punish(world, pair, 1)


def test_fault_C8_reorg_between_two_calls_of_one_pass(make_world: MakeWorld) -> None:
    """The block that was named is replaced before it is fetched: dropped, and the other branch is followed."""
    world = make_world()
    pair = world.open(updates=2)
    world.node.mine(2)
    assert isinstance(world.port, FaultyNode)
    adapter, height, left = world.port.adapter, world.tower.follower.cursor.height, [1]

    def moving(block_hash: bytes) -> bytes:
        if left:
            left.pop()
            world.node.reorg(2, [[], [pair.commitment(Side.A, 1)], []])
        return adapter.block(block_hash)

    faults(world)["block"] = moving
    for _ in range(3):
        world.tower.run_pass(SWEEP)

    assert is_at_tip(world)
    steps = [e for e in chain_events(world, BlockConnected) if e.block.height > height]
    assert world.node.hash_at(height + 1) in {step.block.hash for step in steps}
    punish(world, pair, 1)


def test_fault_C11_breach_before_the_first_match_of_the_towers_life(world: World) -> None:
    """Nothing was ever found when the tower went down: the cursor stands where it was, not at the tip."""
    pair = world.open(updates=2)
    world.stop()
    world.node.generate_block([pair.commitment(Side.A, 0)])
    world.node.mine(3)
    world.wake()

    punish(world, pair, 0)


@pytest.mark.parametrize("before_deadline", [1, 0])
def test_fault_C13_start_at_the_last_moment(world: World, before_deadline: int) -> None:
    """Restarted with one block left and with none: the first pass bids what the critical phase asks, and wins."""
    pair = world.open(updates=2, challenge_period=10)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.stop()
    for _ in range(9 - before_deadline):
        world.node.generate_block()
    world.wake()

    (bid,) = (e for e in world.events(pair, PenaltyPrepared) if isinstance(e, PenaltyPrepared))
    assert before_deadline == bid.remaining
    punish(world, pair, 1)


def test_an_own_commitment_survives_a_reorg_that_empties_the_mempool(world: World) -> None:
    """The owner's close was twelve deep and is in no mempool any more: its kept bytes go out again."""
    pair = world.open(updates=2)
    txid = pair.commitment_txid(Side.B, pair.sequence)
    world.node.generate_block([pair.commitment(Side.B, pair.sequence)])
    world.node.mine(11)
    world.look()
    assert world.channel(pair).confirmed_spend is not None

    world.node.reorg(12)
    world.look()
    world.look()

    assert txid in world.node.mempool()


# ── other nodes ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def network(start_node: StartNode) -> RegtestNode:
    """The node that holds the truth."""
    return start_node(listen=True)


def beside(adapter: BitcoindNode, other: RegtestNode) -> TwoNodes:
    """The own node with another one as second source, whose tip is asked for each time."""
    ticks = count(0, 11)
    port = BitcoindNode(other.rpc_url, cookie_path=other.cookie_path)
    return TwoNodes(adapter, SecondNode(port, "regtest", lambda: float(next(ticks))))


def test_fault_N10_node_comes_back_at_an_old_height(network: RegtestNode, node: RegtestNode, tmp_path: Path) -> None:
    """Killed before it wrote 50 blocks down: nothing is undone, and with its peers all is as before."""
    node.connect(network)
    world = World(node, tmp_path / "tower")
    pair = world.open(updates=2)
    node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    punish(world, pair, 1)
    network.sync_to(node)
    network.mine(50)
    node.sync_to(network)
    world.look()
    node.kill()
    node.launch()
    assert node.height() < network.height()

    report = world.tower.run_pass(SWEEP)

    assert isinstance(report.error, NodeBehind)
    assert [] == chain_events(world, BlockDisconnected)
    node.connect(network)
    node.sync_to(network)
    world.look()
    assert is_at_tip(world)
    assert world.status(pair) == "PUNISHED"
    world.close()


def test_fault_N11_the_node_was_swapped(world: World, bitcoind_path: Found, tmp_path: Path) -> None:
    """A fresh regtest chain knows none of our blocks: not one event is written, also after a restart."""
    pair = world.open(updates=2)
    own, events = world.node, world.store.last_id()
    with RegtestNode.start(tmp_path / "fresh", binary=bitcoind_path) as fresh:
        world.node = fresh
        for report in (world.restart(), world.tower.run_pass(SWEEP)):
            assert isinstance(report.error, CursorUnknown)
        assert events == world.store.last_id()
        world.stop()
    world.node = own
    world.wake()
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    punish(world, pair, 1)


def test_scenario_N04_an_eclipsed_node_does_not_stop_the_clock(
    network: RegtestNode, node: RegtestNode, tmp_path: Path
) -> None:
    """N12: the own node is cut off; the bid rises with the second node's headers and reaches the miners through it."""
    node.connect(network)
    world = World(node, tmp_path / "tower", node_port=lambda adapter: beside(adapter, network))
    pair = world.open(updates=2, challenge_period=24)
    node.generate_block([pair.commitment(Side.A, 1)])
    network.sync_to(node)
    node.disconnect()
    world.look()
    for _ in range(20):
        network.generate_block()
    world.look()

    last = world.events(pair, PenaltyPrepared)[-1]
    assert isinstance(last, PenaltyPrepared)
    assert 3 == last.remaining
    assert last.txid in network.mempool()
    network.mine(1)
    node.connect(network)
    node.sync_to(network)
    world.look()
    assert world.status(pair) == "PUNISHED"
    world.close()


def test_fault_N13_two_nodes_disagree(network: RegtestNode, node: RegtestNode, tmp_path: Path) -> None:
    """A breach on the other branch only: the cursor follows the own node, and the branch with more work wins."""
    node.connect(network)
    world = World(node, tmp_path / "tower", node_port=lambda adapter: beside(adapter, network))
    pair = world.open(updates=2)
    network.sync_to(node)
    node.disconnect()
    network.generate_block([pair.commitment(Side.A, 1)])
    network.mine(2)
    node.mine(1)
    world.look()
    assert is_at_tip(world)
    assert world.channel(pair).confirmed_spend is None

    node.connect(network)
    node.sync_to(network)
    world.look()

    assert is_at_tip(world)
    punish(world, pair, 1)
    world.close()


def test_fault_N9_second_node_has_the_block(network: RegtestNode, start_node: StartNode, tmp_path: Path) -> None:
    """A pruned own node and a full second one: nothing is passed over."""
    own = start_node()
    own.connect(network)
    made: list[FaultyNode] = []

    def port(adapter: BitcoindNode) -> TwoNodes:
        made.append(FaultyNode(adapter))
        return beside(made[-1], network)  # type: ignore[arg-type]

    world = World(own, tmp_path / "tower", node_port=port)
    pair = world.open(updates=2)
    network.sync_to(own)
    made[-1].faults["block"] = missing
    own.generate_block([pair.commitment(Side.A, 1)])
    network.sync_to(own)
    world.look()

    assert [] == chain_events(world, BlockUnavailable)
    punish(world, pair, 1)
    world.close()


# ── what a person decides ────────────────────────────────────────────────────────────────────────────────


def command(tower: NewTower, *arguments: str) -> dict[str, int]:
    """JSON of a `watchtower chain` command on the tower's files."""
    config = str(tower.config_path)
    done = CliRunner().invoke(_main, ["--config", config, "chain", *arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    answer: dict[str, int] = json.loads(done.stdout)
    return answer


def test_fault_C12_commands_for_a_chain_that_only_a_person_can_accept(node: RegtestNode, tower: NewTower) -> None:
    """First contact, a rescan over a reorg of any depth, and a chain with less work that is accepted."""
    node.mine(30)
    height = node.height()
    assert {"connected": 0, "undone": 0, "first": None, "last": height, "missing": 0} == command(tower, "rescan")
    node.reorg(20)
    done = command(tower, "rescan")
    assert (21, 20) == (done["connected"], done["undone"])
    node.invalidate(node.hash_at(node.height() - 4))
    assert {"undone": 5, "connected": 0, "height": node.height()} == command(tower, "accept")


def test_fault_C12_rescan_finds_what_was_missed(node: RegtestNode, tmp_path: Path) -> None:
    """Facts that the log lacks are found from the oldest open channel on, and only those are written."""
    world = World(node, tmp_path / "tower", node_port=FaultyNode)
    pair = world.open(updates=2)
    fetch = world.tower.follower._fetch
    read = fetch.read

    def reads_nothing(scan: Any, raw: bytes, block: Any, source: Any) -> Any:
        header, facts, seen = read(scan, raw, block, source)
        facts._new.clear()
        return header, facts, seen

    fetch.read = reads_nothing  # type: ignore[method-assign]
    node.generate_block([pair.commitment(Side.A, 1)])
    world.tower.follower.follow()
    fetch.read = read  # type: ignore[method-assign]
    needs = Needs(
        node=world.port,
        store=world.store,
        channels=world.channels,
        models=world.models,
        conditions=world.tower._conditions,
        clock=SystemClock(),
        failpoint=no_failpoint,
    )
    rescan = Rescan(needs, world.tower.follower)

    first = rescan.run(None)
    again = rescan.run(None)

    assert (node.height() - 1, node.height()) == (first.first, first.last)
    assert first.missing > 0
    assert 0 == again.missing
    world.look()
    punish(world, pair, 1)
    world.close()


# ── blocks that are gone ─────────────────────────────────────────────────────────────────────────────────


def prune_away(world: World, height: int) -> None:
    """Mine until the node forgets a block: its file has to be full, and 288 blocks are always kept."""
    gone = world.node.hash_at(height)[::-1].hex()
    world.node.mine(400)
    for _ in range(10):
        world.node.mine(100)
        world.node.rpc("pruneblockchain", world.node.height() - 288)
        with suppress(RpcRefused):
            world.node.rpc("getblock", gone, 0)
            continue
        return
    raise AssertionError("the node still has the block")


def test_fault_N9_breach_in_a_pruned_block(start_node: StartNode, make_world: MakeWorld) -> None:
    """The tower slept while its node pruned the block of a breach: the audit proves the gap, the penalty confirms."""
    world = make_world(start_node(extra_args=["-prune=1", "-fastprune"]))
    pair = world.open(updates=3, challenge_period=2_000)
    world.stop()
    world.node.generate_block([pair.commitment(Side.A, 1)])
    breach = world.node.height()
    prune_away(world, breach)

    reports = [world.wake(), *(world.tower.run_pass(SWEEP) for _ in range(6))]

    assert BlockNotAvailable in {type(report.error) for report in reports}
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
