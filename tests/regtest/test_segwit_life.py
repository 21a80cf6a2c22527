"""The whole life of a channel without taproot, watched by a real tower on a real node (profile 1, annex C)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from domain.contract.conditions import Condition
from domain.contract.params import SEGWIT, TAPROOT, ParamsPolicy
from domain.errors import InvalidParams, MalformedInput
from domain.events import BidMethod, PenaltyConfirmed, PenaltyPrepared, PreimageLearned, SettleConfirmed, SpendKind
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.replaying import live_and_replayed
from tests.regtest.world import World
from tests.support.parties import Pair, htlc, make_party, open_pair, preimage_of, settings_of
from tests.support.proofs import ladder_proof, rungs, secret_proof
from watchtower.channels.challenge import challenge
from watchtower.channels.register import register
from watchtower.devnode.regtest import RegtestNode
from watchtower.wire.disputes import ChallengeRequest, ProofHex


@pytest.fixture
def segwit(node: RegtestNode, tmp_path: Path) -> Iterator[World]:
    """A world whose channels have profile 1."""
    story = World(node, tmp_path / "tower", profile=SEGWIT)
    yield story
    story.close()


def bids(world: World, pair: Pair) -> list[int]:
    """Fees of all prepared penalties, in order."""
    return [e.fee for e in world.events(pair, PenaltyPrepared) if isinstance(e, PenaltyPrepared)]


def punished_in(world: World, pair: Pair, sequence: int) -> int | None:
    """Height of our penalty of a state of A, if the channel counts as punished."""
    found = world.penalty_of(pair, sequence)
    assert found is not None
    assert "PUNISHED" == world.status(pair)
    return world.height_of(found.txid)


def test_the_story_is_about_segwit_v0(segwit: World) -> None:
    """The funding output is P2WSH, every commitment too, and the tower's channel has profile 1."""
    pair = segwit.open(updates=2)
    funding = Transaction.parse(pair.funding.raw).outputs[pair.funding.vout]
    commitment = Transaction.parse(pair.commitment(Side.A, 1))

    assert SEGWIT == segwit.channel(pair).params.profile
    assert {b"\x00\x20"} == {output.spk[:2] for output in (funding, commitment.outputs[0])}
    assert 4 == len(commitment.inputs[0].witness)


@pytest.mark.parametrize(("closer", "kind"), [(Side.A, SpendKind.PEER_CLOSE), (Side.B, SpendKind.OWN_CLOSE)])
def test_unilateral_close_is_settled_at_exactly_the_end_of_the_period(
    segwit: World, closer: Side, kind: SpendKind
) -> None:
    """Both sides' closes of the newest state are honest, and the tower settles in block h_c + T."""
    pair = segwit.open(updates=3, challenge_period=6)
    segwit.node.generate_block([pair.parties[closer].sign_commitment(pair.channel_id, 3)])
    closed_at = segwit.node.height()
    segwit.look()
    spend = segwit.channel(pair).present_spend
    waiting = []
    for _ in range(6):
        waiting.append(len(segwit.node.mempool()))
        segwit.node.mine(1)
        segwit.look()

    settled = segwit.node.spender(segwit.contest(pair, 3, closer))
    assert spend is not None
    assert settled is not None
    assert kind is spend.kind
    assert [0] * 5 + [1] == waiting
    assert closed_at + 6 == segwit.height_of(settled)
    assert "SETTLED" == segwit.status(pair)
    assert [] == segwit.events(pair, PenaltyPrepared)


def test_cooperative_close_is_recognized(segwit: World) -> None:
    """A close signed by both pays out at once; the tower does not mistake it for a breach."""
    pair = segwit.open(updates=3)
    raw = pair.close(Side.A)
    segwit.node.send_raw(raw)
    segwit.look()
    before = segwit.status(pair)
    segwit.node.mine(1)
    segwit.look()

    assert ("COOP_CLOSING", "SETTLED") == (before, segwit.status(pair))
    assert segwit.node.height() == segwit.height_of(Transaction.parse(raw).txid)
    assert [] == segwit.events(pair, PenaltyPrepared)


def with_htlc(world: World, condition: Condition) -> Pair:
    """A channel whose newest state, 1, holds this HTLC, closed by A and settled by the tower."""
    pair = world.open(challenge_period=2)
    world.upload(pair, pair.with_htlcs(condition))
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    world.node.mine(1)
    world.look()
    world.node.mine(1)
    world.look()
    assert "SETTLED" == world.status(pair)
    return pair


def test_htlc_is_claimed_with_its_preimage_which_the_tower_learns(segwit: World) -> None:
    """The success witness has the preimage in another place than with taproot; the tower finds it there."""
    condition = htlc(Side.B, 1, 30_000, 5_000)
    pair = with_htlc(segwit, condition)
    claim = pair.a.claim_success(pair.channel_id, 1, Side.A, condition.key, preimage_of(1), 2_000)
    segwit.node.send_raw(claim)
    segwit.look(passes=2)
    learned = segwit.events(pair, PreimageLearned)
    segwit.node.mine(1)

    assert [preimage_of(1)] == [event.preimage for event in learned if isinstance(event, PreimageLearned)]
    assert segwit.node.height() == segwit.height_of(Transaction.parse(claim).txid)


def test_htlc_is_refunded_after_its_expiry(segwit: World) -> None:
    """Nobody shows the preimage: the offerer takes the amount back, not a block too early."""
    expiry = segwit.node.height() + 12
    condition = htlc(Side.B, 1, 30_000, expiry)
    pair = with_htlc(segwit, condition)
    refund = pair.b.claim_timeout(pair.channel_id, 1, Side.A, condition.key, 2_000)
    segwit.node.mine(expiry - 1 - segwit.node.height())
    early = segwit.node.test_accept(refund)
    segwit.node.mine(1)
    segwit.node.send_raw(refund)
    segwit.node.mine(1)
    segwit.look()

    assert "non-final" == early
    assert expiry + 1 == segwit.height_of(Transaction.parse(refund).txid)
    assert [] == segwit.events(pair, PreimageLearned)


def test_breach_in_the_mempool_is_punished_in_the_same_block(segwit: World) -> None:
    """The penalty joins the stale commitment, evicts the cheater's child, and both are mined together."""
    pair = segwit.open(updates=4)
    stale = pair.commitment(Side.A, 2)
    child = segwit.node.anchor_child(pair.commitment_txid(Side.A, 2), fee=2_000)
    segwit.node.submit_package([stale, child])
    segwit.look()
    segwit.node.mine(1)
    segwit.look()

    assert [2_000 + 142 + 1] == bids(segwit, pair)
    assert segwit.node.height() == punished_in(segwit, pair, 2) == segwit.height_of(Transaction.parse(stale).txid)
    (confirmed,) = segwit.events(pair, PenaltyConfirmed)
    assert isinstance(confirmed, PenaltyConfirmed)
    assert pair.params.contest_value == confirmed.swept + confirmed.fee
    assert 2_143 == confirmed.fee


def test_breach_that_was_mined_unseen_is_punished_in_the_next_block(segwit: World) -> None:
    """A stale commitment with many HTLCs appears in a block only; the penalty takes everything, state 0 included."""
    pair = segwit.open()
    segwit.upload(pair, pair.with_htlcs(*(htlc(Side.A, number, 1_000, 5_000) for number in range(50))))
    segwit.upload(pair, pair.update((500_000, 500_000)))
    segwit.node.generate_block([pair.commitment(Side.A, 1)])
    segwit.look()
    segwit.node.mine(1)
    segwit.look()

    assert segwit.node.height() == punished_in(segwit, pair, 1)
    penalty = segwit.penalty_of(pair, 1)
    assert penalty is not None
    assert (1, 1, 2) == (len(penalty.inputs), len(penalty.outputs), len(penalty.inputs[0].witness))
    assert penalty.vsize <= 142


def test_own_tower_of_a_punishes_b(segwit: World) -> None:
    """The other side cheats: A's tower takes B's stale state."""
    pair = segwit.open(updates=2, owner=Side.A)
    segwit.node.generate_block([pair.commitment(Side.B, 0)])
    segwit.look()
    segwit.node.mine(1)
    segwit.look()

    assert segwit.penalty_of(pair, 0, Side.B) is not None
    assert "PUNISHED" == segwit.status(pair)


def test_penalty_is_raised_until_it_is_mined(segwit: World) -> None:
    """Blocks that leave the penalty out bring higher bids, each of which replaces the one before in the mempool."""
    pair = segwit.open(updates=2, challenge_period=12)
    segwit.node.generate_block([pair.commitment(Side.A, 0)])
    closed_at = segwit.node.height()
    for _ in range(8):
        segwit.look()
        segwit.node.generate_block()
    segwit.look()
    standing = segwit.mempool_spender(segwit.contest(pair, 0))
    segwit.node.mine(1)
    segwit.look()

    fees = bids(segwit, pair)
    assert standing is not None
    assert len(fees) > 3
    assert sorted(set(fees)) == fees
    assert pair.params.contest_value - fees[-1] == standing.outputs[0].value
    assert closed_at + 9 == punished_in(segwit, pair, 0)


def test_penalty_replaces_a_settlement_in_the_mempool(segwit: World) -> None:
    """The tower was away until the settlement was possible: its penalty wins the race by fee."""
    pair = segwit.open(updates=3, challenge_period=6)
    segwit.stop()
    segwit.node.generate_block([pair.commitment(Side.A, 1)])
    segwit.node.mine(5)
    segwit.node.send_raw(pair.settlement(Side.A, 1))
    segwit.wake()
    segwit.node.mine(1)
    segwit.look()

    assert segwit.node.height() == punished_in(segwit, pair, 1)
    assert [] == segwit.events(pair, SettleConfirmed)


def test_stale_settlement_that_was_mined_is_lost(segwit: World) -> None:
    """A settlement of a revoked state is told from a penalty by its witness, and recorded as the loss that it is."""
    pair = segwit.open(updates=3, challenge_period=3)
    segwit.stop()
    segwit.node.generate_block([pair.commitment(Side.A, 1)])
    segwit.node.mine(2)
    segwit.node.generate_block([pair.settlement(Side.A, 1)])
    segwit.wake()
    segwit.look()

    assert "LOST" == segwit.status(pair)
    (lost,) = segwit.events(pair, SettleConfirmed)
    assert isinstance(lost, SettleConfirmed)
    assert (1, True) == (lost.sequence, lost.revoked)


def test_reorg_brings_another_stale_state_and_its_penalty(segwit: World) -> None:
    """State 1 was punished; after a reorg state 2 stands in the chain, and is punished as well."""
    pair = segwit.open(updates=4)
    segwit.node.generate_block([pair.commitment(Side.A, 1)])
    segwit.look()
    segwit.node.mine(1)
    segwit.look()
    first = segwit.status(pair)
    segwit.node.reorg(2, [[pair.commitment(Side.A, 2)], [], []])
    segwit.look()
    segwit.node.mine(1)
    segwit.look()

    assert "PUNISHED" == first
    assert segwit.node.height() == punished_in(segwit, pair, 2)


def test_tower_restarts_and_replays_a_segwit_channel(segwit: World) -> None:
    """The views that were kept up to date are those that a replay of the log gives."""
    pair = segwit.open(updates=2)
    segwit.node.generate_block([pair.commitment(Side.A, 0)])
    segwit.restart()
    segwit.node.mine(1)
    segwit.look()
    live, replayed = live_and_replayed(segwit)

    assert "PUNISHED" == segwit.status(pair)
    assert live == replayed


def accuse(world: World, pair: Pair, sequence: int, proof: bytes) -> None:
    """The owner shows the tower a proof against A's published state, which then acts on it."""
    request = ChallengeRequest(sequence=sequence, proof=ProofHex(proof))
    challenge(world.context, world.stream(pair), request)
    world.look()


def test_ladder_of_signed_penalties_is_climbed(segwit: World) -> None:
    """The tower has no secret of state 2 but its point: it sends rungs that the owner signed, with DER and script."""
    pair = segwit.open(updates=1, challenge_period=24)
    pair.updates(2)
    segwit.node.generate_block([pair.commitment(Side.A, 2)])
    segwit.look()
    sweep = bytes(pair.registration(Side.B).sweep_spk)
    accuse(segwit, pair, 2, ladder_proof(pair, 2, rungs(pair, 2, sweep, top=0x81)))
    for _ in range(20):
        segwit.node.generate_block()
        segwit.look()
    segwit.node.mine(1)
    segwit.look()

    prepared = [bid for bid in segwit.events(pair, PenaltyPrepared) if isinstance(bid, PenaltyPrepared)]
    assert {BidMethod.LADDER} == {bid.method for bid in prepared}
    assert len(prepared) > 1
    assert segwit.node.height() == punished_in(segwit, pair, 2)


def test_ladder_beyond_the_known_points_is_refused_and_its_secret_is_not(segwit: World) -> None:
    """The script of state 4 cannot be rebuilt by a tower that knows points up to 2; the secret of 4 needs none."""
    pair = segwit.open(updates=1)
    pair.updates(4)
    segwit.node.generate_block([pair.commitment(Side.A, 4)])
    segwit.look()
    sweep = bytes(pair.registration(Side.B).sweep_spk)
    with pytest.raises(MalformedInput, match="show the secret"):
        accuse(segwit, pair, 4, ladder_proof(pair, 4, rungs(pair, 4, sweep)))
    accuse(segwit, pair, 4, secret_proof(pair, 4))
    segwit.node.mine(1)
    segwit.look()

    assert segwit.node.height() == punished_in(segwit, pair, 4)


def test_both_profiles_are_watched_side_by_side(world: World) -> None:
    """One tower, one block, two breaches, one channel of each profile: two penalties."""
    taproot = world.open(updates=2)
    names = ("carol", "dave")
    ends = tuple(make_party(name, settings=settings_of(SEGWIT)) for name in names)
    segwit = open_pair(world.fund, names=names, parties=(ends[0], ends[1]), profile=SEGWIT)
    register(world.context, segwit.registration(Side.B))
    world.node.send_raw(segwit.funding.raw)
    world.node.mine(1)
    world.look()
    world.update(segwit, 2)
    world.node.generate_block([pair.commitment(Side.A, 1) for pair in (taproot, segwit)])
    world.look()
    world.node.mine(1)
    world.look()

    heights = [punished_in(world, pair, 1) for pair in (taproot, segwit)]
    assert [world.node.height()] * 2 == heights
    assert [TAPROOT, SEGWIT] == [world.channel(pair).params.profile for pair in (taproot, segwit)]


def test_setting_changes_for_new_channels_only(segwit: World) -> None:
    """A tower set to taproot later refuses new channels of profile 1, and goes on to punish breaches of the old one."""
    pair = segwit.open(updates=2)
    other = open_pair(segwit.fund, names=("erin", "frank"), profile=SEGWIT)
    taproot_only = ParamsPolicy(pair.params.chain_hash, profile=TAPROOT)
    policy = msgspec.structs.replace(segwit.context.policy, params=taproot_only)
    segwit.context = msgspec.structs.replace(segwit.context, policy=policy)
    with pytest.raises(InvalidParams, match="taproot_enabled"):
        register(segwit.context, other.registration(Side.B))
    repeated = register(segwit.context, pair.registration(Side.B))
    segwit.update(pair, 1)
    segwit.node.generate_block([pair.commitment(Side.A, 2)])
    segwit.look()
    segwit.node.mine(1)
    segwit.look()

    assert not repeated.created
    assert segwit.node.height() == punished_in(segwit, pair, 2)
