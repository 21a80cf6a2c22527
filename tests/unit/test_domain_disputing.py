"""Challenges and counter-proofs: what is stored, what is refused, and what a proof makes of a spend."""

from __future__ import annotations

import pytest

from domain.channel import Channel
from domain.contract.commitment import contest_key
from domain.contract.penalty import build_penalty, sign_penalty, verify_penalty
from domain.contract.proofs import (
    CounterOutcome,
    encode_counter_proof,
    encode_evidence,
    encode_evidence_proof,
    encode_secret_proof,
)
from domain.contract.revocation import revocation_secret
from domain.contract.state import sign_header
from domain.disputing import MAX_CHALLENGES, ShowProof, decide_answer, decide_challenge
from domain.ending_fold import KEPT_CHALLENGES
from domain.errors import ChallengeRefused, MalformedInput
from domain.events import AlertKind, BreachDetected, ChallengeReceived, ChallengeVerdict, SettleConfirmed, SpendKind
from domain.ladder import Rung, encode_ladder_proof, read_rungs, rung_for, rung_penalty
from domain.spending import disconnected
from domain.transaction import Transaction
from domain.units import Side
from tests.support.scenes import AUX, NOW, Scene, block, secrets_of

PEER = Side.B
STALE = 3


@pytest.fixture
def scene() -> Scene:
    """A's tower knows states 0 and 1; B published state 3, which is beyond its data."""
    story = Scene().opened(updates=1)
    story.seen(story.commitment(PEER, STALE))
    return story


def secret_proof(scene: Scene, sequence: int = STALE, *, accused: Side = PEER, shown: int | None = None) -> bytes:
    """Kind 0 against a side's commitment."""
    txid = scene.commitment(accused, sequence).txid
    secret = scene.secret(accused, sequence if shown is None else shown)
    return encode_secret_proof(scene.params.channel_id, sequence, accused, txid, secret)


def evidence(scene: Scene, sequence: int) -> bytes:
    """A state that both signed."""
    state = scene.state(sequence)
    return encode_evidence(state.header, state.sigs_a.state, state.sigs_b.state)


def evidence_proof(scene: Scene, sequence: int = STALE, shown: int = 4) -> bytes:
    """Kind 3 against B's commitment."""
    txid = scene.commitment(PEER, sequence).txid
    return encode_evidence_proof(scene.params.channel_id, sequence, PEER, txid, evidence(scene, shown))


def show(proof: bytes, published: Transaction | None, sequence: int = STALE) -> ShowProof:
    """The command."""
    return ShowProof(NOW, sequence, proof, published, 200)


def test_a_shown_secret_makes_the_spend_a_breach(scene: Scene) -> None:
    """Proof and breach are one decision; the secret can be found afterwards, and the alert ends."""
    published = scene.commitment(PEER, STALE)
    events = scene.then(decide_challenge(scene.channel, show(secret_proof(scene), published)))
    channel = scene.channel

    assert [ChallengeReceived, BreachDetected] == [type(e) for e in events if not _is_alert(e)]
    assert (SpendKind.BREACH, PEER, STALE) == _spend(channel)
    assert scene.secret(PEER, STALE) == channel.revealed_secret(STALE)
    assert AlertKind.FUTURE_STATE not in channel.alerts


def _is_alert(event: object) -> bool:
    return type(event).__name__.startswith("Alert")


def _spend(channel: Channel) -> tuple[SpendKind, Side | None, int | None]:
    spend = channel.spends[-1]
    return spend.kind, spend.side, spend.sequence


def test_the_same_proof_again_is_nothing_new(scene: Scene) -> None:
    """An identical repetition stores nothing."""
    command = show(secret_proof(scene), scene.commitment(PEER, STALE))
    scene.then(decide_challenge(scene.channel, command))

    assert [] == decide_challenge(scene.channel, command)


def evidence_again(scene: Scene, number: int) -> bytes:
    """Evidence of state 4 that A signed once more: another proof of the same fact."""
    state = scene.state(4)
    sig_a = sign_header(state.header, secrets_of(Side.A).auth, number.to_bytes(32, "big"))
    shown = encode_evidence(state.header, sig_a, state.sigs_b.state)
    return encode_evidence_proof(scene.params.channel_id, STALE, PEER, scene.commitment(PEER, STALE).txid, shown)


def test_evidence_does_not_push_out_what_can_be_enforced(scene: Scene) -> None:
    """After any number of further proofs the secret is still there for the penalty."""
    published = scene.commitment(PEER, STALE)
    scene.then(decide_challenge(scene.channel, show(secret_proof(scene), published)))
    for number in range(KEPT_CHALLENGES + 1):
        scene.then(decide_challenge(scene.channel, show(evidence_again(scene, number), published)))

    assert scene.secret(PEER, STALE) == scene.channel.revealed_secret(STALE)
    assert KEPT_CHALLENGES == len(scene.channel.challenges)
    assert evidence_again(scene, KEPT_CHALLENGES) == scene.channel.challenges[-1].proof


def test_proofs_in_turns_store_nothing(scene: Scene) -> None:
    """Two proofs that are shown again and again are two events."""
    published, pair = scene.commitment(PEER, STALE), [evidence_again(scene, number) for number in range(2)]
    events = [scene.then(decide_challenge(scene.channel, show(proof, published))) for proof in pair * 3]

    assert [1, 1, 0, 0, 0, 0] == [len(each) for each in events]


def test_a_dispute_cannot_fill_the_log(scene: Scene) -> None:
    """Evidence and counter-proofs end at a limit; the proof that can be enforced is taken also behind it."""
    published = scene.commitment(PEER, STALE)
    for number in range(MAX_CHALLENGES):
        scene.then(decide_challenge(scene.channel, show(evidence_again(scene, number), published)))
    with pytest.raises(ChallengeRefused, match="64 proofs are stored"):
        decide_challenge(scene.channel, show(evidence_again(scene, MAX_CHALLENGES), published))
    txid, stated = published.txid, scene.state(5).header
    counters = [
        encode_counter_proof(
            scene.params.channel_id, txid, STALE, encode_evidence(stated, number.to_bytes(64, "big"), bytes(64))
        )
        for number in range(MAX_CHALLENGES + 1)
    ]
    for counter_proof in counters[:-1]:
        scene.then(decide_answer(scene.channel, counter_proof, 200, NOW)[0])
    with pytest.raises(ChallengeRefused, match="64 counter-proofs are stored"):
        decide_answer(scene.channel, counters[-1], 200, NOW)

    scene.then(decide_challenge(scene.channel, show(secret_proof(scene), published)))
    assert (SpendKind.BREACH, PEER, STALE) == _spend(scene.channel)


def test_the_classifier_remembers_the_proof(scene: Scene) -> None:
    """Seen again in a block, and in another block after a reorg, the commitment is a breach at once."""
    published = scene.commitment(PEER, STALE)
    scene.then(decide_challenge(scene.channel, show(secret_proof(scene), published)))
    scene.mined(published, block(201))
    scene.then(disconnected(scene.channel, block(201), NOW))
    scene.mined(published, block(201, branch=1))

    assert (SpendKind.BREACH, PEER, STALE) == _spend(scene.channel)


def test_a_proof_before_the_spend_is_in_the_log() -> None:
    """The node knew the transaction first: the proof is stored alone and decides when the spend is seen."""
    scene = Scene().opened(updates=1)
    published = scene.commitment(PEER, STALE)
    events = scene.then(decide_challenge(scene.channel, show(secret_proof(scene), published)))
    scene.seen(published)

    assert [ChallengeReceived] == [type(event) for event in events]
    assert (SpendKind.BREACH, PEER, STALE) == _spend(scene.channel)


def test_a_proof_after_the_settlement_says_that_the_channel_is_lost() -> None:
    """A stale state that was settled already: the settlement is told anew as revoked."""
    scene = Scene().opened(updates=1)
    published = scene.commitment(PEER, 2)
    scene.mined(published, block(200))
    scene.ended(published, scene.settlement(PEER, 2), block(400))

    events = decide_challenge(scene.channel, show(secret_proof(scene, 2), published, 2))

    assert [True] == [event.revoked for event in events if isinstance(event, SettleConfirmed)]


def test_evidence_is_stored_and_changes_nothing(scene: Scene) -> None:
    """A newer state alone: one event, and the spend stays what it was."""
    events = scene.then(decide_challenge(scene.channel, show(evidence_proof(scene), scene.commitment(PEER, STALE))))

    (received,) = events
    assert isinstance(received, ChallengeReceived)
    assert ChallengeVerdict.VALID_EVIDENCE_ONLY is received.verdict
    assert SpendKind.FUTURE_STATE is scene.channel.spends[-1].kind


def test_proofs_that_do_not_fit_are_refused(scene: Scene) -> None:
    """Each refusal names its reason."""
    published = scene.commitment(PEER, STALE)
    good = secret_proof(scene)
    refused = {
        "BAD_LENGTH": (good + b"\x00", published, STALE),
        "BAD_MAGIC": (b"X" + good[1:], published, STALE),
        "UNSUPPORTED_KIND": (good[:4] + b"\x02" + good[5:], published, STALE),
        "TXID_MISMATCH": (secret_proof(scene, shown=2), published, STALE),
        "accuses state 3, the challenge names 2": (good, published, 2),
        "neither in the mempool nor in a block": (good, None, STALE),
    }
    for reason, (proof, tx, sequence) in refused.items():
        with pytest.raises(ChallengeRefused, match=reason):
            decide_challenge(scene.channel, show(proof, tx, sequence))
    with pytest.raises(MalformedInput, match="at least 78 bytes"):
        decide_challenge(scene.channel, show(b"PNS1", published))


def test_nobody_punishes_himself() -> None:
    """A proof against the tower's own owner is refused when it could be enforced, and kept when it is evidence."""
    scene = Scene().opened(updates=3)
    own = scene.commitment(Side.A, 3)
    scene.seen(own)
    evidence_against_us = encode_evidence_proof(scene.params.channel_id, 3, Side.A, own.txid, evidence(scene, 4))

    with pytest.raises(ChallengeRefused, match="accuses the owner of this tower"):
        decide_challenge(scene.channel, show(secret_proof(scene, 3, accused=Side.A), own, 3))
    assert 1 == len(decide_challenge(scene.channel, show(evidence_against_us, own, 3)))


def test_a_proof_must_fit_what_is_known_of_the_spend() -> None:
    """Evidence names state 2 of B, but the transaction is known to be state 3."""
    scene = Scene().opened(updates=3)
    published = scene.commitment(PEER, 3)
    scene.seen(published)
    wrong = encode_evidence_proof(scene.params.channel_id, 2, PEER, published.txid, evidence(scene, 4))

    with pytest.raises(ChallengeRefused, match="accuses B of state 2, but B published state 3"):
        decide_challenge(scene.channel, show(wrong, published, 2))


# ── counter-proofs ───────────────────────────────────────────────────────────────────────────────────────────────


def counter(scene: Scene, sequence: int, shown: int) -> bytes:
    """`CPR1` against a challenge of B's commitment of this state."""
    txid = scene.commitment(PEER, sequence).txid
    return encode_counter_proof(scene.params.channel_id, txid, sequence, evidence(scene, shown))


@pytest.mark.parametrize(
    ("expected", "sequence", "shown"),
    [
        (CounterOutcome.SUPERSEDED, STALE, 5),
        (CounterOutcome.REFUTED, STALE, STALE),
        (CounterOutcome.COUNTER_INVALID, STALE, 4),
        (CounterOutcome.COUNTER_INVALID, 2, 5),
    ],
)
def test_outcomes_against_evidence(scene: Scene, expected: CounterOutcome, sequence: int, shown: int) -> None:
    """Newer supersedes, the published state refutes, anything else leaves the challenge as it is; once stored."""
    scene.then(decide_challenge(scene.channel, show(evidence_proof(scene), scene.commitment(PEER, STALE))))
    events, outcome, challenge = decide_answer(scene.channel, counter(scene, sequence, shown), 200, NOW)
    scene.then(events)
    again, _, _ = decide_answer(scene.channel, counter(scene, sequence, shown), 200, NOW)

    assert (expected, STALE) == (outcome, challenge.sequence)
    assert (1, 0) == (len(events), len(again))


def test_a_shown_secret_is_conceded(scene: Scene) -> None:
    """Whatever the counter-proof shows."""
    scene.then(decide_challenge(scene.channel, show(secret_proof(scene), scene.commitment(PEER, STALE))))

    _, outcome, _ = decide_answer(scene.channel, counter(scene, STALE, 5), 200, NOW)

    assert CounterOutcome.CONCEDED is outcome


def test_malformed_counter_proofs_are_refused(scene: Scene) -> None:
    """Wrong length, magic, trailer and header are typed errors; without a challenge there is nothing to answer."""
    good = counter(scene, STALE, 5)
    with pytest.raises(ChallengeRefused, match="no challenge"):
        decide_answer(scene.channel, good, 200, NOW)
    for wrong in (good[:-1], b"X" + good[1:], good[:-1] + b"\x01", good[:76] + b"X" + good[77:]):
        with pytest.raises(MalformedInput):
            decide_answer(scene.channel, wrong, 200, NOW)


# ── ladders ──────────────────────────────────────────────────────────────────────────────────────────────────────


def make_rungs(scene: Scene, fees: tuple[int, ...]) -> list[Rung]:
    """Penalties of B's stale commitment, signed by A."""
    commit = scene.commitment(PEER, STALE)
    key = contest_key(scene.params, PEER, scene.points(STALE)[PEER])
    secret = revocation_secret(secrets_of(Side.A).rev, scene.secret(PEER, STALE))
    signed = [
        sign_penalty(scene.params, build_penalty(scene.params, commit.txid, fee, scene.sweep_spk), key, secret, AUX)
        for fee in fees
    ]
    return [Rung(fee, tx.inputs[0].witness[0]) for fee, tx in zip(fees, signed, strict=True)]


def test_a_ladder_survives_its_encoding_and_makes_valid_penalties(scene: Scene) -> None:
    """The proof is accepted; each rung is a complete penalty; the cheapest sufficient one is chosen."""
    rungs = make_rungs(scene, (333, 1_332, 5_328))
    commit = scene.commitment(PEER, STALE)
    proof = encode_ladder_proof(scene.params.channel_id, STALE, PEER, commit.txid, rungs)
    scene.then(decide_challenge(scene.channel, show(proof, commit)))
    challenge = scene.channel.challenge_of(commit.txid)
    made = [rung_penalty(scene.params, commit.txid, scene.sweep_spk, rung) for rung in read_rungs(proof)]

    assert challenge is not None
    assert (True, None) == (challenge.has_ladder, challenge.secret)
    assert tuple(rungs) == read_rungs(proof)
    assert all(verify_penalty(tx, scene.params, commit.outputs[0].spk) for tx in made)
    assert [0, 1, 1, 2, 2] == [rung_for(rungs, fee) for fee in (1, 334, 1_332, 1_333, 9_999)]


def test_a_ladder_has_one_to_sixteen_rungs(scene: Scene) -> None:
    """None and seventeen are refused."""
    (rung,) = make_rungs(scene, (333,))
    for count in (0, 17):
        with pytest.raises(MalformedInput, match="1 to 16 rungs"):
            encode_ladder_proof(bytes(32), 1, PEER, bytes(32), [rung] * count)
