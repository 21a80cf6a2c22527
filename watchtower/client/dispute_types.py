"""Results of the calls about states, disputes and closes. Identifiers are hexadecimal texts, amounts satoshi."""

from __future__ import annotations

from typing import Literal

import msgspec

from domain.status import ChannelStatus
from watchtower.client.past import LogPoint

Side = Literal["A", "B"]


class StateCondition(msgspec.Struct, frozen=True, kw_only=True):
    """A conditional output of a state: type 0 HTLC A→B, 1 HTLC B→A, 2 descriptor; `expiry` a height."""

    type: int
    id: int
    expiry: int
    amount: int
    hash: str
    descriptor: str | None = None


class PartySignatures(msgspec.Struct, frozen=True, kw_only=True):
    """The four signatures of one party; `commit_peer` is on the other party's commitment.

    It is None for a peer that published the state instead of completing it: then nobody has that signature.
    """

    state: str
    settle_a: str = msgspec.field(name="settle_A")
    settle_b: str = msgspec.field(name="settle_B")
    commit_peer: str | None


class StateSignaturePair(msgspec.Struct, frozen=True, kw_only=True):
    """All eight signatures of a state, or seven: see `PartySignatures`."""

    a: PartySignatures = msgspec.field(name="A")
    b: PartySignatures = msgspec.field(name="B")


class PendingState(msgspec.Struct, frozen=True, kw_only=True):
    """A state that the own party has begun and that is not complete; `bound` once a signature for it exists (U5)."""

    sequence: int
    by: Side
    balances: tuple[int, int]
    bound: bool


class ChannelState(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `get_channel_state`: the newest complete state at the tower, and what the own party has begun.

    `header` are the 320 bytes that both parties signed; `final_sequence` below `sequence` means that the counterparty
    has not revoked the state before yet. In an answer about the past `as_of` is its point, and nothing is pending.
    """

    channel_id: str
    status: ChannelStatus
    sequence: int
    final_sequence: int
    state_hash: str
    header: str
    balances: tuple[int, int]
    prev_state_hash: str
    app_id: str
    commit_txid_a: str = msgspec.field(name="commit_txid_A")
    commit_txid_b: str = msgspec.field(name="commit_txid_B")
    settle_txid_a: str = msgspec.field(name="settle_txid_A")
    settle_txid_b: str = msgspec.field(name="settle_txid_B")
    conditions: tuple[StateCondition, ...]
    state_data: str
    signatures: StateSignaturePair
    own_point: str
    pending: PendingState | None = None
    as_of: LogPoint | None = None


class ChallengeResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `challenge_state`. The penalty fields are None until the tower has prepared one; ask again.

    `deadline` is the last block in which only the penalty can be confirmed, None while the commitment is in no block.
    """

    channel_id: str
    sequence: int
    party: Side
    verdict: Literal["VALID_ENFORCEABLE", "VALID_EVIDENCE_ONLY"]
    published_txid: str
    height: int
    message: str
    penalty_txid: str | None = None
    penalty_fee: int | None = None
    deadline: int | None = None
    duplicate: bool = False


class ResponseResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `respond_to_challenge`; `message` says what the outcome means on chain."""

    channel_id: str
    outcome: Literal["CONCEDED", "REFUTED", "SUPERSEDED", "COUNTER_INVALID"]
    published_txid: str
    sequence: int
    message: str
    duplicate: bool = False


class VerificationResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `verify_proof`. `reason` is the name of the failed check of an invalid proof.

    The last three verdicts are those of a receipt: whether the tower's log holds what it signed. `signed_by_tower` says
    whether the tower's own signature stands behind the evidence, `answer` is its signed answer (`RCA1` and signature).
    """

    verdict: Literal["VALID_ENFORCEABLE", "VALID_EVIDENCE_ONLY", "INVALID", "MISBEHAVIOR", "CONSISTENT", "CANNOT_TELL"]
    message: str
    reason: str | None = None
    kind: int | None = None
    channel_id: str | None = None
    accused_sequence: int | None = None
    accused_party: Side | None = None
    published_txid: str | None = None
    evidence_sequence: int | None = None
    tower_id: str | None = None
    sequence: int | None = None
    position: int | None = None
    epoch: int | None = None
    signed_by_tower: bool | None = None
    answer: str | None = None

    @property
    def is_valid(self) -> bool:
        """True unless the proof is INVALID."""
        return self.verdict != "INVALID"


class TransactionFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One check of a transaction, whether it holds, and what was found."""

    check: str
    ok: bool
    detail: str


class ValidationResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `validate_transaction`; `valid` if every finding is ok and it belongs to a channel."""

    txid: str
    kind: Literal["funding", "commitment", "penalty", "settlement", "claim", "cooperative-close", "unknown"]
    valid: bool
    weight: int
    vsize: int
    findings: tuple[TransactionFinding, ...]
    channel_id: str | None = None
    party: Side | None = None
    sequence: int | None = None
    revoked: bool | None = None
    fee: int | None = None


class ClosureResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of both ways to close. It is stored at the tower, which sends it until it is in a block.

    With `FEE_CHILD_NEEDED` send `transaction` together with a child that spends its output `fee_output` and pays more.
    `settle_height` is the first block that may hold the settlement, once the commitment is in a block.
    """

    channel_id: str
    kind: Literal["COOPERATIVE", "UNILATERAL"]
    txid: str
    outcome: Literal[
        "IN_MEMPOOL", "CONFIRMED", "FEE_CHILD_NEEDED", "FEE_TOO_LOW", "CONFLICT", "NOT_ACCEPTED", "PENDING"
    ]
    message: str
    transaction: str
    sequence: int | None = None
    fee_output: int | None = None
    settle_height: int | None = None
    duplicate: bool = False
