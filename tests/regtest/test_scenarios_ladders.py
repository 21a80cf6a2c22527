"""Penalties that were signed before the breach, on a real node: catalogue D01, D02, D04, D17, and ladders too short."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from domain.chain import make_outpoint
from domain.contract.params import SEGWIT, TAPROOT
from domain.errors import ChallengeRefused
from domain.events import AlertCleared, AlertKind, AlertRaised, ChallengeReceived, PenaltyPrepared
from domain.ladder import Rung, rung_penalty
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import Side
from tests.regtest.contract_stage import build_unsigned_penalty, punish
from tests.regtest.world import World
from tests.support.anybody import ANYBODY, RBF, spend_coins
from tests.support.parties import Pair
from tests.support.proofs import FEES, ladder_proof, rungs
from watchtower.channels.challenge import challenge
from watchtower.devnode.purse import ANCHOR_SAT, Coin
from watchtower.devnode.regtest import RegtestNode
from watchtower.wire.disputes import ChallengeRequest, ProofHex

STATE = 2
ADDABLE = 0x81
"""The hash type that lets anybody add inputs."""


@pytest.fixture(params=[TAPROOT, SEGWIT], ids=["taproot", "segwit"])
def either(node: RegtestNode, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A world of each profile."""
    story = World(node, tmp_path / "tower", profile=request.param)
    yield story
    story.close()


def accused(world: World, challenge_period: int = 24, *, mined: bool = True) -> Pair:
    """A published state 2, whose secret never reached the tower."""
    pair = world.open(updates=1, challenge_period=challenge_period)
    pair.updates(3)
    raw = pair.commitment(Side.A, STATE)
    world.node.generate_block([raw]) if mined else world.node.send_raw(raw)
    world.look()
    return pair


def sweep_of(pair: Pair) -> bytes:
    """B's registered sweep script."""
    return bytes(pair.registration(Side.B).sweep_spk)


def show(world: World, pair: Pair, made: Sequence[Rung]) -> None:
    """Give the tower a ladder."""
    proof = ladder_proof(pair, STATE, made)
    challenge(world.context, world.stream(pair), ChallengeRequest(sequence=STATE, proof=ProofHex(proof)))


def transactions(pair: Pair, made: Sequence[Rung]) -> list[Transaction]:
    """The penalties of a ladder."""
    txid, key = pair.commitment_txid(Side.A, STATE), pair.contest_key(Side.A, STATE)
    return [rung_penalty(pair.params, txid, sweep_of(pair), rung, key) for rung in made]


def alerts(world: World, pair: Pair) -> list[tuple[type, AlertKind]]:
    """Raised and cleared, in order."""
    return [(type(e), e.kind) for e in world.events(pair) if isinstance(e, AlertRaised | AlertCleared)]


# ── what is in a ladder ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("top", [None, ADDABLE])
def test_scenario_D01_ladder_all_rungs_valid(either: World, top: int | None) -> None:
    """The tower accepts the ladder, the node every rung, each as the replacement of the one below."""
    pair = accused(either)
    made = rungs(pair, STATE, sweep_of(pair), top=top)
    either.node.generate_block()

    show(either, pair, made)
    sent = [either.node.send_raw(tx.serialize()) for tx in transactions(pair, made)]

    assert 1 == len(either.events(pair, ChallengeReceived))
    assert len(FEES) == len(set(sent))
    assert sent[-1] == either.node.spender(either.contest(pair, STATE))


@pytest.mark.parametrize("rung", range(len(FEES)))
def test_scenario_D02_ladder_tampered_fee(world: World, rung: int) -> None:
    """One satoshi more in one rung: the tower refuses the ladder and stores nothing, the node refuses the rung."""
    pair = accused(world)
    made = rungs(pair, STATE, sweep_of(pair), top=ADDABLE)
    made[rung] = msgspec.structs.replace(made[rung], fee=FEES[rung] + 1)

    with pytest.raises(ChallengeRefused, match="BAD_SIG"):
        show(world, pair, made)
    world.look()

    assert "Invalid Schnorr signature" in world.node.test_accept(transactions(pair, made)[rung].serialize())
    assert [] == world.events(pair, ChallengeReceived)
    assert world.mempool_spender(world.contest(pair, STATE)) is None


@pytest.mark.parametrize("hash_type", [0x02, 0x82, 0x03, 0x83])
def test_scenario_D04_sighash_none_rejected_at_upload(world: World, hash_type: int) -> None:
    """The node takes such penalties, NONE even with another output than ours: that is why the tower refuses them."""
    pair = accused(world)
    thief = build_unsigned_penalty(pair, Side.A, STATE, FEES[0], pair.params.keys_a.payout)
    genuine = punish(pair, Side.A, STATE, build_unsigned_penalty(pair, Side.A, STATE, FEES[0]), hash_type)
    (witness,) = Transaction.parse(genuine).inputs[0].witness
    redirected = thief.with_witness(0, (witness,)).serialize()

    with pytest.raises(ChallengeRefused, match="BAD_SIGHASH"):
        show(world, pair, [Rung(FEES[0], witness[:64], hash_type)])
    world.look()

    assert world.node.test_accept(genuine) == ""
    assert (world.node.test_accept(redirected) == "") is (hash_type & 0x03 == 0x02)
    assert [] == world.events(pair, ChallengeReceived)
    assert world.mempool_spender(world.contest(pair, STATE)) is None


# ── what others can do with a rung ───────────────────────────────────────────────────────────────────────────────


def small_coins(world: World, *values: int) -> list[Coin]:
    """Confirmed coins that anybody may spend."""
    funding = world.node.fund_many([TxOut(value, ANYBODY) for value in values])
    world.node.mine(1)
    world.look()
    return [Coin(make_outpoint(funding.txid, vout), value, ANYBODY) for vout, value in enumerate(values)]


def anchor_of(pair: Pair) -> Coin:
    """The keyless output of the accused commitment."""
    return Coin(make_outpoint(pair.commitment_txid(Side.A, STATE), 1), ANCHOR_SAT, b"")


def with_inputs(penalty: Transaction, anchor: Coin, coin: Coin) -> bytes:
    """The penalty with a stranger's two inputs: the anchor, and a coin that becomes fee."""
    added = (TxIn(anchor.outpoint, RBF), TxIn(coin.outpoint, RBF, witness=(b"\x51",)))
    return Transaction(3, (*penalty.inputs, *added), penalty.outputs, 0).serialize()


def cycled_out(world: World, anchor: Coin, coin: Coin) -> None:
    """A dearer child of the anchor replaces whatever spends it now, and leaves when its coin is spent otherwise."""
    world.node.send_raw(spend_coins([anchor, coin], [TxOut(1_000, ANYBODY)], version=3))
    assert world.mempool_spender(anchor.outpoint) is not None
    world.node.send_raw(spend_coins([coin], [TxOut(330, ANYBODY)]))
    assert world.mempool_spender(anchor.outpoint) is None


@pytest.mark.parametrize("mined", [True, False], ids=["confirmed", "unconfirmed"])
def test_scenario_D17_acp_penalty_malleated_with_p2a(world: World, mined: bool) -> None:
    """Somebody adds the anchor to the 0x81 rung and cycles both out: the rung is back after one pass, each time."""
    coins = small_coins(world, 300_000, 800_000, 1_900_000, 5_000_000)
    pair = accused(world, challenge_period=12, mined=mined)
    show(world, pair, rungs(pair, STATE, sweep_of(pair), fees=(20_000,), top=ADDABLE))
    world.look()
    ours, anchor = world.mempool_spender(world.contest(pair, STATE)), anchor_of(pair)
    assert ours is not None
    seen = []

    for added, away in ((coins[0], coins[1]), (coins[2], coins[3])):
        malleated = world.node.send_raw(with_inputs(ours, anchor, added))
        world.look()
        seen.append(world.mempool_spender(world.contest(pair, STATE)))
        assert malleated != ours.txid
        cycled_out(world, anchor, away)
        assert world.mempool_spender(world.contest(pair, STATE)) is None
        world.look()
        assert ours == world.mempool_spender(world.contest(pair, STATE))
    world.node.generate_block([*([] if mined else [pair.commitment(Side.A, STATE)]), ours.serialize()])
    world.look()

    assert [3, 3] == [len(tx.inputs) for tx in seen if tx is not None]
    assert 1 == len(world.events(pair, PenaltyPrepared))
    assert "PUNISHED" == world.status(pair)


def test_scenario_D17_a_malleated_penalty_that_is_mined_punishes_too(world: World) -> None:
    """Whoever adds inputs only pays for it: our output is the same, and a reorg brings our own penalty back."""
    (coin,) = small_coins(world, 300_000)
    pair = accused(world, challenge_period=12)
    show(world, pair, rungs(pair, STATE, sweep_of(pair), fees=(20_000,), top=ADDABLE))
    world.look()
    ours = world.mempool_spender(world.contest(pair, STATE))
    assert ours is not None

    world.node.generate_block([with_inputs(ours, anchor_of(pair), coin)])
    world.look()
    punished = world.status(pair)
    world.node.reorg(1, [[], []])
    world.look()
    world.node.generate_block([ours.serialize()])
    world.look()

    assert ("PUNISHED", "PUNISHED") == (punished, world.status(pair))
    assert world.node.height() == world.height_of(ours.txid)


def test_scenario_D17_nothing_can_be_added_to_the_other_rungs(world: World) -> None:
    """The same inputs at a 0x00 rung are an invalid signature, and the rung stays where it is."""
    (coin,) = small_coins(world, 300_000)
    pair = accused(world, challenge_period=12)
    show(world, pair, rungs(pair, STATE, sweep_of(pair), fees=(20_000,)))
    world.look()
    ours = world.mempool_spender(world.contest(pair, STATE))
    assert ours is not None

    reason = world.node.test_accept(with_inputs(ours, anchor_of(pair), coin))

    assert "Invalid Schnorr signature" in reason
    assert ours == world.mempool_spender(world.contest(pair, STATE))


# ── ladders that are too short ───────────────────────────────────────────────────────────────────────────────────


def test_fault_M13_the_highest_rung_and_an_alert(world: World) -> None:
    """No rung pays what the last six blocks ask for: the highest one stands, a person is told, it may still confirm."""
    pair = accused(world, challenge_period=24)
    show(world, pair, rungs(pair, STATE, sweep_of(pair), fees=(333, 250_000), top=ADDABLE))
    for _ in range(16):
        world.node.generate_block()
        world.look()
    before = alerts(world, pair)
    world.node.generate_block()
    world.look()
    told, standing = alerts(world, pair), world.mempool_spender(world.contest(pair, STATE))
    world.node.mine(1)
    world.look()

    assert (AlertRaised, AlertKind.LADDER_TOO_SHORT) not in before
    assert (AlertRaised, AlertKind.LADDER_TOO_SHORT) == told[-1]
    assert standing is not None
    assert pair.params.contest_value - 250_000 == standing.outputs[0].value
    assert "PUNISHED" == world.status(pair)
    assert AlertKind.LADDER_TOO_SHORT not in world.channel(pair).alerts


def test_fault_M13_a_spike_above_the_ladder(node: RegtestNode, tmp_path: Path) -> None:
    """The node takes nothing below 40 sat/vB any more: the top rung is tried in every pass, and the alert stands."""
    world = World(node, tmp_path / "tower")
    pair = accused(world)
    show(world, pair, rungs(pair, STATE, sweep_of(pair), fees=(333, 1_332), top=ADDABLE))
    world.look()
    node.restart(["-persistmempool=0", "-minrelaytxfee=0.0004"])

    world.look(passes=2)
    told = world.channel(pair).alerts
    absent = world.mempool_spender(world.contest(pair, STATE))
    node.restart(["-persistmempool=0"])
    world.look()

    assert AlertKind.LADDER_TOO_SHORT in told
    assert absent is None
    assert AlertKind.LADDER_TOO_SHORT not in world.channel(pair).alerts
    assert world.mempool_spender(world.contest(pair, STATE)) is not None
    world.close()
