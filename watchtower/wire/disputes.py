"""Bodies of states, challenges, proofs, closes and checked transactions, the same in the service and in the SDK."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from watchtower.wire.api import Amount, ConditionBody, Number, Request, SideName
from watchtower.wire.hexes import HeaderHex, Hex, Hex32, Hex33, Hex64, ParamsHex, TransactionHex, TxidHex
from watchtower.wire.history import PointBody

VerdictName = Literal["VALID_ENFORCEABLE", "VALID_EVIDENCE_ONLY", "INVALID"]
OutcomeName = Literal["CONCEDED", "REFUTED", "SUPERSEDED", "COUNTER_INVALID"]
KindName = Literal["funding", "commitment", "penalty", "settlement", "claim", "cooperative-close", "unknown"]
BroadcastName = Literal[
    "IN_MEMPOOL", "CONFIRMED", "FEE_CHILD_NEEDED", "FEE_TOO_LOW", "CONFLICT", "NOT_ACCEPTED", "PENDING"
]


class ProofHex(Hex):
    """A proof or counter-proof."""

    LIMIT = 2048


class ScriptHex(Hex):
    """A witness program."""

    LIMIT = 42


class GivenSignaturesBody(msgspec.Struct, frozen=True, kw_only=True):
    """The signatures that one party gave.

    `commit_peer`, on the other party's commitment, is null for a party that published the state instead of giving it.
    """

    state: Hex64
    settle_a: Hex64 = msgspec.field(name="settle_A")
    settle_b: Hex64 = msgspec.field(name="settle_B")
    commit_peer: Hex64 | None


class GivenPairBody(msgspec.Struct, frozen=True, kw_only=True):
    """The signatures of both parties on a state."""

    a: GivenSignaturesBody = msgspec.field(name="A")
    b: GivenSignaturesBody = msgspec.field(name="B")


class ChannelStateBody(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/channels/{id}/state`: the newest complete state with everything that both parties signed.

    `header` is what `state_hash` is the hash of; the fields after it are read from it. `state_data` are the
    application's bytes. `final_sequence` below `sequence` means: the counterparty has not revoked the state before.
    `as_of` stands in an answer about the past.
    """

    channel_id: Hex32
    status: str
    sequence: int
    final_sequence: int
    state_hash: Hex32
    header: HeaderHex
    balances: tuple[int, int]
    prev_state_hash: Hex32
    app_id: Hex32
    commit_txid_a: TxidHex = msgspec.field(name="commit_txid_A")
    commit_txid_b: TxidHex = msgspec.field(name="commit_txid_B")
    settle_txid_a: TxidHex = msgspec.field(name="settle_txid_A")
    settle_txid_b: TxidHex = msgspec.field(name="settle_txid_B")
    conditions: tuple[ConditionBody, ...]
    state_data: Hex
    signatures: GivenPairBody
    own_point: Hex33
    as_of: PointBody | None = None


class ChallengeRequest(Request, frozen=True, kw_only=True):
    """`POST /v1/channels/{id}/challenges`: the published state is `sequence`, `proof` is a PNS1."""

    sequence: Number
    proof: ProofHex


class ChallengeBody(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted proof. The penalty fields are null while none is prepared, `deadline` while nothing is in a block."""

    channel_id: Hex32
    sequence: int
    party: SideName
    verdict: Literal["VALID_ENFORCEABLE", "VALID_EVIDENCE_ONLY"]
    published_txid: TxidHex
    height: int
    penalty_txid: TxidHex | None
    penalty_fee: int | None
    deadline: int | None
    message: str


class ResponseRequest(Request, frozen=True, kw_only=True):
    """`POST /v1/channels/{id}/challenge-responses`: a CPR1 against the newest challenge."""

    counter_proof: ProofHex


class ResponseBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a counter-proof achieves; `message` says what that means on chain."""

    channel_id: Hex32
    outcome: OutcomeName
    published_txid: TxidHex
    sequence: int
    message: str


class VerifyRequest(Request, frozen=True, kw_only=True):
    """`POST /v1/proofs/verify`. With `params` the proof is judged by them and what else is given, else by the log.

    `revocation_key` is R of the published commitment: a ladder of profile 1 cannot be judged without it.
    """

    proof: ProofHex
    params: ParamsHex | None = None
    published: TransactionHex | None = None
    sweep_spk: ScriptHex | None = None
    revocation_key: Hex33 | None = None


class VerifyBody(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict; the fields of the proof are null where its bytes are too short to have them."""

    verdict: VerdictName
    reason: str | None
    message: str
    kind: int | None
    channel_id: Hex32 | None
    accused_sequence: int | None
    accused_party: SideName | None
    published_txid: TxidHex | None
    evidence_sequence: int | None


class ValidateRequest(Request, frozen=True, kw_only=True):
    """`POST /v1/transactions/validate`: a txid or the bytes, exactly one of them.

    `channel_id` (or a beginning of it) is needed for a transaction whose inputs the tower does not watch;
    `ask_node` asks the node as well.
    """

    txid: TxidHex | None = None
    raw: TransactionHex | None = None
    channel_id: Annotated[str, Meta(max_length=64)] | None = None
    ask_node: bool = False


class FindingBody(msgspec.Struct, frozen=True, kw_only=True):
    """One check, whether it holds, and what was found."""

    check: str
    ok: bool
    detail: str


class ValidateBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a transaction is; `valid` if every check holds and the node, if it was asked, would take it."""

    txid: TxidHex
    kind: KindName
    valid: bool
    channel_id: Hex32 | None
    party: SideName | None
    sequence: int | None
    revoked: bool | None
    fee: int | None
    weight: int
    vsize: int
    findings: tuple[FindingBody, ...]


class UnilateralCloseRequest(Request, frozen=True, kw_only=True):
    """`POST /v1/channels/{id}/unilateral-close`: signatures of A and B on the owner's commitment of this state."""

    sequence: Number
    signatures: tuple[Hex64, Hex64]


class CooperativeCloseRequest(Request, frozen=True, kw_only=True):
    """`POST /v1/channels/{id}/cooperative-close`: the complete transaction and the balances that it stands for."""

    final_balances: tuple[Amount, Amount]
    transaction: TransactionHex


class ClosureBody(msgspec.Struct, frozen=True, kw_only=True):
    """The close is stored and was handed to the node; `outcome` is the node's answer.

    `FEE_CHILD_NEEDED`: the node wants more than the fixed fee; send `transaction` with a child on its output
    `fee_output`. Whatever the answer, the tower sends it again until it is in a block.
    """

    channel_id: Hex32
    kind: Literal["COOPERATIVE", "UNILATERAL"]
    txid: TxidHex
    sequence: int | None
    outcome: BroadcastName
    message: str
    transaction: TransactionHex
    fee_output: int | None
    settle_height: int | None
