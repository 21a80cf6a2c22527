"""Faults of the node, played on a real one: down, starting, full, hanging, lying, forgetful, of another policy."""

from __future__ import annotations

import os
import random
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.chain import make_outpoint
from domain.events import BreachDetected, PenaltyBroadcast, PenaltyPrepared, PenaltyRefused
from domain.transaction import Transaction, TxIn, TxOut, compact_size
from domain.units import Side
from tests.regtest.conftest import StartNode
from tests.regtest.live import Live
from tests.regtest.test_service_faults import ask, protected
from tests.regtest.world import SWEEP, World
from tests.support.full_block import ANYONE, made_up_block
from tests.support.parties import Pair, open_pair
from tests.support.rpc_proxy import RpcProxy
from tests.support.service import Run
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import NewTower
from watchtower.node.blocks import scan_block
from watchtower.node.rpc import BitcoindNode
from watchtower.node.transport import CALL_SECONDS, FIRST_SHARE
from watchtower.node.zmq import RECONNECT_LIMIT_MS
from watchtower.ports import Node, NodeError, NodeUnavailable, NodeWarmingUp
from watchtower.watch.passes import Pacer

SOON, SLOWER = 4 * RECONNECT_LIMIT_MS / 1000, 3.0
"""Seconds from the node's return until the tower is at its tip; so many times what a start takes on a slow machine.

The return is noticed by ZMQ, whose own pause between two tries is a quarter of it: the rest is for a machine that
stands still. The tower looks by itself after `SELDOM` seconds only.
"""

SELDOM = 60.0

PATIENCE = 3.0
"""The time limit of a call to a node that hangs; `CALL_SECONDS` in the service. A busy machine needs a second."""

SPK = b"\x51\x20" + b"\x22" * 32
TRANSACTION_BYTES = 4_000_000
"""More witness does not fit into a block."""


@pytest.fixture
def proxy(node: RegtestNode) -> Iterator[RpcProxy]:
    """Between tower and node; everything passes unless a test adds rules."""
    with RpcProxy(node.rpc_url, seed=4) as between:
        yield between


def behind(node: RegtestNode, proxy: RpcProxy, seconds: float = PATIENCE) -> Callable[[BitcoindNode], Node]:
    """For a world: the adapter behind the proxy, JSON-RPC and REST."""

    def port(_adapter: BitcoindNode) -> Node:
        return BitcoindNode(proxy.url, cookie_path=node.cookie_path, rest_url=proxy.rest_url, seconds=seconds)

    return port


@pytest.fixture
def world(node: RegtestNode, proxy: RpcProxy, tmp_path: Path) -> Iterator[World]:
    """A tower that sees its node through the proxy, with all the patience it needs."""
    story = World(node, tmp_path / "tower", node_port=behind(node, proxy, seconds=CALL_SECONDS))
    yield story
    story.close()


@pytest.fixture
def hasty(node: RegtestNode, proxy: RpcProxy, tmp_path: Path) -> Iterator[World]:
    """The same, with a short limit for a call: a hanging node costs a test no minutes."""
    story = World(node, tmp_path / "tower", node_port=behind(node, proxy, seconds=PATIENCE))
    yield story
    story.close()


def bids(world: World, pair: Pair) -> list[PenaltyPrepared]:
    """All bids for a channel's penalty."""
    return [event for event in world.events(pair, PenaltyPrepared) if isinstance(event, PenaltyPrepared)]


def passes_until(world: World, done: Callable[[], object], limit: int = 200) -> int:
    """Passes, of which any may fail, until something is true; returns how many it took."""
    for count in range(limit):
        if done():
            return count
        try_pass(world)
    raise AssertionError(f"not within {limit} passes")


def try_pass(world: World) -> NodeError | None:
    """One pass; what the node did to it, wherever in the pass."""
    try:
        error = world.tower.run_pass(SWEEP).error
    except NodeError as failure:
        return failure
    assert error is None or isinstance(error, NodeError)
    return error


def is_punished(world: World, pair: Pair, sequence: int) -> bool:
    """The penalty is on the chain, and the tower knows."""
    penalty = world.penalty_of(pair, sequence)
    return penalty is not None and world.height_of(penalty.txid) is not None and world.status(pair) == "PUNISHED"


# ── down, starting ────────────────────────────────────────────────────────────────────────────────────────────


def test_fault_N1_down_at_the_start(node: RegtestNode, tower: NewTower, run: Run) -> None:
    """A tower that starts without its node takes states and does not claim to watch; with the node it punishes."""
    began = time.monotonic()
    first = run(tower.config_path)
    first.wait_watching()
    alone = time.monotonic() - began
    pair = protected(node, first, tower)
    stale = pair.commitment(Side.A, 0)
    first.kill()
    node.generate_block([stale])
    node.stop()
    service = run(tower.config_path, {"STATE_CHANNEL_NODE__POLL_SECONDS": str(SELDOM)})
    service.wait_for("readiness_changed", reason="node_unreachable", holds=True)
    sequence = pair.update()
    taken = ask(service, tower, f"/{pair.channel_id.hex()}/states", pair.update_request(Side.B, sequence))
    away = service.ready()
    node.launch()
    began = time.monotonic()
    service.wait_watching()
    seconds = time.monotonic() - began
    penalty = node.wait_spender(make_outpoint(Transaction.parse(stale).txid, 0))
    assert seconds <= max(SOON, SLOWER * alone)
    assert "sequence" in taken
    assert (True, False) == (away["ready"], away["watching"])
    assert penalty in node.mempool()
    assert 0 == service.terminate()


def test_fault_N1_down_since_the_first_day(node: RegtestNode, tower: NewTower, run: Run) -> None:
    """A tower that never saw a node refuses channels with 503 until its first contact."""
    pair = open_pair(lambda spk, amount: node.fund(spk, amount, broadcast=False))
    node.stop()
    service = run(tower.config_path)
    service.wait_for("readiness_changed", reason="node_unreachable", holds=True)
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(service, tower, "", pair.registration(Side.B))
    refused.value.close()
    node.launch()
    service.wait_watching()
    registered = ask(service, tower, "", pair.registration(Side.B))
    assert 503 == refused.value.code
    assert pair.channel_id.hex() == registered["channel_id"]
    assert 0 == service.terminate()


@pytest.mark.parametrize("blocks", [1, 10, 72])
def test_fault_N2_down_for_some_blocks(start_node: StartNode, tmp_path: Path, blocks: int) -> None:
    """The breach and more blocks come while the tower's own node is dead; after its sync the penalty is there."""
    network, own = start_node(listen=True), start_node()
    world = World(own, tmp_path / "tower")
    own.connect(network)
    pair = world.open(updates=2, challenge_period=144)
    network.sync_to(own)
    with Live(world, own.zmq_endpoint, poll_seconds=SELDOM) as live:
        own.kill()
        live.wake.ring(urgent=True)
        live.until(lambda: live.reasons == ["node_unreachable"])
        cursor = world.tower.follower.cursor
        network.generate_block([pair.commitment(Side.A, 0)])
        network.mine(blocks - 1)
        began = time.monotonic()
        own.launch()
        own.connect(network)
        own.sync_to(network)
        alone = time.monotonic() - began
        assert cursor.height + blocks == own.height()
        took = live.until(lambda: world.mempool_spender(world.contest(pair, 0)), seconds=60.0)
        live.until(lambda: live.board.snapshot().watching)
    world.close()
    assert took <= max(SOON, SLOWER * alone)


def test_fault_N3_warming_up(world: World, proxy: RpcProxy) -> None:
    """-28 to everything means later: no event about the channel, no refusal, and the first real answer is used."""
    pair = world.open(updates=2)
    world.node.generate_block([pair.commitment(Side.A, 0)])
    before = world.events(pair)
    rule = proxy.error(-28, "Loading block index…", times=60)
    errors = [try_pass(world) for _ in range(20)]
    unchanged = world.events(pair)
    passes_until(world, lambda: not rule.left)
    starting = proxy.error(-28, "Loading block index…", "sendrawtransaction", times=3)
    passes_until(world, lambda: world.mempool_spender(world.contest(pair, 0)))
    assert {NodeWarmingUp} == {type(error) for error in errors}
    assert before == unchanged
    assert (3, 60) == (starting.hits, rule.hits)
    assert [] == world.events(pair, PenaltyRefused)
    assert 1 == len(bids(world, pair))


@pytest.mark.parametrize("news", [{"initialblockdownload": True}, {"headers": 9_999}])
def test_fault_N3_initial_download(world: World, proxy: RpcProxy, news: dict[str, Any]) -> None:
    """While the node downloads, or knows headers without blocks, the tower does not claim to watch."""
    rule = proxy.replace(lambda _params, result: result | news, "getblockchaininfo")
    with Live(world, world.node.zmq_endpoint) as live:
        live.until(lambda: live.reasons == ["node_syncing"])
        assert not live.board.snapshot().watching
        rule.cancel()
        world.node.mine(1)
        live.until(lambda: live.board.snapshot().watching)


# ── full, hanging, deaf ───────────────────────────────────────────────────────────────────────────────────────


def test_fault_N4_full_work_queue(hasty: World, proxy: RpcProxy) -> None:
    """With 30 % of the requests refused and 10 % hanging every block is processed within 30 s of the service's time."""
    world = hasty
    proxy.status(503, p=0.3)
    hang = proxy.hang(p=0.1)
    seconds: list[float] = []
    for _ in range(10):
        world.node.mine(1)
        seconds.append(_seconds_to_tip(world, lambda: hang.hits))
    proxy.heal()
    assert hang.hits
    assert max(seconds) <= 30.0
    assert 4 >= proxy.most_in_flight


def _seconds_to_tip(world: World, hangs: Callable[[], int]) -> float:
    """What it would take the service, with its own limits and waits, to bring the cursor to the tip.

    A hanging request costs the share of the limit after which it is repeated; if both hang, it costs all of it.
    """
    pacer, spent, before = Pacer(15.0), 0.0, hangs()
    while world.tower.follower.cursor.height < world.node.height():
        error = try_pass(world)
        if error is not None:
            spent += pacer.failed(0.0, warming_up=False, breach_open=False, jitter=0.5)
            spent += CALL_SECONDS * (1 - 2 * FIRST_SHARE) if "within" in str(error) else 0.0
    return spent + (hangs() - before) * CALL_SECONDS * FIRST_SHARE


def test_fault_N5_hang(hasty: World, proxy: RpcProxy) -> None:
    """A call without an answer ends in time; the next pass has a new connection and works."""
    world = hasty
    pair = world.open(updates=2)
    world.node.generate_block([pair.commitment(Side.A, 0)])
    before = proxy.connections
    hang = proxy.hang("getbestblockhash", times=2)
    error = try_pass(world)
    world.look()
    assert isinstance(error, NodeUnavailable)
    assert 2 == hang.hits
    assert before + 2 <= proxy.connections  # for the second try, for the next pass, and what a busy node makes needed
    assert world.mempool_spender(world.contest(pair, 0)) is not None


def test_fault_N5_a_block_that_hangs_comes_another_way(hasty: World, proxy: RpcProxy) -> None:
    """A REST request that stays silent gives way to `getblock` in the same pass."""
    world = hasty
    height = world.node.height()
    world.node.mine(1)
    hang = proxy.hang("getblock", times=1)
    world.look()
    assert 1 == hang.hits
    assert height + 1 == world.tower.follower.cursor.height


def test_fault_N6_lost_answers(world: World, proxy: RpcProxy) -> None:
    """A hundred broadcasts take effect and their answers are lost: the same bytes every time, no bid for its sake."""
    pairs = [world.open(updates=1) for _ in range(2)]
    world.node.generate_block([pair.commitment(Side.A, 0) for pair in pairs])
    lost = proxy.fail_after("sendrawtransaction", "submitpackage", times=100)
    for _ in range(6):
        passes_until(world, lambda: all(world.mempool_spender(world.contest(pair, 0)) for pair in pairs))
        for _ in range(3):
            try_pass(world)
        world.node.restart(["-persistmempool=0"])  # sent again, and the answer is lost again
    proxy.heal()
    passes_until(world, lambda: all(world.mempool_spender(world.contest(pair, 0)) for pair in pairs))
    sent = {str(line.params[0]) for line in proxy.asked("sendrawtransaction")}
    world.node.mine(1)
    world.look()
    assert lost.hits >= 6
    assert [1, 1] == [len(bids(world, pair)) for pair in pairs]
    assert {event.raw.hex() for pair in pairs for event in bids(world, pair)} == sent
    assert ["PUNISHED"] * 2 == [world.status(pair) for pair in pairs]


def test_fault_N7_cookie_rotation(world: World) -> None:
    """Each restart of the node makes a new cookie; the tower goes on with it, without a restart of its own."""
    pair = world.open(updates=2)
    cookies = {world.node.cookie_path.read_text()}
    for _ in range(2):
        world.node.restart()
        cookies.add(world.node.cookie_path.read_text())
        world.node.mine(1)
        world.look()
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    assert 3 == len(cookies)
    assert world.mempool_spender(world.contest(pair, 1)) is not None


@pytest.mark.parametrize("seed", [1, 2])
def test_fault_N8_damaged_answers(node: RegtestNode, tmp_path: Path, seed: int) -> None:
    """One answer in twenty is cut, garbled or of another type: nothing false is recorded, and the penalty confirms."""
    nonsense = random.Random(seed)
    wrong: list[Any] = [5, "x", [], {}, True, [None], {"a": [1]}, -1.5, "00" * 32, [5] * 3]
    with RpcProxy(node.rpc_url, seed=seed) as proxy:
        world = World(node, tmp_path / "tower", node_port=behind(node, proxy, seconds=CALL_SECONDS))
        pair = world.open(updates=2)
        proxy.truncate(p=0.02)
        proxy.garble(b'{"result": [[[', p=0.02)
        proxy.replace(lambda _params, _result: nonsense.choice(wrong), p=0.05)
        node.send_raw(pair.commitment(Side.A, 0))
        passes_until(world, lambda: world.mempool_spender(world.contest(pair, 0)))
        node.mine(1)
        passes_until(world, lambda: is_punished(world, pair, 0))
        proxy.heal()
        world.look()
        assert any(line.fault for line in proxy.transcript)
        assert ["PUNISHED", 1] == [world.status(pair), len(bids(world, pair))]
        assert {pair.commitment_txid(Side.A, 0)} == {
            event.txid for event in world.events(pair, BreachDetected) if isinstance(event, BreachDetected)
        }
        world.close()


# ── strange blocks, another policy, another clock ─────────────────────────────────────────────────────────────


def test_fault_N14_megabyte_witness(world: World) -> None:
    """The breach stands in a block with a witness of 1 MB: found, and punished."""
    pair = world.open(updates=2)
    coin = world.node.fund(ANYONE, 100_000)
    world.node.mine(1)
    witness = (os.urandom(700_000), *((b"",) * 50_000), os.urandom(250_000))
    bomb = Transaction(2, (TxIn(coin.outpoint, 0, b"", witness),), (TxOut(1_000, SPK),), 0)
    world.node.generate_block([bomb.serialize(), pair.commitment(Side.A, 1)])
    world.look()
    world.node.mine(1)
    world.look()
    assert len(bomb.serialize()) > 1_000_000
    assert is_punished(world, pair, 1)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=300),
            st.integers(0, 2_000_000).map(lambda size: bytes(size)),
            st.sampled_from([b"\xff" * 253, b"\xfe" * 65_536, compact_size(2**63)]),
        ),
        max_size=40,
    ),
    st.integers(0, 200_000),
)
def test_fault_N14_any_witness_is_read(items: list[bytes], empty: int) -> None:
    """Witnesses of any shape up to 4 MB: the block is read to its last byte and the spend behind them is found."""
    witness: list[bytes] = []
    size = 0
    for item in (*items, *(b"" for _ in range(empty))):
        size += len(item) + 5
        if size > TRANSACTION_BYTES:
            break
        witness.append(item)
    watched = make_outpoint(b"\x07" * 32, 7)
    bomb = Transaction(2, (TxIn(make_outpoint(b"\x05" * 32, 0), 0, b"", tuple(witness)),), (TxOut(1, SPK),), 0)
    spend = Transaction(2, (TxIn(watched, 0, b"", (b"\x01",)),), (TxOut(1, SPK),), 0)
    block = made_up_block(1, 1)
    raw = block[:80] + compact_size(4) + block[81:] + bomb.serialize() + spend.serialize()
    scan = scan_block(raw, {watched})
    assert [(3, spend.txid)] == [(hit.index, hit.txid) for hit in scan.hits]


@pytest.mark.parametrize("knots_default_policy", [False, True])
def test_fault_N15_another_policy(start_node: StartNode, tmp_path: Path, knots_default_policy: bool) -> None:
    """The same passes under Core's policy and under Knots' own: seen early, confirmed late, punished both times."""
    node = start_node(knots_default_policy=knots_default_policy)
    world = World(node, tmp_path / "tower")
    early, late = world.open(updates=2), world.open(updates=2)
    node.send_raw(early.commitment(Side.A, 0))
    world.look()
    node.generate_block([late.commitment(Side.A, 1)])
    world.look()
    node.mine(1)
    world.look()
    punished = [is_punished(world, early, 0), is_punished(world, late, 1)]
    refused = [world.events(pair, PenaltyRefused) for pair in (early, late)]
    world.close()
    assert [True, True] == punished
    assert [[], []] == refused


@pytest.mark.parametrize("hours", [-2, 2])
def test_fault_N16_clock_of_the_node(world: World, hours: int) -> None:
    """The node's clock is two hours off during a breach: deadline and penalty depend on heights only."""
    pair = world.open(updates=2, challenge_period=24)
    tip = world.node.rpc("getblockheader", world.node.rpc("getbestblockhash"))
    now = int(tip["time"]) + 60  # of a chain that was just made: a block must be younger than eleven of the same second
    world.node.rpc("setmocktime", now + hours * 3600)
    world.node.generate_block([pair.commitment(Side.A, 0)])
    confirmed = world.node.height()
    world.look()
    world.node.rpc("setmocktime", now - hours * 3600)
    world.node.mine(1)
    world.look()
    (breach,) = world.events(pair, BreachDetected)
    assert isinstance(breach, BreachDetected)
    assert confirmed + 24 - 1 == breach.deadline
    assert is_punished(world, pair, 0)
    assert 1 == len(world.events(pair, PenaltyBroadcast))
