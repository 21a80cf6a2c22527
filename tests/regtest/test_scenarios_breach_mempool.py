"""Stale commitments in the mempool, on a node that enforces TRUC: catalogue B02, B03, B05, B06, B08, B09, B15, B27."""

from __future__ import annotations

from pathlib import Path

from domain.contract.penalty import build_penalty, sign_penalty
from domain.contract.revocation import revocation_secret
from domain.events import AlertCleared, AlertKind, AlertRaised, BroadcastOutcome, PenaltyPrepared, PenaltyRefused
from domain.fees import mempool_budget
from domain.punishing import Rival
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import Side
from tests.regtest.world import World
from tests.support.parties import Pair
from watchtower.devnode.regtest import RegtestNode


def publish(world: World, pair: Pair, sequence: int, fee: int, side: Side = Side.A) -> bytes:
    """Publish a commitment with a child on its anchor that pays `fee`; returns the child's txid."""
    child = world.node.anchor_child(pair.commitment_txid(side, sequence), fee=fee)
    world.node.submit_package([pair.commitment(side, sequence), child])
    return Transaction.parse(child).txid


def bid_again(node: RegtestNode, pair: Pair, sequence: int, fee: int) -> Rival:
    """Another child on the anchor of a published commitment; it evicts whatever child was there."""
    child = Transaction.parse(node.anchor_child(pair.commitment_txid(Side.A, sequence), fee=fee))
    node.send_raw(child.serialize())
    return Rival(fee, child.vsize)


def elsewhere(node: RegtestNode, child: Transaction, fee: int) -> bytes:
    """The coin of an anchor child spent otherwise: it replaces the child and leaves the anchor alone."""
    coin = child.inputs[1]
    value = child.outputs[0].value - fee
    return node.sign(Transaction(2, (TxIn(coin.outpoint, coin.sequence),), (TxOut(value, node.wallet_spk()),), 0))


def bids(world: World, pair: Pair) -> list[int]:
    """Fees of all prepared penalties, in order."""
    return [e.fee for e in world.events(pair, PenaltyPrepared) if isinstance(e, PenaltyPrepared)]


def refusals(world: World, pair: Pair) -> list[BroadcastOutcome]:
    """Why penalties were refused, in order."""
    return [e.outcome for e in world.events(pair, PenaltyRefused) if isinstance(e, PenaltyRefused)]


def alerts(world: World, pair: Pair) -> list[tuple[str, AlertKind]]:
    """Raised and cleared alerts, in order."""
    found = [e for e in world.events(pair) if isinstance(e, AlertRaised | AlertCleared)]
    return [(type(e).__name__, e.kind) for e in found]


def test_scenario_B02_breach_mempool_sibling_eviction(world: World) -> None:
    """The penalty evicts the cheater's paid child from the mempool, and both confirm in one block."""
    pair = world.open(updates=4)
    child = publish(world, pair, 2, fee=2_000)

    world.look()

    penalty = world.mempool_spender(world.contest(pair, 2))
    assert penalty is not None
    assert {pair.commitment_txid(Side.A, 2), penalty.txid} == world.node.mempool()
    assert child not in world.node.mempool()
    assert [2_000 + 111 + 1] == bids(world, pair)
    world.node.mine(1)
    world.look()
    assert world.height_of(penalty.txid) == world.height_of(pair.commitment_txid(Side.A, 2)) == world.node.height()
    assert world.status(pair) == "PUNISHED"


def test_scenario_B02_without_truc(knots_default_node: RegtestNode, tmp_path: Path) -> None:
    """Where the node does not enforce TRUC the cheater's child and the penalty stand side by side and both confirm."""
    node = knots_default_node
    world = World(node, tmp_path / "tower")
    pair = world.open(updates=4)
    child = publish(world, pair, 2, fee=2_000)

    world.look()

    penalty = world.mempool_spender(world.contest(pair, 2))
    assert penalty is not None
    assert {pair.commitment_txid(Side.A, 2), child, penalty.txid} == node.mempool()
    node.mine(1)
    world.look()
    assert node.height() == world.height_of(penalty.txid)
    assert world.status(pair) == "PUNISHED"
    world.close()


def test_scenario_B03_breach_mempool_insufficient_fee(node: RegtestNode, tmp_path: Path) -> None:
    """The cheater bids again while our first bid is on its way: refused, then raised to what the node names."""
    armed: list[Pair] = []

    def cheater_is_faster(name: str) -> None:
        if name == "broadcast:before" and armed:
            bid_again(node, armed.pop(), 2, fee=7_000)

    world = World(node, tmp_path / "tower", failpoint=cheater_is_faster)
    pair = world.open(updates=4)
    publish(world, pair, 2, fee=2_000)
    armed.append(pair)

    world.look()

    penalty = world.mempool_spender(world.contest(pair, 2))
    assert penalty is not None
    assert [2_112, 7_112] == bids(world, pair)
    assert [BroadcastOutcome.INSUFFICIENT_FEE] == refusals(world, pair)
    assert {pair.commitment_txid(Side.A, 2), penalty.txid} == node.mempool()
    world.close()


def test_scenario_B05_cheater_rebids_child(world: World) -> None:
    """Each bid of the cheater is outbid until it costs a tenth of the value; then the tower waits for the block."""
    pair = world.open(updates=4)
    publish(world, pair, 2, fee=2_000)
    world.look()
    for fee in (5_000, 20_000, 60_000):
        bid_again(world.node, pair, 2, fee)
        world.look()
        assert world.mempool_spender(world.contest(pair, 2)) is not None
    assert [2_112, 5_112, 20_112, 60_112] == bids(world, pair)

    bid_again(world.node, pair, 2, fee=99_950)
    report = world.look(passes=2)

    assert world.mempool_spender(world.contest(pair, 2)) is None
    assert [2_112, 5_112, 20_112, 60_112] == bids(world, pair)
    assert 1 == report.respond.deferred
    world.node.mine(1)
    world.look()
    world.node.mine(1)
    world.look()
    penalty = world.penalty_of(pair, 2)
    assert penalty is not None
    assert world.height_of(penalty.txid) == world.node.height()
    assert mempool_budget(pair.params.contest_value) >= bids(world, pair)[-1]
    assert world.status(pair) == "PUNISHED"


def test_scenario_B05_own_bid_returns_when_the_rival_leaves(world: World) -> None:
    """A rival above the budget is waited for; once it is gone without a block, the stored bytes go out again."""
    pair = world.open(updates=4)
    publish(world, pair, 2, fee=2_000)
    world.look()
    ours = world.mempool_spender(world.contest(pair, 2))
    rich = world.node.anchor_child(pair.commitment_txid(Side.A, 2), fee=99_990)
    world.node.send_raw(rich)
    world.look()
    assert world.mempool_spender(world.contest(pair, 2)) is None

    world.node.send_raw(elsewhere(world.node, Transaction.parse(rich), fee=250_000))
    world.look()

    assert ours == world.mempool_spender(world.contest(pair, 2))


def test_scenario_B06_swap_to_other_stale_state(world: World) -> None:
    """The cheater replaces state 5 by state 6 as a package; penalty 5 vanishes with it, penalty 6 takes its place."""
    pair = world.open(updates=8)
    publish(world, pair, 5, fee=2_000)
    world.look()
    assert world.mempool_spender(world.contest(pair, 5)) is not None

    publish(world, pair, 6, fee=9_000)
    assert pair.commitment_txid(Side.A, 5) not in world.node.mempool()
    world.look()

    penalty = world.mempool_spender(world.contest(pair, 6))
    assert penalty is not None
    assert {pair.commitment_txid(Side.A, 6), penalty.txid} == world.node.mempool()
    world.node.mine(1)
    world.look()
    assert world.node.height() == world.height_of(penalty.txid)
    assert world.status(pair) == "PUNISHED"


def test_scenario_B06_swap_there_and_back(world: World) -> None:
    """From 5 to 6 and back to 5: the penalty always fits the commitment that is there now."""
    pair = world.open(updates=8)
    for sequence, fee in ((5, 2_000), (6, 9_000), (5, 20_000)):
        publish(world, pair, sequence, fee)
        world.look()

    penalty = world.mempool_spender(world.contest(pair, 5))
    assert penalty is not None
    assert {pair.commitment_txid(Side.A, 5), penalty.txid} == world.node.mempool()
    assert [2_112, 9_112, 20_112] == bids(world, pair)


def test_scenario_B06_swap_from_honest_to_stale(world: World) -> None:
    """A close that began honestly and is replaced by a stale state is a breach from that moment on."""
    pair = world.open(updates=4)
    publish(world, pair, 4, fee=2_000)
    world.look()
    assert [] == bids(world, pair)

    publish(world, pair, 1, fee=9_000)
    world.look()

    penalty = world.mempool_spender(world.contest(pair, 1))
    assert penalty is not None
    assert {pair.commitment_txid(Side.A, 1), penalty.txid} == world.node.mempool()


def test_scenario_B08_swap_to_honest_state(world: World) -> None:
    """The cheater retreats to the newest state: the penalty is dropped and the close is settled after T blocks."""
    pair = world.open(updates=4, challenge_period=3)
    publish(world, pair, 2, fee=2_000)
    world.look()

    publish(world, pair, 4, fee=9_000)
    world.look()

    assert world.mempool_spender(world.contest(pair, 4)) is None
    assert pair.commitment_txid(Side.A, 2) not in world.node.mempool()
    for _ in range(4):
        world.node.mine(1)
        world.look()
    closed_at = world.height_of(pair.commitment_txid(Side.A, 4))
    assert closed_at is not None
    settled = world.node.spender(world.contest(pair, 4))
    assert settled == Transaction.parse(pair.settlement(Side.A, 4)).txid
    assert closed_at + 3 == world.height_of(settled)
    assert world.status(pair) == "SETTLED"


def test_scenario_B08_restart_does_not_bring_the_breach_back(world: World) -> None:
    """The retreat happens while the tower is down and pays less than a new breach package would: it stands."""
    pair = world.open(updates=4)
    publish(world, pair, 2, fee=2_000)
    world.look()
    world.stop()
    world.node.restart(["-persistmempool=0"])
    world.node.send_raw(pair.commitment(Side.A, 4))

    world.wake()
    world.look()

    assert {pair.commitment_txid(Side.A, 4)} == world.node.mempool()
    assert world.status(pair) == "UNILATERAL"


def test_scenario_B09_swap_to_coop_close(world: World) -> None:
    """The stale package is replaced by the cooperative close: nothing is punished, the channel is settled."""
    pair = world.open(updates=4)
    publish(world, pair, 2, fee=2_000)
    world.look()
    close = pair.close(Side.A, fee=10_000)

    world.node.send_raw(close)
    world.look()

    assert {Transaction.parse(close).txid} == world.node.mempool()
    assert world.status(pair) == "COOP_CLOSING"
    world.node.mine(1)
    world.look()
    assert world.node.height() == world.height_of(Transaction.parse(close).txid)
    assert world.status(pair) == "SETTLED"


def test_scenario_B09_restart_respects_the_close(world: World) -> None:
    """A cheap cooperative close that entered an emptied mempool while the tower was down is not pushed out."""
    pair = world.open(updates=4)
    publish(world, pair, 2, fee=2_000)
    world.look()
    world.stop()
    world.node.restart(["-persistmempool=0"])
    close = pair.close(Side.A, fee=400)
    world.node.send_raw(close)

    world.wake()
    world.look()

    assert {Transaction.parse(close).txid} == world.node.mempool()
    assert world.status(pair) == "COOP_CLOSING"


def test_scenario_B15_own_old_state(world: World) -> None:
    """An own revoked state raises SELF_BREACH; the newest one replaces it and is settled."""
    pair = world.open(updates=3, challenge_period=3)
    publish(world, pair, 1, fee=1_000, side=Side.B)
    world.look()
    assert [("AlertRaised", AlertKind.SELF_BREACH)] == alerts(world, pair)
    assert [] == bids(world, pair)

    publish(world, pair, 3, fee=5_000, side=Side.B)
    world.look()

    assert ("AlertCleared", AlertKind.SELF_BREACH) == alerts(world, pair)[-1]
    for _ in range(4):
        world.node.mine(1)
        world.look()
    settled = world.node.spender(world.contest(pair, 3, Side.B))
    assert settled == Transaction.parse(pair.settlement(Side.B, 3)).txid
    assert world.status(pair) == "SETTLED"


def test_scenario_B15_own_old_state_is_punished_by_the_peer(world: World) -> None:
    """The counterparty takes everything from an own revoked state: LOST, with alerts, and nothing sent by us."""
    pair = world.open(updates=3)
    stale = pair.commitment_txid(Side.B, 1)
    world.node.generate_block([pair.commitment(Side.B, 1)])
    world.look()
    revealed = pair.secret(Side.B, 1)
    secret = revocation_secret(pair.secrets(Side.A).rev, revealed)
    unsigned = build_penalty(pair.params, stale, 1_000, pair.params.keys_a.payout)
    theirs = sign_penalty(pair.params, unsigned, pair.contest_key(Side.B, 1), secret, bytes(32))

    world.node.generate_block([theirs.serialize()])
    world.look()

    assert world.status(pair) == "LOST"
    expected = {AlertKind.SELF_BREACH, AlertKind.FUNDS_LOST, AlertKind.OUTPUT_CLAIMED_BY_COUNTERPARTY}
    assert expected == world.channel(pair).alerts
    assert [] == bids(world, pair)


def test_scenario_B27_penalty_evicted_mempool_full(world: World) -> None:
    """The whole package left the mempool: both go out again from the tower's own copy of the commitment."""
    pair = world.open(updates=4)
    publish(world, pair, 2, fee=2_000)
    world.look()
    before = world.mempool_spender(world.contest(pair, 2))
    world.node.restart(["-persistmempool=0"])
    assert set() == world.node.mempool()

    world.look()

    assert before is not None
    assert {pair.commitment_txid(Side.A, 2), before.txid} == world.node.mempool()


def test_scenario_B27_package_pays_the_raised_minimum(world: World) -> None:
    """Where the minimum feerate rose above the commitment's own fee, the penalty pays for both."""
    pair = world.open(updates=4)
    world.node.send_raw(pair.commitment(Side.A, 2))
    world.look()
    world.node.restart(["-persistmempool=0", "-minrelaytxfee=0.0001"])
    assert set() == world.node.mempool()

    world.look()

    penalty = world.mempool_spender(world.contest(pair, 2))
    assert penalty is not None
    fees = pair.params.commitment_fee + pair.params.contest_value - penalty.outputs[0].value
    assert 10 * (166 + 111) <= fees
    assert {pair.commitment_txid(Side.A, 2), penalty.txid} == world.node.mempool()
