"""Stale commitments in blocks, and what only looks like a breach: B01, B04, B07, B10-B14, B16, B22, B24, B30."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.contract.closing import build_cooperative_close, is_cooperative_close
from domain.contract.commitment import build_commitment, commitment_number, complete_by_leaf, obscure, sign_funding
from domain.contract.penalty import penalty_vsize
from domain.contract.scripts import dust_limit
from domain.events import AlertKind, AlertRaised, BreachDetected, PenaltyPrepared, SpendConfirmed, SpendKind, SpendSeen
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import Side
from tests.regtest.world import PASSPHRASE, World, parent_txid
from tests.support.parties import Pair, htlc
from watchtower.channels.register import register
from watchtower.devnode.regtest import RegtestNode
from watchtower.keystore import FileKeystore


def last_alert(world: World, pair: Pair) -> AlertKind:
    """Kind of the newest alert in the channel's log."""
    alert = world.events(pair, AlertRaised)[-1]
    assert isinstance(alert, AlertRaised)
    return alert.kind


def sign_by_both(pair: Pair, tx: Transaction) -> bytes:
    """A spend of the funding output by leaf_F with the signatures of both parties."""
    sig_a, sig_b = (sign_funding(pair.params, tx, pair.secrets(side).fund, bytes(32)) for side in Side)
    return complete_by_leaf(pair.params, tx, sig_a, sig_b).serialize()


def test_scenario_B01_breach_confirmed_simple(world: World) -> None:
    """A stale commitment in a block is answered by a penalty that confirms in the next block."""
    pair = world.open(updates=4)

    world.node.generate_block([pair.commitment(Side.A, 2)])
    world.look()
    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, 2)
    assert penalty is not None
    assert world.height_of(penalty.txid) == world.node.height()
    assert world.status(pair) == "PUNISHED"


def test_scenario_B04_breach_mempool_same_block(world: World) -> None:
    """Commitment and penalty of one block are two facts of one batch: UNILATERAL, then PUNISHED."""
    pair = world.open(updates=4)
    world.node.send_raw(pair.commitment(Side.A, 1))
    world.look()
    assert world.status(pair) == "UNILATERAL"

    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, 1)
    assert penalty is not None
    tip = world.node.height()
    assert (tip, tip) == (world.height_of(pair.commitment_txid(Side.A, 1)), world.height_of(penalty.txid))
    names = [type(e).__name__ for e in world.events(pair)[-4:]]
    assert ["PenaltyBroadcast", "SpendConfirmed", "BreachDetected", "PenaltyConfirmed"] == names
    assert world.status(pair) == "PUNISHED"


def test_scenario_B04_both_mined_while_the_tower_looks_away(world: World) -> None:
    """A penalty of ours in the same block as the breach is recognized without any sight of the mempool."""
    pair = world.open(updates=3)
    stale = pair.commitment(Side.A, 1)
    world.node.send_raw(stale)
    world.look()
    penalty = world.penalty_of(pair, 1)
    assert penalty is not None
    world.stop()

    world.node.generate_block([stale, penalty.serialize()])
    world.wake()

    assert world.status(pair) == "PUNISHED"
    assert 1 == len(world.events(pair, PenaltyPrepared))


def test_scenario_B07_block_contains_other_stale_state(world: World) -> None:
    """The mempool held state 5 and its penalty, the block holds state 6: the answer is the penalty of 6."""
    pair = world.open(updates=8)
    world.node.send_raw(pair.commitment(Side.A, 5))
    world.look()
    assert world.penalty_of(pair, 5) is not None

    world.node.generate_block([pair.commitment(Side.A, 6)])
    world.look()
    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, 6)
    assert penalty is not None
    assert pair.commitment_txid(Side.A, 6) == parent_txid(penalty)
    assert world.height_of(penalty.txid) == world.node.height()
    assert world.status(pair) == "PUNISHED"


def test_scenario_B10_state_zero_breach(world: World) -> None:
    """State 0 has no predecessor and is punished like any other revoked state."""
    pair = world.open(updates=1)

    world.node.generate_block([pair.commitment(Side.A, 0)])
    world.look()
    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, 0)
    assert penalty is not None
    assert world.height_of(penalty.txid) == world.node.height()
    assert world.status(pair) == "PUNISHED"


def test_scenario_B11_latest_unrevoked_close(world: World) -> None:
    """The newest state is no breach, in the mempool or in a block; it is settled after T blocks."""
    pair = world.open(updates=3, challenge_period=5)
    world.node.send_raw(pair.commitment(Side.A, 3))
    world.look()
    assert world.mempool_spender(world.contest(pair, 3)) is None

    for _ in range(6):
        world.node.mine(1)
        world.look()

    closed_at = world.height_of(pair.commitment_txid(Side.A, 3))
    settled = world.node.spender(world.contest(pair, 3))
    assert settled == Transaction.parse(pair.settlement(Side.A, 3)).txid
    assert closed_at is not None
    assert closed_at + 5 == world.height_of(settled)
    assert ([], []) == (world.events(pair, BreachDetected), world.events(pair, PenaltyPrepared))
    assert world.status(pair) == "SETTLED"


@pytest.mark.parametrize("published", [2, 3])
def test_scenario_B12_inflight_older_state(world: World, published: int) -> None:
    """Between messages 2 and 4 of an update both states are legitimate: no penalty, the published one is settled."""
    pair = world.open(updates=2, challenge_period=3)
    pair.update()
    world.upload_in_flight(pair, 3)

    world.node.generate_block([pair.commitment(Side.A, published)])
    world.look()
    for _ in range(3):
        world.node.mine(1)
        world.look()

    settled = world.node.spender(world.contest(pair, published))
    assert settled == Transaction.parse(pair.settlement(Side.A, published)).txid
    assert [] == world.events(pair, PenaltyPrepared)
    assert world.status(pair) == "SETTLED"


def test_scenario_B13_future_state(world: World) -> None:
    """A state beyond our data raises an alert and gets no penalty."""
    pair = world.open(updates=1)
    pair.updates(4)

    world.node.send_raw(pair.commitment(Side.A, 5))
    world.look()
    world.node.mine(1)
    world.look()
    world.node.mine(1)
    world.look()

    assert AlertKind.FUTURE_STATE == last_alert(world, pair)
    assert [] == world.events(pair, PenaltyPrepared)
    assert world.node.is_unspent(world.contest(pair, 5), include_mempool=True)
    assert world.status(pair) == "UNILATERAL"


def test_scenario_B13_late_secrets_of_a_future_state(world: World) -> None:
    """When the owner hands over what was missing, the future state turns out to be a breach and is punished."""
    pair = world.open(updates=1)
    pair.updates(4)
    world.node.generate_block([pair.commitment(Side.A, 4)])
    world.look()

    for sequence in range(1, 5):
        world.reveal(pair, sequence)
    world.look()
    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, 4)
    assert penalty is not None
    assert world.height_of(penalty.txid) == world.node.height()
    assert world.status(pair) == "PUNISHED"
    assert frozenset() == world.channel(pair).alerts


def test_scenario_B14_coop_close_decodes_to_low_n(world: World) -> None:
    """A cooperative close that happens to carry the number of a revoked state is a cooperative close."""
    pair = world.open(updates=4)
    n_sequence, lock_time = obscure(pair.params, 1)
    plain = build_cooperative_close(pair.params, pair.balances, Side.A, 1_000)
    close = Transaction(2, (TxIn(pair.params.funding_outpoint, n_sequence),), plain.outputs, lock_time)
    assert 1 == commitment_number(pair.params, close)
    assert is_cooperative_close(close, pair.params)

    world.node.send_raw(sign_by_both(pair, close))
    world.look()
    world.node.mine(1)
    world.look()

    assert world.height_of(close.txid) == world.node.height()
    assert ([], []) == (world.events(pair, BreachDetected), world.events(pair, PenaltyPrepared))
    assert world.status(pair) == "SETTLED"


def test_scenario_B14_number_alone_accuses_nobody(world: World) -> None:
    """A version-3 spend with a revoked number but other outputs is an unknown spend, not a breach."""
    pair = world.open(updates=4)
    stale = build_commitment(pair.params, Side.A, 1, pair.point(Side.A, 1))
    other = TxOut(stale.outputs[0].value, pair.params.keys_a.payout)
    spend = Transaction(3, stale.inputs, (other, stale.outputs[1]), stale.lock_time)

    world.node.generate_block([sign_by_both(pair, spend)])
    world.look()

    assert AlertKind.UNKNOWN_SPEND == last_alert(world, pair)
    assert ([], []) == (world.events(pair, BreachDetected), world.events(pair, PenaltyPrepared))
    assert world.status(pair) == "UNKNOWN_SPEND"


def test_scenario_B16_commit_mined_without_mempool(world: World) -> None:
    """A stale state that no mempool ever saw is punished from the block, within one block."""
    pair = world.open(updates=6)
    stale = Transaction.parse(pair.commitment(Side.A, 0))

    world.node.generate_block([stale.serialize()])
    mined_at = world.node.height()
    world.look()
    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, 0)
    assert penalty is not None
    assert mined_at + 1 == world.height_of(penalty.txid)
    assert [] == world.events(pair, SpendSeen)
    confirmed = world.events(pair, SpendConfirmed)[0]
    assert isinstance(confirmed, SpendConfirmed)
    assert (SpendKind.BREACH, stale.serialize()) == (confirmed.kind, confirmed.raw)


def test_scenario_B22_htlc_heavy_stale_state(world: World) -> None:
    """Forty HTLCs in the stale state change nothing: one input of 111 vB takes the whole contest output."""
    pair = world.open(updates=1)
    conditions = [htlc(Side(number % 2), number, 5_000, world.node.height() + 500) for number in range(40)]
    heavy = pair.with_htlcs(*conditions)
    world.upload(pair, heavy)
    world.upload(pair, pair.update((500_000, 500_000)))

    world.node.generate_block([pair.commitment(Side.A, heavy)])
    world.look()
    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, heavy)
    assert penalty is not None
    assert (1, 1, 111) == (len(penalty.inputs), len(penalty.outputs), penalty.vsize)
    assert pair.params.contest_value - 1_000 < penalty.outputs[0].value
    assert world.height_of(penalty.txid) == world.node.height()
    assert world.status(pair) == "PUNISHED"


def test_scenario_B24_two_channels_breached_same_block(world: World) -> None:
    """Two breaches in one block get two penalties that have nothing to do with each other."""
    first, second = world.open(updates=3), world.open(updates=2)

    world.node.generate_block([first.commitment(Side.A, 1), second.commitment(Side.A, 0)])
    world.look()
    world.node.mine(1)
    world.look()

    penalties = [world.penalty_of(first, 1), world.penalty_of(second, 0)]
    assert [first.commitment_txid(Side.A, 1), second.commitment_txid(Side.A, 0)] == [
        parent_txid(tx) for tx in penalties if tx is not None
    ]
    assert [world.node.height()] * 2 == [world.height_of(tx.txid) for tx in penalties if tx is not None]
    assert ("PUNISHED", "PUNISHED") == (world.status(first), world.status(second))


def test_scenario_B24_urgent_and_large_first(world: World) -> None:
    """Breaches of one block are answered in the order of their deadlines, then of their values."""
    slow = world.open(updates=1, challenge_period=40, balances=(900_000, 900_000))
    small = world.open(updates=1, challenge_period=12, balances=(300_000, 300_000))
    large = world.open(updates=1, challenge_period=12, balances=(600_000, 600_000))

    world.node.generate_block([pair.commitment(Side.A, 0) for pair in (slow, small, large)])
    world.look()

    log = world.store.read_log(0, 10_000)
    order = [e.envelope.stream for e in log if isinstance(e.envelope.payload, PenaltyPrepared)]
    assert [world.stream(pair) for pair in (large, small, slow)] == order
    assert 3 == len(world.node.mempool())


def test_scenario_B24_one_bad_channel_does_not_stop_the_other(world: World) -> None:
    """The penalty of one channel cannot be made (its key is gone); the other one goes out all the same."""
    first, second = world.open(updates=2, challenge_period=12), world.open(updates=2, challenge_period=20)
    world.stop()
    (world.directory / "keystore").unlink()
    FileKeystore.create(world.directory / "keystore", PASSPHRASE, cost=2).close()
    world.wake()
    register(world.context, second.registration(Side.B))

    world.node.generate_block([first.commitment(Side.A, 0), second.commitment(Side.A, 0)])
    world.look()

    assert world.mempool_spender(world.contest(first, 0)) is None
    assert world.mempool_spender(world.contest(second, 0)) is not None


@pytest.mark.parametrize("challenge_period", [1, 2])
def test_scenario_B01_shortest_challenge_periods(world: World, challenge_period: int) -> None:
    """With one or two blocks to answer the first bid is everything but dust, and it wins the next block."""
    pair = world.open(updates=2, challenge_period=challenge_period)

    world.node.generate_block([pair.commitment(Side.A, 0)])
    world.look()
    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, 0)
    assert penalty is not None
    assert dust_limit(penalty.outputs[0].spk) == penalty.outputs[0].value
    assert world.node.height() == world.height_of(penalty.txid)
    assert world.status(pair) == "PUNISHED"


def test_scenario_B01_penalty_mined_while_a_higher_bid_is_on_its_way(node: RegtestNode, tmp_path: Path) -> None:
    """A block with the earlier bid arrives between our signature and our call: the refused bid is no loss."""
    armed: list[bool] = []

    def block_arrives(name: str) -> None:
        if name == "broadcast:before" and armed:
            armed.clear()
            node.mine(1)

    world = World(node, tmp_path / "tower", failpoint=block_arrives)
    pair = world.open(updates=2, challenge_period=12)
    node.generate_block([pair.commitment(Side.A, 0)])
    world.look()
    for _ in range(6):
        node.generate_block()
    armed.append(True)

    world.look()
    world.look()

    penalty = world.penalty_of(pair, 0)
    assert penalty is not None
    assert node.height() == world.height_of(penalty.txid)
    assert 2 == len(world.events(pair, PenaltyPrepared))
    assert world.status(pair) == "PUNISHED"
    world.close()


def test_scenario_B11_funding_and_close_in_one_block(world: World) -> None:
    """Funding and newest commitment in the same block: both facts are found, and the close is settled."""
    pair = world.open(challenge_period=3, confirm=False)

    world.node.generate_block([pair.funding.raw, pair.commitment(Side.A, 0)])
    world.look()
    for _ in range(3):
        world.node.mine(1)
        world.look()

    settled = world.node.spender(world.contest(pair, 0))
    assert settled == Transaction.parse(pair.settlement(Side.A, 0)).txid
    assert world.status(pair) == "SETTLED"


def test_scenario_B30_maxfeerate_guard(world: World) -> None:
    """In the critical phase of a large channel the bid is far above 0.1 BTC/kvB and the node takes it."""
    pair = world.open(updates=2, balances=(25_000_000, 25_000_000), challenge_period=8)

    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.node.mine(5)
    world.look()

    penalty = world.mempool_spender(world.contest(pair, 1))
    assert penalty is not None
    fee = pair.params.contest_value - penalty.outputs[0].value
    assert 10_000 * penalty_vsize(pair.params, b"") < fee
    world.node.mine(1)
    world.look()
    assert world.height_of(penalty.txid) == world.node.height()
