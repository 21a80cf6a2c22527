"""`verify_proof`: a verdict and its reason. Nothing is stored and no node is asked."""

from __future__ import annotations

from domain.channel import Channel
from domain.contract.params import ChannelParams
from domain.contract.proofs import (
    HEAD_SIZE,
    PROOF_MAGIC,
    ProofContext,
    ProofHead,
    ProofResult,
    Verdict,
    evidence_of,
    verify_proof,
)
from domain.disputing import WHY_INVALID, proof_context
from domain.errors import DomainError, UnknownChannel
from domain.transaction import Transaction
from domain.units import Side
from projections.channel_info import TABLE
from watchtower.channels.context import Context
from watchtower.channels.info import side_name
from watchtower.wire.disputes import VerifyBody, VerifyRequest
from watchtower.wire.hexes import Hex32, TxidHex

MEANING = {
    Verdict.VALID_ENFORCEABLE: "the published state was revoked; the penalty can take the contest output",
    Verdict.VALID_EVIDENCE_ONLY: "a newer state exists; without the revocation secret nothing can be enforced",
}
TOO_SHORT = ProofResult(Verdict.INVALID, "BAD_LENGTH")


def verify(context: Context, request: VerifyRequest, owner: bytes | None = None) -> VerifyBody:
    """Judge a proof by the log's channel, or by the constants in the request.

    `owner` (x-only auth key) is a party that asks: others' channels do not exist for it.
    """
    proof = bytes(request.proof)
    if len(proof) < HEAD_SIZE or proof[: len(PROOF_MAGIC)] != PROOF_MAGIC:
        # Without a head there is no channel to look for; the checks themselves come in the order of the protocol.
        return body_of(proof, TOO_SHORT if len(proof) < HEAD_SIZE else ProofResult(Verdict.INVALID, "BAD_MAGIC"))
    published = None if request.published is None else Transaction.parse(bytes(request.published))
    if request.params is not None:
        params = ChannelParams.decode(bytes(request.params))
        sweep = None if request.sweep_spk is None else bytes(request.sweep_spk)
        key = None if request.revocation_key is None else bytes(request.revocation_key)
        return body_of(proof, verify_proof(params, proof, ProofContext(published, sweep, revocation_key=key)))
    channel = _channel_of(context, proof, owner)
    context_of_log = proof_context(channel, proof, published or _seen(channel, proof))
    return body_of(proof, verify_proof(channel.params, proof, context_of_log))


def _channel_of(context: Context, proof: bytes, owner: bytes | None) -> Channel:
    named = ProofHead.read(proof).channel_id
    recent = context.recent.get(named)
    rows = context.views.find(TABLE, "channel_id", named)
    streams = [recent] if recent is not None else [TABLE.read(row).stream for row in rows]
    channel = context.channels.find(streams[0]) if streams else None
    if channel is None or (owner is not None and channel.client_key != owner):
        raise UnknownChannel("no channel with this id is registered here; give params to judge the proof without it")
    return channel


def _seen(channel: Channel, proof: bytes) -> Transaction | None:
    spend = channel.spend(ProofHead.read(proof).published_txid)
    return None if spend is None or spend.raw is None else Transaction.parse(spend.raw)


def body_of(proof: bytes, result: ProofResult) -> VerifyBody:
    """Verdict and the proof's own fields."""
    message = MEANING.get(result.verdict) or WHY_INVALID.get(result.reason or "", "it does not verify")
    head = None if len(proof) < HEAD_SIZE else ProofHead.read(proof)
    named = head is not None and head.accused_party in (Side.A, Side.B)
    return VerifyBody(
        verdict=result.verdict.value,
        reason=result.reason,
        message=message,
        kind=None if head is None else head.kind,
        channel_id=None if head is None else Hex32(head.channel_id),
        accused_sequence=None if head is None else head.accused_seq,
        accused_party=side_name(Side(head.accused_party)) if head is not None and named else None,
        published_txid=None if head is None else TxidHex(head.published_txid),
        evidence_sequence=_evidence(proof, result),
    )


def _evidence(proof: bytes, result: ProofResult) -> int | None:
    """The number of the newer state; of an invalid proof nothing is believed."""
    if result.verdict is Verdict.INVALID:
        return None
    try:
        header = evidence_of(proof)
    except DomainError:  # a ladder without evidence is long enough to be mistaken for one with it
        return None
    return None if header is None else header.seq
