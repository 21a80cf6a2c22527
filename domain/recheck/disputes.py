"""Proofs, counter-proofs and receipts: judged again."""

from __future__ import annotations

from domain.contract.proofs import (
    EVIDENCE_SIZE,
    HEAD_SIZE,
    KIND_LADDER,
    CounterOutcome,
    ProofHead,
    Verdict,
    evaluate_counter_proof,
    verify_proof,
)
from domain.contract.receipts import LogReceipt, read_receipt, require_receipt_signature
from domain.contract.uploads import REGISTRATION_SEQ
from domain.disputing import proof_context
from domain.errors import InvalidSignature
from domain.events import AnswerOutcome, ChallengeAnswered, ChallengeReceived, ChallengeVerdict, TowerAcknowledged
from domain.recheck.subject import Flaw, Flaws, Glance
from domain.transaction import Transaction


def check_challenge(glance: Glance, event: ChallengeReceived) -> Flaws:
    """The proof is worth what was recorded: its secret or signatures fit, and it names this transaction."""
    channel, head = glance.channel, ProofHead.read(event.proof)
    if (head.accused_seq, head.published_txid) != (event.sequence, event.published_txid):
        yield Flaw("the proof accuses another state or names another transaction than the event says")
    spend = channel.spend(event.published_txid)
    published = None if spend is None or spend.raw is None else Transaction.parse(spend.raw)
    if not glance.signatures or (head.kind == KIND_LADDER and published is None):
        return
    _count(glance, head, event.proof)
    result = verify_proof(channel.params, event.proof, proof_context(channel, event.proof, published))
    if result.verdict is Verdict.INVALID:
        yield Flaw(f"the proof is {result}", is_forged=True)
    elif event.verdict is not ChallengeVerdict[result.verdict.name]:
        yield Flaw(f"the proof is {result}, not {event.verdict.name}")


def _count(glance: Glance, head: ProofHead, proof: bytes) -> None:
    rungs = proof[HEAD_SIZE] if head.kind == KIND_LADDER else 0
    glance.tally.signatures += rungs + (2 if len(proof) >= HEAD_SIZE + EVIDENCE_SIZE else 0)
    glance.tally.secrets += 0 if head.kind else 1


def check_answer(glance: Glance, event: ChallengeAnswered) -> Flaws:
    """The counter-proof has the recorded effect on the newest challenge."""
    channel = glance.channel
    if not channel.challenges:
        yield Flaw("a counter-proof without a challenge")
        return
    challenge = channel.challenges[-1]
    spend = channel.spend(challenge.published_txid)
    published = None if spend is None or spend.raw is None else Transaction.parse(spend.raw)
    if not glance.signatures:
        return
    glance.tally.signatures += 2
    context = proof_context(channel, challenge.proof, published)
    outcome = evaluate_counter_proof(channel.params, challenge.proof, event.counter_proof, context)
    if event.outcome is not AnswerOutcome[outcome.name]:
        broken = outcome is CounterOutcome.COUNTER_INVALID
        yield Flaw(f"the counter-proof is {outcome.name}, not {event.outcome.name}", is_forged=broken)


def check_acknowledged(glance: Glance, event: TowerAcknowledged) -> Flaws:
    """The receipt is signed by the tower it names, and is about this channel, state and upload.

    Earlier versions stored none.
    """
    if not event.receipt or not glance.signatures:
        return
    receipt = read_receipt(event.receipt)
    number = 0 if receipt.seq == REGISTRATION_SEQ else receipt.seq
    named = (receipt.tower_id, receipt.subject, number, receipt.upload_sha256)
    if named != (event.tower_id, glance.channel.params.channel_id, event.sequence, event.upload_sha256):
        yield Flaw("the receipt is about another tower, channel, state or upload")
    glance.tally.signatures += 1
    try:
        require_receipt_signature(event.receipt, event.receipt_sig, event.tower_id)
    except InvalidSignature as error:
        kind = "RCP2" if isinstance(receipt, LogReceipt) else "RCP1"
        yield Flaw(f"{kind}: {error}", is_forged=True)
