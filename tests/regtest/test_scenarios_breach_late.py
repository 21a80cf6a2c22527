"""Breaches met late, with something missing, or hardly worth it: catalogue B17-B21, B23 and B26."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from domain.contract.scripts import dust_limit
from domain.events import (
    AlertKind,
    BreachDetected,
    BroadcastOutcome,
    PenaltyPrepared,
    SettleConfirmed,
    SpendConfirmed,
    SpendKind,
)
from domain.fees import Market
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.conftest import StartNode
from tests.regtest.world import PASSPHRASE, SWEEP, World
from tests.support.parties import Pair
from tests.support.towers import TOKEN, TOWER_ID
from watchtower.channels.register import register
from watchtower.client import StateChannelClient, StateChannelConfig
from watchtower.client.errors import ChannelIsClosed
from watchtower.devnode.regtest import RegtestNode, RpcRefused
from watchtower.http.app import create_app
from watchtower.http.auth import Gate
from watchtower.http.services import Standing, bind
from watchtower.keystore import FileKeystore
from watchtower.node.rpc import BitcoindNode
from watchtower.ports import Answer, BlockNotAvailable, NodeError


class FaultyNode:
    """The real node with single methods replaced."""

    def __init__(self, adapter: BitcoindNode) -> None:
        self._adapter = adapter
        self.faults: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return self.faults.get(name) or getattr(self._adapter, name)


MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(node: RegtestNode, tmp_path: Path) -> Iterator[MakeWorld]:
    """Worlds with faults; all end with the test."""
    made: list[World] = []

    def make(**options: Any) -> World:
        made.append(World(node, tmp_path / f"tower{len(made)}", **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def only(world: World, pair: Pair, kind: type[Any]) -> Any:
    """The one event of this type in the channel's log."""
    (event,) = world.events(pair, kind)
    return event


def client_of(world: World, pair: Pair) -> StateChannelClient:
    """B's client of the world's tower, over the real HTTP application."""
    standing = Standing(operational=True, watching=True, phase="watching", height=world.node.height())
    services = bind(world.context, lambda: standing, version="1.2.3", network="regtest", tower_id=TOWER_ID)
    transport = httpx.ASGITransport(create_app(services, gate=Gate(sha256(TOKEN.encode()).digest())))
    config = StateChannelConfig(network="regtest")
    return StateChannelClient(config, url="http://tower", token=TOKEN, party=pair.b, transport=transport)


def mine_empty(world: World, tip: int) -> None:
    """Blocks without any transaction up to this height; the tower passes after each."""
    while world.node.height() < tip:
        world.node.generate_block()
        world.look()


# ── late ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_scenario_B17_tower_offline_100_blocks(world: World) -> None:
    """Restarted 100 blocks after the breach, the tower bids at once, as the amber phase asks, and wins."""
    pair = world.open(updates=3, challenge_period=144)
    world.stop()
    world.node.generate_block([pair.commitment(Side.A, 1)])
    closed_at = world.node.height()
    world.node.mine(100)

    world.wake()

    prepared = only(world, pair, PenaltyPrepared)
    assert closed_at + 143 == only(world, pair, BreachDetected).deadline
    assert (43, 120_897) == (prepared.remaining, prepared.fee)
    world.node.mine(1)
    world.look()
    penalty = world.penalty_of(pair, 1)
    assert penalty is not None
    assert closed_at + 101 == world.height_of(penalty.txid)
    assert world.status(pair) == "PUNISHED"


def test_scenario_B18_tower_offline_beyond_T_settle_unpublished(world: World) -> None:
    """After the deadline, with the contest output unspent, everything but dust is bid, and the penalty wins."""
    pair = world.open(updates=3, challenge_period=10)
    world.stop()
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.node.mine(13)

    world.wake()

    assert -4 == only(world, pair, PenaltyPrepared).remaining
    world.node.mine(1)
    world.look()
    penalty = world.penalty_of(pair, 1)
    assert penalty is not None
    assert world.node.height() == world.height_of(penalty.txid)
    assert dust_limit(penalty.outputs[0].spk) == penalty.outputs[0].value
    assert world.status(pair) == "PUNISHED"


def test_scenario_B18_the_cheater_settles_in_the_same_block_race(world: World) -> None:
    """With our penalty in the mempool a settlement package of the cheater is refused whatever it pays."""
    pair = world.open(updates=3, challenge_period=10)
    world.stop()
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.node.mine(9)
    world.wake()
    settlement = Transaction.parse(pair.settlement(Side.A, 1))
    child = world.node.anchor_child(settlement.txid, vout=len(settlement.outputs) - 1, fee=500_000)

    with pytest.raises(ValueError, match="package refused"):
        world.node.submit_package([settlement.serialize(), child])

    world.node.mine(1)
    world.look()
    assert world.status(pair) == "PUNISHED"


def test_scenario_B19_settle_in_mempool_race(world: World) -> None:
    """The cheater's settlement and its paid child stand in the mempool: the penalty replaces both by fee."""
    pair = world.open(updates=3, challenge_period=10)
    world.stop()
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.node.mine(9)
    settlement = Transaction.parse(pair.settlement(Side.A, 1))
    child = world.node.anchor_child(settlement.txid, vout=len(settlement.outputs) - 1, fee=50_000)
    world.node.submit_package([settlement.serialize(), child])

    world.wake()

    penalty = world.mempool_spender(world.contest(pair, 1))
    assert penalty is not None
    assert {penalty.txid} == world.node.mempool()
    world.node.mine(1)
    world.look()
    assert world.height_of(penalty.txid) == world.node.height()
    assert world.status(pair) == "PUNISHED"


@pytest.mark.parametrize("asleep", [True, False])
def test_scenario_B20_settle_confirmed_stale(world: World, asleep: bool) -> None:
    """A stale settlement in a block is LOST, with the evidence in the log and alerts for a person."""
    pair = world.open(updates=3, challenge_period=5)
    stale, settlement = pair.commitment(Side.A, 1), pair.settlement(Side.A, 1)
    if asleep:
        world.stop()
    world.node.generate_block([stale])
    if not asleep:
        world.look()
    for _ in range(4):
        world.node.generate_block()
    world.node.generate_block([settlement])

    if asleep:
        world.wake()
    world.look()

    assert world.status(pair) == "LOST"
    confirmed, lost = only(world, pair, SpendConfirmed), only(world, pair, SettleConfirmed)
    assert (SpendKind.BREACH, stale) == (confirmed.kind, confirmed.raw)
    assert (Transaction.parse(settlement).txid, 1, True) == (lost.txid, lost.sequence, lost.revoked)
    assert {AlertKind.OUTPUT_CLAIMED_BY_COUNTERPARTY, AlertKind.FUNDS_LOST} == world.channel(pair).alerts
    assert set() == world.node.mempool()


def test_scenario_B20_secret_comes_after_the_settlement(world: World) -> None:
    """A close that was settled as honest turns out stale when its secret arrives: LOST, with alerts."""
    pair = world.open(updates=2, challenge_period=3)
    pair.updates(1)
    world.node.generate_block([pair.commitment(Side.A, 2)])
    for _ in range(3):
        world.look()
        world.node.mine(1)
    world.look()
    assert "SETTLED" == world.status(pair)

    world.reveal(pair, 2)
    world.look(passes=2)

    assert "LOST" == world.status(pair)
    assert 1 == len(world.events(pair, BreachDetected))
    assert {AlertKind.OUTPUT_CLAIMED_BY_COUNTERPARTY, AlertKind.FUNDS_LOST} == world.channel(pair).alerts
    world.node.reorg(1)
    world.look()
    assert ("UNILATERAL", frozenset()) == (world.status(pair), world.channel(pair).alerts)
    world.node.mine(1)
    world.look()
    assert world.penalty_of(pair, 2) is not None
    assert "PUNISHED" == world.status(pair)


@pytest.mark.parametrize("after_deadline", [0, 1])
def test_scenario_B21_deadline_boundary(world: World, after_deadline: int) -> None:
    """A penalty in block h_c + T - 1, the last without a competitor, and one in h_c + T both punish."""
    pair = world.open(updates=3, challenge_period=6)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    closed_at = world.node.height()
    world.look()

    mine_empty(world, tip=closed_at + 4 + after_deadline)
    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, 1)
    assert penalty is not None
    assert closed_at + 6 - 1 + after_deadline == world.height_of(penalty.txid)
    assert world.status(pair) == "PUNISHED"


def test_scenario_B21_settlement_is_valid_one_block_after_the_deadline(world: World) -> None:
    """The node itself draws the line: the settlement is refused while the last penalty-only block is to come."""
    pair = world.open(updates=3, challenge_period=6)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.node.mine(4)
    settlement = pair.settlement(Side.A, 1)

    assert "non-BIP68-final" == world.node.test_accept(settlement)
    world.node.mine(1)
    assert "" == world.node.test_accept(settlement)


def estimating(feerate: float) -> Callable[[BitcoindNode], FaultyNode]:
    """A node that always gives this estimate, sat/vB."""

    def made(adapter: BitcoindNode) -> FaultyNode:
        port = FaultyNode(adapter)
        port.faults["fee_market"] = lambda targets: Market(1.0, 1.0, 1.0, tuple((each, feerate) for each in targets))
        return port

    return made


def test_scenario_B23_capacity_small_fee_high(make_world: MakeWorld) -> None:
    """20,000 sat at 300 sat/vB: each bid leaves at least dust, and the last one, of all but dust, is mined."""
    world = make_world(node_port=estimating(300.0))
    pair = world.open(updates=2, balances=(10_000, 10_000), challenge_period=12)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    mine_empty(world, tip=world.node.height() + 10)
    standing = world.mempool_spender(world.contest(pair, 1))
    world.node.mine(1)
    world.look()

    left = [Transaction.parse(bid.raw).outputs[0].value for bid in world.events(pair, PenaltyPrepared)]  # type: ignore[attr-defined]
    assert standing is not None
    assert sorted(left, reverse=True) == left
    assert dust_limit(standing.outputs[0].spk) == left[-1] == standing.outputs[0].value
    assert world.node.height() == world.height_of(standing.txid)
    assert world.status(pair) == "PUNISHED"


@pytest.mark.parametrize(("estimate", "first"), [(0.0, 123), (10_000_000.0, 21_093)])
def test_fault_M4_absurd_estimates_neither_stop_nor_burn(make_world: MakeWorld, estimate: float, first: int) -> None:
    """The first bid is the floor or the ceiling of its block, later ones follow, and the penalty confirms."""
    world = make_world(node_port=estimating(estimate))
    pair = world.open(updates=2, challenge_period=144)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    bid = only(world, pair, PenaltyPrepared).fee
    mine_empty(world, tip=world.node.height() + 20)
    bids = [each.fee for each in world.events(pair, PenaltyPrepared)]  # type: ignore[attr-defined]
    world.node.mine(1)
    world.look()

    assert first == bid
    assert sorted(bids) == bids
    assert 50_000 > bids[-1]
    assert "PUNISHED" == world.status(pair)


def test_fault_M6_five_refusals_for_the_fee(make_world: MakeWorld) -> None:
    """Nobody is seen who bids more, and yet the node refuses five times: steps double until a bid stands."""
    left = [Answer(BroadcastOutcome.INSUFFICIENT_FEE, -26, "insufficient fee")] * 5

    def refusing(adapter: BitcoindNode) -> FaultyNode:
        port = FaultyNode(adapter)
        port.faults["broadcast"] = lambda raw: left.pop() if left else adapter.broadcast(raw)
        return port

    world = make_world(node_port=refusing)
    pair = world.open(updates=2, challenge_period=144)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look(passes=2)

    fees = [bid.fee for bid in world.events(pair, PenaltyPrepared)]  # type: ignore[attr-defined]
    steps = [after - before for before, after in pairwise(fees)]
    standing = world.mempool_spender(world.contest(pair, 1))
    assert [] == left
    assert standing is not None
    assert pair.params.contest_value - fees[-1] == standing.outputs[0].value
    assert [True] * 3 == [after >= 2 * before for before, after in pairwise(steps)]


def test_fault_M12_a_value_that_does_not_pay_is_asked_again(world: World) -> None:
    """20,000 sat where nothing below 300 sat/vB relays: an alert, and the penalty goes out when fees have fallen."""
    pair = world.open(updates=2, balances=(10_000, 10_000), challenge_period=24)
    world.node.restart(["-minrelaytxfee=0.003"])
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look(passes=2)
    told = world.channel(pair).alerts
    refused = world.mempool_spender(world.contest(pair, 1))
    world.node.restart()
    world.look()
    world.node.mine(1)
    world.look()

    assert AlertKind.UNECONOMICAL_TO_PUNISH in told
    assert refused is None
    assert AlertKind.UNECONOMICAL_TO_PUNISH not in world.channel(pair).alerts
    assert "PUNISHED" == world.status(pair)


# ── something is missing ─────────────────────────────────────────────────────────────────────────────────


def test_scenario_B26_missing_secret(world: World) -> None:
    """Revoked but not uploaded: an honest close until the owner hands over the secret, then punished."""
    pair = world.open(updates=2)
    pair.updates(2)
    world.node.generate_block([pair.commitment(Side.A, 2)])
    world.look()
    assert [] == world.events(pair, BreachDetected)

    world.reveal(pair, 2)
    world.look()
    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, 2)
    assert penalty is not None
    assert world.height_of(penalty.txid) == world.node.height()
    assert world.status(pair) == "PUNISHED"


@pytest.mark.asyncio
@pytest.mark.parametrize("published", [2, 3, 4])
async def test_scenario_B26_client_delivers_the_missing_secrets(world: World, published: int) -> None:
    """The peer closes with a state whose revocation was not uploaded yet: the client's next call brings the secret."""
    pair = world.open(updates=2)
    pair.updates(3)
    world.node.generate_block([pair.commitment(Side.A, published)])
    world.look()

    async with client_of(world, pair) as client:
        with pytest.raises(ChannelIsClosed):
            await client.synchronize(pair.channel_id)
    world.look()
    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, published)
    assert penalty is not None
    assert world.height_of(penalty.txid) == world.node.height()
    assert world.status(pair) == "PUNISHED"


def test_scenario_B26_missing_key(world: World) -> None:
    """Without the revocation key the breach is an alert; a repeated registration brings the key and the penalty."""
    pair = world.open(updates=3)
    world.stop()
    (world.directory / "keystore").unlink()
    FileKeystore.create(world.directory / "keystore", PASSPHRASE, cost=2).close()
    world.wake()
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    assert {AlertKind.UNARMED_BREACH} == world.channel(pair).alerts
    assert [] == world.events(pair, PenaltyPrepared)

    register(world.context, pair.registration(Side.B))
    world.look()

    assert world.mempool_spender(world.contest(pair, 1)) is not None
    assert frozenset() == world.channel(pair).alerts


def test_scenario_B03_no_fee_estimator(start_node: StartNode, tmp_path: Path) -> None:
    """A node that takes no transactions from peers refuses to estimate fees; that does not stop the penalty."""
    node = start_node(extra_args=["-blocksonly"])
    world = World(node, tmp_path / "tower")
    pair = world.open(updates=3)
    with pytest.raises(RpcRefused, match="disabled"):
        node.rpc("estimatesmartfee", 2)

    node.generate_block([pair.commitment(Side.A, 1)])
    world.look()

    assert world.mempool_spender(world.contest(pair, 1)) is not None
    world.close()


def test_scenario_B21_deadline_counts_headers_not_our_cursor(make_world: MakeWorld) -> None:
    """While blocks cannot be read the deadline still comes nearer: the bid follows the node's headers."""

    def unreadable(_block_hash: bytes) -> bytes:
        raise BlockNotAvailable("block: pruned")

    world = make_world(node_port=FaultyNode)
    pair = world.open(updates=3, challenge_period=20)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    assert 19 == only(world, pair, PenaltyPrepared).remaining
    world.port.faults["block"] = unreadable  # type: ignore[attr-defined]
    for _ in range(18):
        world.node.generate_block()

    report = world.tower.run_pass(SWEEP)

    assert isinstance(report.error, BlockNotAvailable)
    last = world.events(pair, PenaltyPrepared)[-1]
    assert isinstance(last, PenaltyPrepared)
    assert 1 == last.remaining
    spender = world.mempool_spender(world.contest(pair, 1))
    assert spender is not None
    assert last.txid == spender.txid


def test_scenario_B24_node_trouble_with_one_penalty_does_not_stop_the_other(make_world: MakeWorld) -> None:
    """The node gives no usable answer about one penalty: the other goes out, also in the start after a restart."""
    refused: list[bytes] = []

    def moody(adapter: BitcoindNode) -> FaultyNode:
        def broadcast(raw: bytes) -> Answer:
            if Transaction.parse(raw).inputs[0].outpoint in refused:
                raise NodeError("sendrawtransaction: the node's reply has another shape than expected")
            return adapter.broadcast(raw)

        def broadcast_many(raws: Sequence[bytes]) -> tuple[Answer, ...]:
            return tuple(broadcast(raw) for raw in raws)

        port = FaultyNode(adapter)
        port.faults["broadcast"] = broadcast
        port.faults["broadcast_many"] = broadcast_many
        return port

    world = make_world(node_port=moody)
    first, second = world.open(updates=2, challenge_period=12), world.open(updates=2, challenge_period=20)
    refused.append(world.contest(first, 0))
    world.node.generate_block([first.commitment(Side.A, 0), second.commitment(Side.A, 0)])

    report = world.tower.run_pass(SWEEP)
    again = world.restart()

    assert [world.stream(first)] * 2 == [each.respond.troubles[0].stream for each in (report, again)]
    assert world.mempool_spender(world.contest(second, 0)) is not None
    refused.clear()
    world.look()
    assert world.mempool_spender(world.contest(first, 0)) is not None
