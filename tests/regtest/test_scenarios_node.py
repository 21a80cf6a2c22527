"""Node and infrastructure: catalogue N01 and N03-N10 (N02 needs the service as a process: test_service_faults.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.chain import Txid
from domain.events import BreachDetected, BroadcastOutcome, PenaltyBroadcast, PenaltyPrepared, PenaltyRefused, Source
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.conftest import StartNode
from tests.regtest.live import Live
from tests.regtest.replaying import live_and_replayed
from tests.regtest.test_scenarios_breach_mempool import bid_again, publish
from tests.regtest.world import World
from tests.support.clocks import FixedClock
from tests.support.parties import Pair
from tests.support.rpc_proxy import RpcProxy
from tests.support.zmq_proxy import ZmqProxy
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.rpc import BitcoindNode
from watchtower.node.second import TIP_AGE, SecondNode, TwoNodes
from watchtower.ports import Node

HOUR = 3_600_000_000
NEVER = 600.0


@pytest.fixture
def proxy(node: RegtestNode) -> Iterator[RpcProxy]:
    """Between tower and node."""
    with RpcProxy(node.rpc_url) as between:
        yield between


@pytest.fixture
def world(node: RegtestNode, proxy: RpcProxy, tmp_path: Path) -> Iterator[World]:
    """A tower that sees its node through the proxy."""

    def port(_adapter: BitcoindNode) -> Node:
        return BitcoindNode(proxy.url, cookie_path=node.cookie_path, rest_url=proxy.rest_url)

    story = World(node, tmp_path / "tower", node_port=port)
    yield story
    story.close()


def bids(world: World, pair: Pair) -> list[PenaltyPrepared]:
    """All bids for a channel's penalty, in order."""
    return [event for event in world.events(pair, PenaltyPrepared) if isinstance(event, PenaltyPrepared)]


def penalty_in_mempool(world: World, pair: Pair, sequence: int) -> Transaction:
    """The spender of a contest output in the node's mempool."""
    found = world.mempool_spender(world.contest(pair, sequence))
    assert found is not None
    return found


def test_scenario_N01_zmq_message_loss(node: RegtestNode, world: World) -> None:
    """Every message about a stale transaction is lost; the next one shows a gap, and the sweep finds the breach."""
    pair = world.open(updates=2)
    with ZmqProxy(node.zmq_endpoint) as between:
        node.wait_until(lambda: node.mine(1) and between.seen)
        with Live(world, between.endpoint, poll_seconds=NEVER) as live:
            between.wait_subscribed("sequence", "rawtx", "hashblock")
            node.mine(1)
            live.until(lambda: live.height == node.height())
            live.quiet(0.7)
            seen = between.seen
            between.drop(1.0)
            node.send_raw(pair.commitment(Side.A, 0))
            between.wait_seen(seen + 2)  # in two topics
            live.quiet(0.7)
            unnoticed = world.events(pair, BreachDetected)
            between.drop(0.0)
            node.fund(b"\x51\x20" + bytes(32), 50_000)
            live.until(lambda: world.events(pair, PenaltyBroadcast))
    (breach,) = world.events(pair, BreachDetected)
    assert isinstance(breach, BreachDetected)
    assert [] == unnoticed
    assert breach.block is None


@pytest.mark.parametrize("stalled", [True, False])
def test_scenario_N03_node_IBD_or_stalled(world: World, proxy: RpcProxy, stalled: bool) -> None:
    """A node that downloads, or has 20 headers without blocks: no claim to watch, and the deadline comes nearer."""
    pair = world.open(updates=2, challenge_period=40)
    world.node.generate_block([pair.commitment(Side.A, 0)])
    ahead = {"headers": world.node.height() + 20} if stalled else {"initialblockdownload": True}
    proxy.replace(lambda _params, result: result | ahead, "getblockchaininfo")
    with Live(world, world.node.zmq_endpoint, poll_seconds=0.5) as live:
        live.until(lambda: world.events(pair, PenaltyBroadcast))
        live.until(lambda: live.reasons == ["node_syncing"])
        assert not live.board.snapshot().watching
    assert 39 - 20 * stalled == bids(world, pair)[-1].remaining


def test_scenario_N04_two_nodes_disagree_on_tip(start_node: StartNode, tmp_path: Path) -> None:
    """The second node is ten blocks further on another branch: the cursor stays, the deadline counts from there."""
    own, other = start_node(), start_node()
    clock = FixedClock()
    reader = BitcoindNode(other.rpc_url, cookie_path=other.cookie_path, rest_url=other.rest_url)
    second = SecondNode(reader, "regtest", clock.monotonic)
    world = World(own, tmp_path / "tower", node_port=lambda adapter: TwoNodes(adapter, second))
    pair = world.open(updates=2, challenge_period=24)
    own.generate_block([pair.commitment(Side.A, 0)])
    other.mine(own.height() + 10 - other.height())
    clock.forward(TIP_AGE)
    world.look()
    (bid,) = bids(world, pair)
    world.close()
    assert own.height() == world.tower.follower.cursor.height
    assert own.tip() == world.tower.follower.cursor.hash
    assert 23 - 10 == bid.remaining


def test_scenario_N05_mixed_policy_relay(start_node: StartNode, tmp_path: Path) -> None:
    """Bids that rise step by step reach a peer with Knots' own policy from a node with Core's.

    The catalogue names Core 28 and 31; both policies here come from the one binary at hand.
    """
    quick = ["-whitelist=noban@127.0.0.1"]  # who connected is told of transactions without the usual delay
    knots = start_node(listen=True, knots_default_policy=True, extra_args=quick)
    own = start_node(extra_args=quick)
    world = World(own, tmp_path / "tower")
    own.connect(knots)
    pair = world.open(updates=2)
    knots.sync_to(own)
    publish(world, pair, 0, fee=1_000)
    seen: list[Txid] = []
    for rival in (0, 4_000):
        if rival:
            bid_again(own, pair, 0, rival)
        world.look()
        seen.append(penalty_in_mempool(world, pair, 0).txid)
        knots.wait_in_mempool(seen[-1], 60.0)  # told after a random time
    fees = [bid.fee for bid in bids(world, pair)]
    knots.mine(1)
    own.sync_to(knots)
    world.look()
    world.close()
    assert 2 == len(set(seen))
    assert fees[-1] - fees[0] >= 111
    assert own.confirmation(seen[-1]) is not None


def test_scenario_N06_submitpackage_parent_already_known(world: World, proxy: RpcProxy) -> None:
    """A package whose parent is in the mempool, and one of which everything is: both are success."""
    pair = world.open(updates=2)
    world.node.send_raw(pair.commitment(Side.A, 0))
    proxy.fail_before("sendrawtransaction", "submitpackage")
    with pytest.raises(Exception, match="no answer"):
        world.look()
    proxy.heal()
    package = [pair.commitment(Side.A, 0), bids(world, pair)[0].raw]
    first, again = world.port.submit_package(package), world.port.submit_package(package)
    world.look()
    assert [BroadcastOutcome.ALREADY_KNOWN, BroadcastOutcome.ACCEPTED] == [answer.outcome for answer in first]
    assert [BroadcastOutcome.ALREADY_KNOWN] * 2 == [answer.outcome for answer in again]
    assert ([], 1) == (world.events(pair, PenaltyRefused), len(world.events(pair, PenaltyBroadcast)))


def test_scenario_N07_sendraw_already_in_utxo_set(world: World, proxy: RpcProxy) -> None:
    """The penalty confirmed while the tower was away; at its start it is sent again, and -27 is success."""
    pair = world.open(updates=2)
    world.node.generate_block([pair.commitment(Side.A, 0)])
    world.look()
    world.stop()
    world.node.mine(1)
    before = len(proxy.asked("sendrawtransaction"))
    world.wake()
    raw = bids(world, pair)[0].raw
    assert before < len(proxy.asked("sendrawtransaction"))
    assert BroadcastOutcome.ALREADY_KNOWN is world.port.broadcast(raw).outcome
    assert ([], 1) == (world.events(pair, PenaltyRefused), len(bids(world, pair)))
    assert "PUNISHED" == world.status(pair)


@pytest.mark.parametrize("answer", [{"errors": ["Insufficient data or no feerate found"], "blocks": 2}, {}, None])
def test_scenario_N08_fee_estimator_returns_none(world: World, proxy: RpcProxy, answer: Any) -> None:
    """Without any estimate the bid stands on its floor, above what the node takes, and confirms."""
    pair = world.open(updates=2)
    if answer is None:
        proxy.error(-32603, "Fee estimation disabled", "estimatesmartfee")
    else:
        proxy.replace(lambda _params, _result: answer, "estimatesmartfee")
    world.node.generate_block([pair.commitment(Side.A, 0)])
    world.look()
    penalty = penalty_in_mempool(world, pair, 0)
    world.node.mine(1)
    world.look()
    assert proxy.asked("estimatesmartfee")
    assert bids(world, pair)[0].fee >= penalty.vsize
    assert "PUNISHED" == world.status(pair)


def test_scenario_N09_clock_skew(node: RegtestNode, tmp_path: Path) -> None:
    """The tower's clock jumps by years and back between the passes: heights decide, everything goes as always."""
    clock = FixedClock()
    world = World(node, tmp_path / "tower", clock=clock)
    pair = world.open(updates=2, challenge_period=24)
    clock.microseconds += 50_000 * HOUR
    node.generate_block([pair.commitment(Side.A, 0)])
    height = node.height()
    world.look()
    clock.microseconds -= 90_000 * HOUR
    remaining = [bids(world, pair)[0].remaining]
    for _ in range(3):
        node.generate_block()
        clock.microseconds += HOUR
        world.look()
    remaining.append(bids(world, pair)[-1].remaining)
    node.mine(1)
    world.look()
    (breach,) = world.events(pair, BreachDetected)
    status = world.status(pair)
    world.close()
    assert isinstance(breach, BreachDetected)
    assert height + 23 == breach.deadline
    assert 23 == remaining[0]
    assert remaining[1] in (20, 21, 22, 23)  # a bid is made anew only where its price changes
    assert "PUNISHED" == status


def test_scenario_N10_event_store_rebuild(world: World) -> None:
    """The log folded again gives the same read models after each decision, also those about the mempool alone."""
    pair = world.open(updates=4)
    pictures = []
    publish(world, pair, 1, fee=2_000)
    world.look()
    pictures.append(live_and_replayed(world))
    bid_again(world.node, pair, 1, fee=6_000)
    world.look()
    pictures.append(live_and_replayed(world))
    world.node.generate_block([pair.commitment(Side.A, 2)])  # another stale state wins
    world.look()
    pictures.append(live_and_replayed(world))
    world.node.reorg(1)
    world.look()
    world.restart()
    pictures.append(live_and_replayed(world))
    sources = {event.source for event in world.events(pair, BreachDetected) if isinstance(event, BreachDetected)}
    assert [live for live, _ in pictures] == [replayed for _, replayed in pictures]
    assert 4 == len({str(live) for live, _ in pictures})
    assert {Source.MEMPOOL, Source.BLOCK} <= sources
