"""Challenges and counter-proofs (protocol 6.2 to 6.4).

A proof that names the transaction that is really there and can be enforced makes its spend a breach; the penalty
follows as for any other. Everything else about a dispute is evidence for people: it is kept and changes nothing.
"""

from __future__ import annotations

import msgspec

from domain.chain import display
from domain.channel import Challenge, Channel, Spend
from domain.classifier import Verdict
from domain.contract.header import HEADER_SIZE, StateHeader
from domain.contract.proofs import (
    COUNTER_MAGIC,
    COUNTER_SIZE,
    CounterOutcome,
    ProofContext,
    ProofHead,
    evaluate_counter_proof,
    verify_proof,
)
from domain.contract.proofs import Verdict as ProofVerdict
from domain.errors import ChallengeRefused, MalformedInput
from domain.events import (
    AnswerOutcome,
    ChallengeAnswered,
    ChallengeReceived,
    ChallengeVerdict,
    Payload,
    SpendKind,
)
from domain.spending import reclassified
from domain.transaction import Transaction
from domain.units import MAX_SEQUENCE, Side

MAX_PROOF = 2048
"""Bytes of a proof; one with 16 rungs and evidence has 1,631."""

MAX_CHALLENGES = 64
"""Proofs, and counter-proofs, that are stored for a channel. Whoever signs states can make any number of them; a
dispute needs a handful. A first proof that can be enforced against a commitment is always taken."""

WHY_INVALID = {
    "BAD_LENGTH": "its length does not fit its kind",
    "BAD_MAGIC": "it does not start with PNS1",
    "UNSUPPORTED_KIND": "its kind is none of 0, 1 and 3",
    "WRONG_CHANNEL": "it is about another channel",
    "SEQ_RANGE": "its state number is out of range",
    "BAD_PARTY": "the accused party is neither A nor B",
    "SECRET_RANGE": "its secret is not a valid key",
    "TXID_MISMATCH": "its secret, number and party do not give the transaction that it names",
    "LADDER_FEE": "the fees of its rungs do not rise, or the highest leaves less than dust",
    "BAD_SIGHASH": "a rung has a hash type that is not allowed",
    "BAD_SIG": "a rung's signature does not verify on the penalty to the registered sweep script",
    "EVIDENCE_HEADER": "the state that it shows as evidence is not one of this channel",
    "EVIDENCE_NOT_NEWER": "the state that it shows as evidence is not newer than the accused one",
    "EVIDENCE_SIG": "the state that it shows as evidence is not signed by both parties",
}
"""The reasons of protocol 6.3 in words."""

MEANING = {
    CounterOutcome.CONCEDED: (
        "the challenge can be enforced: the penalty takes the contest output unless a reorg removes the commitment"
    ),
    CounterOutcome.REFUTED: (
        "no secret of the published state was shown: the close stands and is settled after the challenge period"
    ),
    CounterOutcome.SUPERSEDED: (
        "a newer state than the challenger's is signed by both; this has no effect on chain: the close is settled "
        "unless a revocation secret is shown"
    ),
    CounterOutcome.COUNTER_INVALID: "the counter-proof does not answer this challenge; the challenge stands as it is",
}
"""What an outcome means on chain."""


class ShowProof(msgspec.Struct, frozen=True):
    """Command: challenge the publication of state `sequence`. `published` spends the funding output now, or None."""

    now: int
    sequence: int
    proof: bytes
    published: Transaction | None
    tip_height: int


def decide_challenge(channel: Channel, command: ShowProof) -> list[Payload]:
    """Events of an accepted proof, the breach that it reveals included; nothing for an identical repetition.

    Raises `ChallengeRefused` with the reason, `MalformedInput` for bytes that have no head.
    """
    proof, published = command.proof, command.published
    head = ProofHead.read(proof)
    if len(proof) > MAX_PROOF:
        raise MalformedInput(f"a proof has at most {MAX_PROOF} bytes, got {len(proof)}")
    if any(known.proof == proof for known in channel.challenges):
        return []
    if head.accused_seq != command.sequence:
        raise ChallengeRefused(f"the proof accuses state {head.accused_seq}, the challenge names {command.sequence}")
    if published is None or published.txid != head.published_txid:
        raise ChallengeRefused(
            f"the funding output is not spent by {display(head.published_txid)}, neither in the mempool nor in a "
            "block; a proof is bound to the transaction that is there"
        )
    result = verify_proof(channel.params, proof, proof_context(channel, proof, published))
    if result.verdict is ProofVerdict.INVALID:
        reason = result.reason or ""
        raise ChallengeRefused(f"the proof is {result}: {WHY_INVALID.get(reason, 'it does not verify')}")
    challenge = Challenge(head.accused_seq, proof, ChallengeVerdict[result.verdict.name], head.published_txid)
    spend = channel.spend(published.txid)
    _check_accused(channel, challenge, spend)
    _check_room(channel, challenge)
    received = ChallengeReceived(
        recorded_at=command.now,
        sequence=challenge.sequence,
        proof=proof,
        verdict=challenge.verdict,
        published_txid=challenge.published_txid,
        height=command.tip_height,
    )
    if spend is None or challenge.verdict is not ChallengeVerdict.VALID_ENFORCEABLE:
        return [received]
    verdict = Verdict(SpendKind.BREACH, challenge.accused, challenge.sequence)
    return [received, *reclassified(channel, spend, published, verdict, command.tip_height, command.now)]


def _check_accused(channel: Channel, challenge: Challenge, spend: Spend | None) -> None:
    """A proof must fit what is known of the spend, and nobody punishes himself."""
    if spend is not None and spend.side is not None and spend.sequence is not None:
        found = f"{spend.side.name} published state {spend.sequence}"
        if (spend.side, spend.sequence) != (challenge.accused, challenge.sequence):
            raise ChallengeRefused(
                f"the proof accuses {challenge.accused.name} of state {challenge.sequence}, but {found}"
            )
    if spend is not None and spend.kind is SpendKind.COOP:
        raise ChallengeRefused("the funding output is spent by a cooperative close, which nobody can challenge")
    if challenge.accused is channel.own_side and challenge.verdict is ChallengeVerdict.VALID_ENFORCEABLE:
        raise ChallengeRefused("the proof accuses the owner of this tower; only the counterparty can punish that")


def _check_room(channel: Channel, challenge: Challenge) -> None:
    """Another proof of what is known, or evidence, must not fill the log."""
    known = channel.challenge_of(challenge.published_txid)
    is_new = known is None and challenge.verdict is ChallengeVerdict.VALID_ENFORCEABLE
    if channel.challenge_count >= MAX_CHALLENGES and not is_new:
        raise ChallengeRefused(
            f"{MAX_CHALLENGES} proofs are stored for this channel; only one that can be enforced against a commitment "
            "without such a proof is taken now"
        )


def decide_answer(
    channel: Channel, counter: bytes, tip: int, now: int
) -> tuple[list[Payload], CounterOutcome, Challenge]:
    """Weigh a counter-proof against the newest challenge: what to store, the outcome, and the challenge.

    Raises `MalformedInput` for bytes that are no counter-proof, `ChallengeRefused` if nothing was challenged.
    """
    _check_form(counter)
    if not channel.challenges:
        raise ChallengeRefused("there is no challenge to answer; a counter-proof needs one")
    challenge = channel.challenges[-1]
    spend = channel.spend(challenge.published_txid)
    published = None if spend is None or spend.raw is None else Transaction.parse(spend.raw)
    context = proof_context(channel, challenge.proof, published)
    outcome = evaluate_counter_proof(channel.params, challenge.proof, counter, context)
    if channel.answer == counter:
        return [], outcome, challenge
    if channel.answer_count >= MAX_CHALLENGES:
        raise ChallengeRefused(f"{MAX_CHALLENGES} counter-proofs are stored for this channel; no more are taken")
    answered = ChallengeAnswered(
        recorded_at=now,
        counter_proof=counter,
        outcome=AnswerOutcome[outcome.name],
        published_txid=challenge.published_txid,
        height=tip,
    )
    return [answered], outcome, challenge


def _check_form(counter: bytes) -> None:
    if len(counter) != COUNTER_SIZE:
        raise MalformedInput(f"a counter-proof has {COUNTER_SIZE} bytes, got {len(counter)}")
    if counter[:4] != COUNTER_MAGIC or counter[-1] != 0:
        raise MalformedInput("a counter-proof starts with CPR1 and ends with 0")
    StateHeader.decode(counter[76 : 76 + HEADER_SIZE])


def proof_context(channel: Channel, proof: bytes, published: Transaction | None) -> ProofContext:
    """What the tower judges a proof with; a ladder of profile 1 needs the revocation key of the accused state."""
    head = ProofHead.read(proof)
    known = head.accused_party in (Side.A, Side.B) and head.accused_seq <= MAX_SEQUENCE
    key = channel.revocation_key(Side(head.accused_party), head.accused_seq) if known else None
    return ProofContext(published, channel.sweep_spk, revocation_key=key)
