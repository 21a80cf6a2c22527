"""Breaches met late, with something missing, or hardly worth it: catalogue B17-B21, B23 and B26."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

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
from tests.regtest.breaches import FaultyNode, only
from tests.regtest.conftest import MakeWorld
from tests.regtest.world import World
from watchtower.node.rpc import BitcoindNode
from watchtower.ports import Answer


def mine_empty(world: World, tip: int) -> None:
    """Blocks without any transaction up to this height; the tower passes after each."""
    while world.node.height() < tip:
        world.node.generate_block()
        world.look()


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
