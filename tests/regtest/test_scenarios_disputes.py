"""Proofs, challenges and closes on a real node, through the client: catalogue B13, B15, D07-D12, D14, D15."""

from __future__ import annotations

from typing import Any

import pytest

from domain.chain import display
from domain.events import (
    AlertKind,
    BidMethod,
    BreachDetected,
    ChallengeAnswered,
    ChallengeReceived,
    PenaltyBroadcast,
    PenaltyPrepared,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.disputes import ask, challenge, stopped_short, sweep_of
from tests.regtest.world import World
from tests.support.parties import Pair
from tests.support.proofs import FEES, evidence, ladder_proof, rungs, secret_proof
from watchtower.channels.register import register
from watchtower.client.errors import (
    ChallengeRejected,
    ChannelIsClosed,
    MalformedRequest,
)
from watchtower.client.party.proofs import counter_proof, newer_state_proof, revocation_proof


def test_scenario_D08_proof_kind0_valid(world: World) -> None:
    """The secret of a state that the tower never heard of: VALID_ENFORCEABLE, and the penalty confirms."""
    pair = stopped_short(world)
    world.node.send_raw(pair.commitment(Side.A, 3))
    world.look()
    assert [] == world.events(pair, BreachDetected)
    proof = revocation_proof(pair.b, pair.channel_id, 3, pair.commitment_txid(Side.A, 3))

    verdict = ask(world, pair, lambda client: client.verify_proof(proof))
    first = challenge(world, pair, 3, bytes.fromhex(proof))
    world.look()
    again = challenge(world, pair, 3, bytes.fromhex(proof))
    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, 3)
    assert penalty is not None
    assert ("VALID_ENFORCEABLE", "VALID_ENFORCEABLE", None) == (verdict.verdict, first.verdict, first.penalty_txid)
    assert (True, display(penalty.txid)) == (again.duplicate, again.penalty_txid)
    assert [None, world.node.height()] == [
        breach.block and breach.block.height for breach in world.events(pair, BreachDetected)
    ]
    assert 1 == len(world.events(pair, ChallengeReceived))
    assert world.node.height() == world.height_of(penalty.txid)
    assert world.status(pair) == "PUNISHED"


def test_scenario_D08_the_proof_comes_after_the_block(world: World) -> None:
    """A commitment of the next two numbers passes for an honest close until the secret is shown, also in a block."""
    pair = stopped_short(world, newest=3)
    world.node.generate_block([pair.commitment(Side.A, 2)])
    world.look()
    closed_at = world.node.height()

    result = challenge(world, pair, 2, secret_proof(pair, 2))
    world.look()
    world.node.mine(1)
    world.look()

    assert closed_at + pair.params.challenge_period - 1 == result.deadline
    assert world.status(pair) == "PUNISHED"


def test_scenario_D08_the_log_has_not_seen_the_transaction_yet(world: World) -> None:
    """A proof may be faster than the tower's own look at the mempool: the node is asked."""
    pair = stopped_short(world)
    world.node.send_raw(pair.commitment(Side.A, 3))

    result = challenge(world, pair, 3, secret_proof(pair, 3))
    world.look()
    world.node.mine(1)
    world.look()

    assert "VALID_ENFORCEABLE" == result.verdict
    assert world.status(pair) == "PUNISHED"


def test_scenario_D08_survives_restart_and_reorg(world: World) -> None:
    """The proof is in the log: after a restart and a reorg the commitment is still a breach."""
    pair = stopped_short(world)
    world.node.generate_block([pair.commitment(Side.A, 3)])
    world.look()
    challenge(world, pair, 3, secret_proof(pair, 3))
    world.restart()

    world.node.reorg(1, [[], [pair.commitment(Side.A, 3)]])
    world.look()
    world.node.mine(1)
    world.look()

    assert world.status(pair) == "PUNISHED"


def test_scenario_D07_kit_pays_wrong_address(world: World) -> None:
    """A ladder signed for another script fails on the rebuilt penalty: refused, nothing stored, nothing sent."""
    pair = stopped_short(world)
    world.node.send_raw(pair.commitment(Side.A, 3))
    world.look()
    stored = world.channel(pair).version
    foreign = rungs(pair, 3, pair.params.keys_a.payout)

    with pytest.raises(ChallengeRejected, match="BAD_SIG"):
        challenge(world, pair, 3, ladder_proof(pair, 3, foreign))

    world.look()
    assert stored == world.channel(pair).version
    assert world.mempool_spender(world.contest(pair, 3)) is None


def test_scenario_D07_a_right_ladder_is_climbed(world: World) -> None:
    """Without the secret the tower sends the cheapest sufficient rung, and a higher one when a rival outbids it."""
    pair = stopped_short(world, challenge_period=24)
    world.node.generate_block([pair.commitment(Side.A, 3)])
    world.look()

    challenge(world, pair, 3, ladder_proof(pair, 3, rungs(pair, 3, sweep_of(pair), top=0x81)))
    for _ in range(20):
        world.node.generate_block()
        world.look()
    world.node.mine(1)
    world.look()

    prepared = world.events(pair, PenaltyPrepared)
    places = [bid.rung for bid in prepared]
    assert sorted(places) == places
    assert len(places) > 1
    assert {BidMethod.LADDER} == {bid.method for bid in prepared}
    assert [FEES[place] for place in places] == [bid.fee for bid in prepared]
    assert len(prepared) == len(world.events(pair, PenaltyBroadcast))
    assert world.status(pair) == "PUNISHED"


def test_scenario_D09_proof_for_other_channel(world: World) -> None:
    """A proof of another channel is INVALID(WRONG_CHANNEL) here and refused."""
    pair, other = stopped_short(world), stopped_short(world)
    world.node.send_raw(pair.commitment(Side.A, 3))
    world.look()
    foreign = secret_proof(other, 3, txid=pair.commitment_txid(Side.A, 3))

    offline = ask(
        world, pair, lambda client: client.verify_proof(foreign.hex(), params=pair.params.encode()), with_party=False
    )
    with pytest.raises(ChallengeRejected, match="WRONG_CHANNEL"):
        challenge(world, pair, 3, foreign)

    assert ("INVALID", "WRONG_CHANNEL") == (offline.verdict, offline.reason)
    assert [] == world.events(pair, ChallengeReceived)


@pytest.mark.parametrize("shown", [2, 4])
def test_scenario_D10_proof_secret_for_neighbour(world: World, shown: int) -> None:
    """The secret of the state before or after gives another transaction: INVALID(TXID_MISMATCH)."""
    pair = stopped_short(world, newest=5)
    world.node.send_raw(pair.commitment(Side.A, 3))
    world.look()
    wrong = secret_proof(pair, 3, shown=shown)

    verdict = ask(world, pair, lambda client: client.verify_proof(wrong.hex()))
    with pytest.raises(ChallengeRejected, match="TXID_MISMATCH"):
        challenge(world, pair, 3, wrong)

    assert ("INVALID", "TXID_MISMATCH") == (verdict.verdict, verdict.reason)


def test_scenario_D11_header_only_proof(world: World) -> None:
    """A newer state alone is evidence: stored, reported, and nothing is sent."""
    pair = stopped_short(world)
    world.node.send_raw(pair.commitment(Side.A, 2))
    world.look()
    proof = newer_state_proof(pair.b, pair.channel_id, 2, pair.commitment_txid(Side.A, 2))

    verdict = ask(world, pair, lambda client: client.verify_proof(proof))
    result = challenge(world, pair, 2, bytes.fromhex(proof))
    world.look()

    assert ("VALID_EVIDENCE_ONLY", 4) == (verdict.verdict, verdict.evidence_sequence)
    assert ("VALID_EVIDENCE_ONLY", None) == (result.verdict, result.penalty_txid)
    assert 1 == len(world.events(pair, ChallengeReceived))
    assert world.mempool_spender(world.contest(pair, 2)) is None


def test_a_challenge_for_what_is_not_there(world: World) -> None:
    """A perfect proof of a transaction that nobody published, or of another state, is refused and stored nowhere."""
    pair = stopped_short(world)
    stored = world.channel(pair).version

    with pytest.raises(ChallengeRejected, match="neither in the mempool nor in a block"):
        challenge(world, pair, 3, secret_proof(pair, 3))
    world.node.send_raw(pair.commitment(Side.A, 2))
    with pytest.raises(ChallengeRejected, match="neither in the mempool nor in a block"):
        challenge(world, pair, 3, secret_proof(pair, 3))
    with pytest.raises(ChallengeRejected, match="accuses state 2, the challenge names 3"):
        challenge(world, pair, 3, secret_proof(pair, 2))

    assert stored == world.channel(pair).version


def challenged_with_evidence(world: World) -> Pair:
    """A published state 2 of a channel with five states; the challenger showed state 3."""
    pair = stopped_short(world, newest=5)
    world.node.send_raw(pair.commitment(Side.A, 2))
    world.look()
    txid = pair.commitment_txid(Side.A, 2)
    proof = bytes.fromhex(newer_state_proof(pair.b, pair.channel_id, 2, txid))[:78] + evidence(pair, 3)
    challenge(world, pair, 2, proof)
    return pair


def respond(world: World, pair: Pair, counter: str) -> Any:
    """`respond_to_challenge` of B's client."""
    return ask(world, pair, lambda client: client.respond_to_challenge(pair.channel_id.hex(), counter))


def test_scenario_D12_counterproof_superseded(world: World) -> None:
    """A newer state than the challenger's supersedes his evidence, without effect on chain."""
    pair = challenged_with_evidence(world)
    counter = counter_proof(pair.a, pair.channel_id, 2, pair.commitment_txid(Side.A, 2), newest=5)

    result = respond(world, pair, counter)
    again = respond(world, pair, counter)

    assert ("SUPERSEDED", False, True) == (result.outcome, result.duplicate, again.duplicate)
    assert "no effect on chain" in result.message
    assert 1 == len(world.events(pair, ChallengeAnswered))


def test_scenario_D12_counterproof_refuted(world: World) -> None:
    """The published state, signed by both, answers evidence without a secret; a wrong one answers nothing."""
    pair = challenged_with_evidence(world)
    txid = pair.commitment_txid(Side.A, 2)

    refuted = respond(world, pair, counter_proof(pair.a, pair.channel_id, 2, txid))
    invalid = respond(world, pair, counter_proof(pair.a, pair.channel_id, 1, txid))

    assert ("REFUTED", "COUNTER_INVALID") == (refuted.outcome, invalid.outcome)
    assert "settled after the challenge period" in refuted.message


def test_scenario_D12_counterproof_conceded(world: World) -> None:
    """Against a shown secret nothing helps: the penalty goes its way; other bytes are no counter-proof."""
    pair = stopped_short(world)
    world.node.send_raw(pair.commitment(Side.A, 2))
    world.look()
    txid = pair.commitment_txid(Side.A, 2)
    challenge(world, pair, 2, secret_proof(pair, 2))

    result = respond(world, pair, counter_proof(pair.a, pair.channel_id, 2, txid))
    with pytest.raises(MalformedRequest, match="525 bytes"):
        respond(world, pair, "00")
    world.look()
    world.node.mine(1)
    world.look()

    assert "CONCEDED" == result.outcome
    assert world.status(pair) == "PUNISHED"


def test_scenario_D14_upload_before_funding_known(world: World) -> None:
    """Registered before anybody saw the funding transaction: PROPOSED, armed as soon as it is in a block."""
    pair = world.open(confirm=False)
    fresh = world.channel(pair)
    info = ask(world, pair, lambda client: client.get_channel_info(pair.channel_id.hex()))
    again = register(world.context, pair.registration(Side.B))
    world.node.mine(1)
    world.look()
    world.update(pair, 2)

    world.node.generate_block([pair.commitment(Side.A, 0)])
    world.look()
    world.node.mine(1)
    world.look()

    assert ("PROPOSED", None, False) == (info.status, fresh.funding_block, again.created)
    assert world.status(pair) == "PUNISHED"


def test_scenario_D15_upload_after_close(world: World) -> None:
    """A state that is newer than the published one is refused once the channel closes, with the reason."""
    pair = world.open(updates=2)
    world.node.send_raw(pair.commitment(Side.A, 2))
    world.look()
    stored = world.channel(pair).version
    pair.update()

    with pytest.raises(ChannelIsClosed, match="no more updates"):
        ask(
            world,
            pair,
            lambda client: client.upload_state(pair.channel_id.hex(), pair.update_request(Side.B, 3)),
        )

    assert stored == world.channel(pair).version


def test_scenario_B13_future_state_is_explained_by_late_uploads(world: World) -> None:
    """A future state alerts and is never punished; once its states arrive it is the peer's close, and is settled."""
    pair = stopped_short(world, newest=5, challenge_period=4)
    world.node.generate_block([pair.commitment(Side.A, 5)])
    world.look()
    assert frozenset({AlertKind.FUTURE_STATE}) == world.channel(pair).alerts

    ask(world, pair, lambda client: client.synchronize(pair.channel_id))
    for _ in range(5):
        world.look()
        world.node.mine(1)
    world.look()

    settled = world.node.spender(world.contest(pair, 5))
    assert Transaction.parse(pair.settlement(Side.A, 5)).txid == settled
    assert ([], frozenset()) == (world.events(pair, PenaltyPrepared), world.channel(pair).alerts)
    assert world.status(pair) == "SETTLED"
