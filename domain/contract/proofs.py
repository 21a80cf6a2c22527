"""Proofs of a newer state (`PNS1`) and counter-proofs (`CPR1`), protocol 6.3 and 6.4.

A state signed by both proves that something newer exists, but only the revocation secret of the published
state, or signatures made with it, can punish. The functions here are pure: proof and context in, verdict out.
"""

from __future__ import annotations

import itertools
from enum import StrEnum

import msgspec

from domain.contract import keys
from domain.contract.commitment import build_commitment, commitment_number, is_commitment_template
from domain.contract.form import form_of
from domain.contract.header import HEADER_SIZE, StateHeader
from domain.contract.params import SEGWIT, ChannelParams
from domain.contract.penalty import build_penalty, max_penalty_fee, penalty_sighash
from domain.contract.scripts import contest_output
from domain.errors import MalformedInput
from domain.transaction import Transaction
from domain.units import MAX_SEQUENCE, Side

PROOF_MAGIC, COUNTER_MAGIC = b"PNS1", b"CPR1"
HEAD_SIZE = 78
EVIDENCE_SIZE = HEADER_SIZE + 128
COUNTER_SIZE = 525
RUNG_SIZE = 69
MAX_RUNGS = 16

KIND_SECRET, KIND_LADDER, KIND_EVIDENCE = 0, 1, 3


class Verdict(StrEnum):
    """What a proof is worth."""

    VALID_ENFORCEABLE = "VALID_ENFORCEABLE"
    VALID_EVIDENCE_ONLY = "VALID_EVIDENCE_ONLY"
    INVALID = "INVALID"


class ProofResult(msgspec.Struct, frozen=True):
    """Verdict and, for `INVALID`, the reason's name from protocol 6.3."""

    verdict: Verdict
    reason: str | None = None

    def __str__(self) -> str:
        return self.verdict.value if self.reason is None else f"{self.verdict.value}({self.reason})"


class CounterOutcome(StrEnum):
    """What a counter-proof achieves against a challenge."""

    CONCEDED = "CONCEDED"
    COUNTER_INVALID = "COUNTER_INVALID"
    REFUTED = "REFUTED"
    SUPERSEDED = "SUPERSEDED"


class ProofContext(msgspec.Struct, frozen=True):
    """What a ladder is judged with: the published transaction and the registered sweep script.

    `allow_single` admits SINGLE|ANYONECANPAY rungs, which the default policy refuses. In profile 1 the published
    script is only a hash, so R (33 bytes) is needed as well.
    """

    published: Transaction | None = None
    sweep_spk: bytes | None = None
    allow_single: bool = False
    revocation_key: bytes | None = None


class ProofHead(msgspec.Struct, frozen=True):
    """The 78 bytes that every proof starts with; party is a number and may be out of range."""

    magic: bytes
    kind: int
    channel_id: bytes
    accused_seq: int
    accused_party: int
    published_txid: bytes

    @classmethod
    def read(cls, proof: bytes) -> ProofHead:
        """Read the head without judging it; `MalformedInput` below 78 bytes."""
        if len(proof) < HEAD_SIZE:
            raise MalformedInput(f"a proof has at least {HEAD_SIZE} bytes, got {len(proof)}")
        seq = int.from_bytes(proof[37:45], "little")
        return cls(proof[:4], proof[4], proof[5:37], seq, proof[45], proof[46:78])


class _Invalid(Exception):
    """Carries a reason from the failing check to `verify_proof`."""


def encode_secret_proof(
    channel_id: bytes, accused_seq: int, accused: Side, published_txid: bytes, secret: bytes
) -> bytes:
    """Proof of kind 0 without evidence, 110 bytes: the enforceable one."""
    return _head(KIND_SECRET, channel_id, accused_seq, accused, published_txid) + secret


def encode_evidence_proof(
    channel_id: bytes, accused_seq: int, accused: Side, published_txid: bytes, evidence: bytes
) -> bytes:
    """Proof of kind 3, 526 bytes; `evidence` from `encode_evidence`."""
    return _head(KIND_EVIDENCE, channel_id, accused_seq, accused, published_txid) + evidence


def encode_evidence(header: StateHeader, state_sig_a: bytes, state_sig_b: bytes) -> bytes:
    """A state signed by both, 448 bytes."""
    return header.encode() + state_sig_a + state_sig_b


def verify_proof(params: ChannelParams, proof: bytes, context: ProofContext) -> ProofResult:
    """Judge a proof; the first failing check of protocol 6.3 names the reason.

    Raises `MalformedInput` only if a ladder is to be judged without a sweep script, or in profile 1 without R.
    """
    try:
        head, body, evidence = _split(params, proof)
        if head.kind == KIND_SECRET:
            _check_secret(params, head, body)
        if head.kind == KIND_LADDER:
            _check_ladder(params, head, body, context)
        if evidence:
            _check_evidence(params, head, evidence)
    except _Invalid as reason:
        return ProofResult(Verdict.INVALID, str(reason))
    enforceable = head.kind != KIND_EVIDENCE
    return ProofResult(Verdict.VALID_ENFORCEABLE if enforceable else Verdict.VALID_EVIDENCE_ONLY)


def evidence_of(proof: bytes) -> StateHeader | None:
    """The newer state that a well-formed proof carries, or None."""
    if len(proof) < HEAD_SIZE + EVIDENCE_SIZE:
        return None
    return StateHeader.decode(proof[-EVIDENCE_SIZE:-128])


def evaluate_counter_proof(
    params: ChannelParams, proof: bytes, counter: bytes, context: ProofContext
) -> CounterOutcome:
    """Weigh a counter-proof against a challenge (protocol 6.4)."""
    result = verify_proof(params, proof, context)
    if result.verdict is Verdict.VALID_ENFORCEABLE:
        return CounterOutcome.CONCEDED
    newest = _counter_header(params, proof, counter)
    if newest is None:
        return CounterOutcome.COUNTER_INVALID
    if result.verdict is Verdict.INVALID:
        return CounterOutcome.REFUTED
    return _weigh_evidence(proof, newest)


def encode_counter_proof(channel_id: bytes, challenged_txid: bytes, published_seq: int, evidence: bytes) -> bytes:
    """`CPR1`, 525 bytes; `evidence` from `encode_evidence`."""
    counter = COUNTER_MAGIC + channel_id + challenged_txid + published_seq.to_bytes(8, "little") + evidence
    return counter + b"\x00"


def _head(kind: int, channel_id: bytes, seq: int, accused: Side, txid: bytes) -> bytes:
    return PROOF_MAGIC + bytes((kind,)) + channel_id + seq.to_bytes(8, "little") + bytes((accused,)) + txid


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise _Invalid(reason)


def _split(params: ChannelParams, proof: bytes) -> tuple[ProofHead, bytes, bytes]:
    _require(len(proof) >= HEAD_SIZE, "BAD_LENGTH")
    head = ProofHead.read(proof)
    _require(head.magic == PROOF_MAGIC, "BAD_MAGIC")
    _require(head.kind in (KIND_SECRET, KIND_LADDER, KIND_EVIDENCE), "UNSUPPORTED_KIND")
    _require(head.channel_id == params.channel_id, "WRONG_CHANNEL")
    _require(head.accused_seq <= MAX_SEQUENCE, "SEQ_RANGE")
    _require(head.accused_party in (Side.A, Side.B), "BAD_PARTY")
    end = HEAD_SIZE + _body_size(head.kind, proof)
    needed = [end + EVIDENCE_SIZE] if head.kind == KIND_EVIDENCE else [end, end + EVIDENCE_SIZE]
    _require(len(proof) in needed, "BAD_LENGTH")
    return head, proof[HEAD_SIZE:end], proof[end:]


def _body_size(kind: int, proof: bytes) -> int:
    if kind == KIND_SECRET:
        return 32
    if kind == KIND_EVIDENCE:
        return 0
    _require(len(proof) > HEAD_SIZE, "BAD_LENGTH")
    _require(1 <= proof[HEAD_SIZE] <= MAX_RUNGS, "BAD_LENGTH")
    return 1 + RUNG_SIZE * proof[HEAD_SIZE]


def _check_secret(params: ChannelParams, head: ProofHead, secret: bytes) -> None:
    _require(keys.secret_in_range(secret), "SECRET_RANGE")
    point = keys.public_key(secret)
    rebuilt = build_commitment(params, Side(head.accused_party), head.accused_seq, point)
    _require(rebuilt.txid == head.published_txid, "TXID_MISMATCH")


def _check_ladder(params: ChannelParams, head: ProofHead, body: bytes, context: ProofContext) -> None:
    published = context.published
    _require(published is not None and published.txid == head.published_txid, "TXID_MISMATCH")
    assert published is not None  # for the type checker; required above
    matches = is_commitment_template(published, params)
    _require(matches and commitment_number(params, published) == head.accused_seq, "TXID_MISMATCH")
    if params.profile == SEGWIT and context.revocation_key is not None:
        named = contest_output(params, context.revocation_key).spk == published.outputs[0].spk
        _require(named, "TXID_MISMATCH")
    if context.sweep_spk is None:
        raise MalformedInput("a ladder is judged with the registered sweep script; the context has none")
    rungs = [_read_rung(body, start) for start in range(1, len(body), RUNG_SIZE)]
    fees = [fee for fee, _, _ in rungs]
    rising = all(lower < higher for lower, higher in itertools.pairwise(fees))
    _require(rising and fees[-1] <= max_penalty_fee(params, context.sweep_spk), "LADDER_FEE")
    form = form_of(params)
    allowed = form.ladder_hash_types | (form.single_hash_types if context.allow_single else frozenset())
    _require(all(hash_type in allowed for _, _, hash_type in rungs), "BAD_SIGHASH")
    contest_spk, key = published.outputs[0].spk, context.revocation_key
    for fee, signature, hash_type in rungs:
        penalty = build_penalty(params, head.published_txid, fee, context.sweep_spk)
        message = penalty_sighash(params, penalty, contest_spk, hash_type, key)
        _require(form.verify_penalty(contest_spk, key, message, signature), "BAD_SIG")


def _read_rung(body: bytes, start: int) -> tuple[int, bytes, int]:
    fee = int.from_bytes(body[start : start + 4], "little")
    return fee, body[start + 4 : start + 68], body[start + 68]


def _check_evidence(params: ChannelParams, head: ProofHead, evidence: bytes) -> None:
    header = _read_header(evidence)
    _require(header is not None and header.channel_id == params.channel_id, "EVIDENCE_HEADER")
    assert header is not None  # for the type checker; required above
    _require(header.seq > head.accused_seq, "EVIDENCE_NOT_NEWER")
    _require(_is_dual_signed(params, header, evidence[HEADER_SIZE:]), "EVIDENCE_SIG")


def _read_header(evidence: bytes) -> StateHeader | None:
    try:
        return StateHeader.decode(evidence[:HEADER_SIZE])
    except MalformedInput:
        return None


def _is_dual_signed(params: ChannelParams, header: StateHeader, signatures: bytes) -> bool:
    message = header.state_hash
    by_a = keys.verify_schnorr(params.keys_a.auth, message, signatures[:64])
    return by_a and keys.verify_schnorr(params.keys_b.auth, message, signatures[64:128])


def _counter_header(params: ChannelParams, proof: bytes, counter: bytes) -> StateHeader | None:
    """The header of a counter-proof that is well-formed, signed and about this challenge; else None."""
    if len(counter) != COUNTER_SIZE or counter[:4] != COUNTER_MAGIC or counter[-1] != 0:
        return None
    published_seq = int.from_bytes(counter[68:76], "little")
    header = _read_header(counter[76:396])
    if header is None or counter[4:36] != params.channel_id or header.channel_id != params.channel_id:
        return None
    if header.seq < published_seq or not _is_dual_signed(params, header, counter[396:524]):
        return None
    if len(proof) < HEAD_SIZE:  # too short to name a transaction: nothing to compare with
        return header
    head = ProofHead.read(proof)
    is_answer = counter[36:68] == head.published_txid and published_seq == head.accused_seq
    return header if is_answer else None


def _weigh_evidence(proof: bytes, newest: StateHeader) -> CounterOutcome:
    head, shown = ProofHead.read(proof), evidence_of(proof)
    if shown is not None and newest.seq > shown.seq:
        return CounterOutcome.SUPERSEDED
    accused = Side(head.accused_party)
    if newest.seq == head.accused_seq and newest.commit_txid(accused) == head.published_txid:
        return CounterOutcome.REFUTED
    return CounterOutcome.COUNTER_INVALID
