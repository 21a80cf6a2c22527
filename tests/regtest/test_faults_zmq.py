"""Faults of the notifications, on a real node behind a proxy: lost, doubled, late, forged, too many, or none at all."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from domain.events import BreachDetected, PenaltyBroadcast, SpendSeen
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.conftest import StartNode
from tests.regtest.live import TOPICS, Live
from tests.regtest.world import World
from tests.support.parties import Pair
from tests.support.zmq_proxy import MutePort, ZmqProxy
from tests.unit.test_metrics import samples
from watchtower.config import Settings
from watchtower.devnode.launch import free_ports
from watchtower.devnode.regtest import RegtestNode
from watchtower.node import zmq
from watchtower.node.checks import ZmqTopicMissing, require_topics
from watchtower.node.rpc import BitcoindNode
from watchtower.node.zmq import FRAME_LIMIT, BellKind
from watchtower.watch import bells
from watchtower.watch.passes import CALM_GAP, URGENT_STARTS, Pacer

POLL = 0.5
"""Seconds between looks without a bell; 15 in the service."""

NEVER = 600.0
"""A timer that does not help: what is found was announced."""

FLOOD = 100_000
FLOOD_SECONDS = 5.0


@pytest.fixture
def proxy(node: RegtestNode) -> Iterator[ZmqProxy]:
    """Between the node's notifications and the tower; the node has heard of it."""
    with ZmqProxy(node.zmq_endpoint, seed=5) as between:
        node.wait_until(lambda: node.mine(1) and between.seen)
        yield between


def breach(world: World, pair: Pair, sequence: int = 0) -> None:
    """Mine a stale commitment that no mempool has seen."""
    world.node.generate_block([pair.commitment(Side.A, sequence)])


def answered(world: World, pair: Pair) -> bool:
    """The penalty is in the mempool, as far as the log knows."""
    return bool(world.events(pair, PenaltyBroadcast))


def messages(live: Live) -> int:
    """How many messages the tower has heard."""
    return sum(bell.kind not in (BellKind.CONNECTED, BellKind.DISCONNECTED) for bell in list(live.rung))


# ── lost ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_fault_Z1_the_timer_of_the_service() -> None:
    """Without any bell the service looks every 15 s."""
    pacer = Pacer(Settings().node.poll_seconds)
    pacer.started(100.0, urgent=False)
    assert 115.0 == pacer.due(100.1, rung=False, urgent=False)


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_fault_Z1_lost_messages(world: World, proxy: ZmqProxy, p: float) -> None:
    """Half of the messages are lost, or all: the timer finds every block, and the breach is answered."""
    pair = world.open(updates=2)
    with Live(world, proxy.endpoint, poll_seconds=POLL) as live:
        proxy.wait_subscribed("sequence", "rawtx", "hashblock")
        proxy.drop(p)
        world.node.mine(3)
        breach(world, pair)
        took = live.until(lambda: answered(world, pair))
        world.node.mine(1)
        live.until(lambda: world.status(pair) == "PUNISHED")
    assert took <= 15.0


def test_fault_Z2_last_message_lost(world: World, proxy: ZmqProxy) -> None:
    """Only the messages of the breach's block are lost, and nothing follows them that could show a gap."""
    pair = world.open(updates=2)
    with Live(world, proxy.endpoint, poll_seconds=POLL) as live:
        proxy.wait_subscribed("sequence", "rawtx", "hashblock")
        sent, rung = proxy.sent, messages(live)
        world.node.mine(1)
        live.until(lambda: live.height == world.node.height())
        live.until(lambda: messages(live) - rung == proxy.sent - sent >= len(TOPICS))
        heard = len(live.rung)
        proxy.drop(1.0)
        breach(world, pair)
        live.until(lambda: answered(world, pair))
        assert heard == len(live.rung)


# ── doubled, shuffled, late, with other counters ──────────────────────────────────────────────────────────────


def test_fault_Z3_doubled_and_shuffled(world: World, proxy: ZmqProxy) -> None:
    """In windows of 20 everything comes in any order, often twice: each block once, one breach, one penalty."""
    pair = world.open(updates=2)
    proxy.shuffle(20)
    proxy.duplicate(0.5)
    with Live(world, proxy.endpoint, poll_seconds=POLL) as live:
        world.node.mine(4)
        breach(world, pair)
        live.until(lambda: answered(world, pair))
        world.node.mine(4)
        live.until(lambda: world.status(pair) == "PUNISHED")
        live.until(lambda: live.height == world.node.height())
    assert [1, 1] == [len(world.events(pair, kind)) for kind in (BreachDetected, PenaltyBroadcast)]


def test_fault_Z3_a_minute_late(world: World, proxy: ZmqProxy) -> None:
    """Late messages change nothing: what they tell was found by the timer long before."""
    pair = world.open(updates=2)
    with Live(world, proxy.endpoint, poll_seconds=POLL) as live:
        proxy.wait_subscribed("sequence", "rawtx", "hashblock")
        proxy.delay(60.0)
        breach(world, pair)
        live.until(lambda: answered(world, pair))
        _whole_pass(live)  # the one that answered may have more to write
        before = world.events(pair)
        proxy.delay(0.0)
        live.until(lambda: BellKind.TIP in {bell.kind for bell in live.rung})
        _whole_pass(live)
        assert before == world.events(pair)


def _whole_pass(live: Live) -> None:
    """Until a pass that began after now has ended, which the start of the next one shows."""
    count = len(live.passes)
    live.until(lambda: len(live.passes) >= count + 2)


def test_fault_Z4_gap(world: World, proxy: ZmqProxy) -> None:
    """A jump of a counter is counted as a loss and causes one pass that asks for everything."""
    with Live(world, proxy.endpoint, poll_seconds=NEVER) as live:
        proxy.wait_subscribed("sequence", "rawtx", "hashblock")
        proxy.forge("sequence", bytes(32) + b"A" + bytes(8))
        live.until(lambda: live.rung[-1].kind is BellKind.MEMPOOL)
        live.quiet(1.0)
        sweeps = live.sweeps
        live.rung.clear()
        proxy.jump("sequence", 6)
        proxy.forge("sequence", bytes(32) + b"A" + bytes(8), number=2**20)
        live.until(lambda: live.sweeps > sweeps)
        live.quiet(1.0)
        (gap,) = [bell for bell in live.rung if bell.kind is BellKind.GAP]
        assert sweeps + 1 == live.sweeps  # the message itself may have rung once more
        assert gap.missed == samples(live.metrics)["watchtower_zmq_missed_messages_total", ("sequence",)]


def test_fault_Z4_restart_of_the_node(node: RegtestNode, tmp_path: Path) -> None:
    """The node restarts and its counters begin anew: heard as a restart, no loss is counted, nothing is missed."""
    world = World(node, tmp_path / "tower")
    pair = world.open(updates=2)
    with Live(world, node.zmq_endpoint, poll_seconds=NEVER) as live:
        node.wait_until(lambda: node.mine(1) and live.rung[-1].kind is BellKind.TIP)
        node.mine(3)
        node.restart()
        live.until(lambda: live.rung[-1].kind is BellKind.CONNECTED)
        node.wait_until(lambda: node.mine(1) and BellKind.RESTART in {bell.kind for bell in live.rung})
        breach(world, pair)
        live.until(lambda: answered(world, pair))
        live.until(lambda: live.board.snapshot().watching)
        found = samples(live.metrics)
        assert 1 <= found["watchtower_zmq_resyncs_total", ("node_restart",)]
        assert [] == live.reasons
    world.close()


# ── dead ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_fault_Z5_frozen(world: World, proxy: ZmqProxy) -> None:
    """The connection stands and nothing comes: the timer finds the blocks, and the silence is told until it ends."""
    pair = world.open(updates=2)
    with Live(world, proxy.endpoint, poll_seconds=POLL) as live:
        proxy.wait_subscribed("sequence", "rawtx", "hashblock")
        proxy.freeze()
        breach(world, pair)
        live.until(lambda: answered(world, pair))
        _mine_slowly(live, 3)
        live.until(lambda: live.reasons == ["zmq_silent"])
        assert live.board.snapshot().watching
        proxy.thaw()
        world.node.mine(1)
        live.until(lambda: live.reasons == [])


def test_fault_Z5_accepted_and_mute(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port takes connections and never greets: no connection in ZMQ's sense, so the silence is told."""
    monkeypatch.setattr(bells, "PATIENCE", 0.3)
    pair = world.open(updates=2)
    with MutePort() as mute, Live(world, mute.endpoint, poll_seconds=POLL, heard=False) as live:
        live.until(lambda: live.reasons == ["zmq_silent"])
        breach(world, pair)
        live.until(lambda: answered(world, pair))
        assert [] == live.rung


def test_fault_Z5_swapped_addresses(start_node: StartNode, tmp_path: Path) -> None:
    """Two live ports with exchanged topics: named at the start, and no breach is missed."""
    sequence, rawtx = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
    published = [f"-zmqpubsequence={sequence}", f"-zmqpubhashblock={sequence}", f"-zmqpubrawtx={rawtx}"]
    node = start_node(zmq_topics=(), extra_args=published)
    world = World(node, tmp_path / "tower")
    pair = world.open(updates=2)
    swapped = {"sequence": rawtx, "rawtx": sequence, "hashblock": rawtx}
    adapter = BitcoindNode(node.rpc_url, cookie_path=node.cookie_path)
    with pytest.raises(ZmqTopicMissing, match=r"zmq_sequence is .* publishes rawtx.*zmq_rawtx is .*hashblock"):
        require_topics(adapter.zmq_notifications(), swapped)
    with Live(world, swapped, poll_seconds=POLL) as live:
        breach(world, pair)
        live.until(lambda: answered(world, pair))
        _mine_slowly(live, 3)
        live.until(lambda: live.reasons == ["zmq_silent"])
    world.close()


def _mine_slowly(live: Live, blocks: int) -> None:
    """One after another, each found before the next."""
    for _ in range(blocks):
        live.world.node.mine(1)
        live.until(lambda: live.height == live.world.node.height())


# ── too many, forged ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("topic", "limit"), [("rawtx", 20), ("hashblock", 60)])
def test_fault_Z6_flood(node: RegtestNode, world: World, topic: str, limit: int) -> None:
    """100,000 messages: passes keep their distance, memory stays flat, and a breach in the middle is answered."""
    pair = world.open(updates=2)
    body = node.fund(b"\x51\x20" + bytes(32), 50_000, broadcast=False).raw if topic == "rawtx" else bytes(32)
    with (
        ZmqProxy(node.zmq_endpoint, send_limit=1_000) as proxy,
        Live(world, proxy.endpoint, poll_seconds=NEVER) as live,
    ):
        proxy.wait_subscribed("sequence", "rawtx", "hashblock")
        live.quiet(CALM_GAP * 2)
        before, memory = len(live.passes), _peak_megabytes()
        began = time.monotonic()
        _flood(proxy, topic, body, FLOOD // 2)
        breach(world, pair)
        _flood(proxy, topic, body, FLOOD - FLOOD // 2)
        live.until(lambda: answered(world, pair))
        live.quiet(CALM_GAP * 2)
        spent = max(time.monotonic() - began, FLOOD_SECONDS)
        assert len(live.passes) - before <= limit * spent / FLOOD_SECONDS + 3  # block, penalty, and its mempool message
        assert _peak_megabytes() - memory < 50


def _flood(proxy: ZmqProxy, topic: str, body: bytes, count: int) -> None:
    for _ in range(count):
        proxy.forge(topic, body)


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_fault_Z6_urgent_passes_have_a_limit(world: World, proxy: ZmqProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forged blocks start ten passes at once in a second, beside the few that any message may start."""
    times: list[float] = []
    started = Pacer.started

    def noted(pacer: Pacer, now: float, *, urgent: bool) -> None:
        times.append(now)  # when it was decided: on a busy machine the thread goes on later
        started(pacer, now, urgent=urgent)

    monkeypatch.setattr(Pacer, "started", noted)
    with Live(world, proxy.endpoint, poll_seconds=NEVER) as live:
        proxy.wait_subscribed("hashblock")
        allowed = URGENT_STARTS + int(1 / CALM_GAP)
        while len(times) < 2 * allowed:  # however long a pass takes
            proxy.forge("hashblock", bytes(32))
            time.sleep(0.005)  # the flood's own rhythm
        live.quiet(CALM_GAP * 2)
        starts = times[2:]
        spans = [later - earlier for earlier, later in zip(starts, starts[allowed:], strict=False)]
        assert spans
        assert min(spans) >= 0.9


def test_fault_Z7_malformed_frames(world: World, proxy: ZmqProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random multipart messages, one of them too large for any transaction: the next real block is still heard."""
    monkeypatch.setattr(zmq, "REVIVE_MS", 200)
    rng = random.Random(7)
    topics = [b"sequence", b"rawtx", b"hashblock", b"rawtx\x00", b"hashblock\xff", b"sequencesequence"]
    pair = world.open(updates=2)
    with Live(world, proxy.endpoint, poll_seconds=NEVER) as live:
        proxy.wait_subscribed("sequence", "rawtx", "hashblock")
        for _ in range(300):
            frames = [rng.randbytes(rng.choice([0, 1, 4, 33, 80, 5_000])) for _ in range(rng.randrange(5))]
            proxy.forge_frames([rng.choice(topics), *frames])
        proxy.forge_frames([b"rawtx", bytes(FRAME_LIMIT + 1), bytes(4)])
        live.until(lambda: BellKind.DISCONNECTED in {bell.kind for bell in live.rung})
        live.until(lambda: live.rung[-1].kind is BellKind.CONNECTED)
        live.rung.clear()  # connected is not subscribed yet: what proves it is a message
        world.node.wait_until(lambda: world.node.mine(1) and BellKind.TIP in {bell.kind for bell in live.rung})
        breach(world, pair)
        live.until(lambda: answered(world, pair))


def test_fault_Z8_rawtx_of_a_disconnected_block(world: World, proxy: ZmqProxy) -> None:
    """R11: a deep reorg sends `rawtx` of transactions that do not return to the mempool; nothing says they did."""
    pair = world.open(updates=2)
    node, close = world.node, pair.commitment(Side.A, pair.sequence)
    closed = node.generate_block([close])
    node.mine(11)  # deeper reorgs than 10 put nothing back
    world.look()
    with Live(world, proxy.endpoint, poll_seconds=NEVER) as live:
        proxy.wait_subscribed("sequence", "rawtx", "hashblock")
        node.invalidate(closed)
        [node.generate_block() for _ in range(13)]
        live.until(lambda: Transaction.parse(close).txid in {bell.txid for bell in live.rung})
        live.until(lambda: live.height == node.height())
        live.quiet(CALM_GAP * 2)
        assert Transaction.parse(close).txid not in node.mempool()
        assert [] == world.events(pair, SpendSeen)
        assert world.channel(pair).confirmed_spend is None


# ── how fast ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("deaf", "limit"), [(False, 2.0), (True, 5.0)])
def test_detection(world: World, proxy: ZmqProxy, deaf: bool, limit: float) -> None:
    """From the block at the node to the breach in the log: at once when it rings, else at the timer's next look."""
    pairs = [world.open(updates=1, challenge_period=100) for _ in range(3 if deaf else 8)]
    seconds: list[float] = []
    with Live(world, proxy.endpoint, poll_seconds=1.0 if deaf else NEVER) as live:
        proxy.wait_subscribed("sequence", "rawtx", "hashblock")
        proxy.drop(float(deaf))
        for pair in pairs:
            breach(world, pair)
            seconds.append(live.until(partial(world.events, pair, BreachDetected)))
    assert sorted(seconds)[len(seconds) // 2] <= limit
