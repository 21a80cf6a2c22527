"""Bodies of the HTTP API, the same structs in the service and in the SDK.

Byte strings are lower-case hexadecimal, txids and block hashes in display order, amounts in satoshi, times in
Unix seconds. Unknown fields of requests are refused; answers may grow.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta

from domain.contract.conditions import Condition
from domain.units import MAX_MONEY, MAX_SEQUENCE
from watchtower.wire.conditions import ClaimBody
from watchtower.wire.hexes import (
    BlockHashHex,
    HeaderHex,
    Hex,
    Hex16,
    Hex32,
    Hex33,
    Hex64,
    ParamsHex,
    SecretHex,
    TransactionHex,
    TxidHex,
)
from watchtower.wire.history import PointBody, TowerPastBody
from watchtower.wire.liquidity import LiquidityBody
from watchtower.wire.receipts import SignedReceiptBody
from watchtower.wire.restores import BehindBody

SideName = Literal["A", "B"]
Amount = Annotated[int, Meta(ge=0, le=MAX_MONEY)]
Number = Annotated[int, Meta(ge=0, le=MAX_SEQUENCE)]
MAX_CONDITIONS = 1000
"""More records than the policy ever allows, so that the refusal comes from the rule and not from the parser."""


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what clients send: a misspelled field is an error, not a default."""


class ConditionBody(Request, frozen=True, kw_only=True):
    """A conditional output: type 0 HTLC A→B, 1 HTLC B→A, 2 descriptor; `expiry` a height."""

    type: Annotated[int, Meta(ge=0, le=2)]
    id: Annotated[int, Meta(ge=0, le=0xFFFF)]
    expiry: Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
    amount: Amount
    hash: Hex32
    descriptor: Annotated[str, Meta(max_length=512)] | None = None

    @classmethod
    def of(cls, condition: Condition) -> Self:
        """The record of a condition."""
        return cls(
            type=condition.type,
            id=condition.id,
            expiry=condition.expiry,
            amount=condition.amount,
            hash=Hex32(condition.hash),
            descriptor=condition.descriptor,
        )


class SignatureBody(Request, frozen=True, kw_only=True):
    """The four signatures of one party; `commit_peer` is on the other party's commitment."""

    state: Hex64
    settle_a: Hex64 = msgspec.field(name="settle_A")
    settle_b: Hex64 = msgspec.field(name="settle_B")
    commit_peer: Hex64


class SignaturesBody(Request, frozen=True, kw_only=True):
    """All eight signatures of a state."""

    a: SignatureBody = msgspec.field(name="A")
    b: SignatureBody = msgspec.field(name="B")


class StateBody(Request, frozen=True, kw_only=True):
    """A complete state; `own_point` is the owner's per-commitment point of it."""

    header: HeaderHex
    conditions: Annotated[tuple[ConditionBody, ...], Meta(max_length=MAX_CONDITIONS)] = ()
    state_data: Hex
    signatures: SignaturesBody
    own_point: Hex33


class RegisterRequest(Request, frozen=True, kw_only=True):
    """`POST /v1/channels`. Points are those of states 0 and 1; `upload_sig` is by the owner's auth key.

    With `htlc_secret` the tower also takes conditional outputs for the owner. It may be added later by the same
    registration again, because the upload that is signed does not contain it.
    """

    params: ParamsHex
    own_side: SideName
    channel_index: Annotated[int, Meta(ge=0, lt=2**31)]
    own_points: tuple[Hex33, Hex33]
    counterparty_points: tuple[Hex33, Hex33]
    revocation_secret: SecretHex
    htlc_secret: SecretHex | None = None
    sweep_spk: Hex
    upload_sig: Hex64
    funding_tx: TransactionHex | None = None
    state: StateBody


class UpdateRequest(Request, frozen=True, kw_only=True):
    """`POST /v1/channels/{id}/states`: the next state and, if known, the counterparty's revocation of the last."""

    state: StateBody
    revoked_secret: SecretHex | None = None
    next_point: Hex33 | None = None


class RevocationRequest(Request, frozen=True, kw_only=True):
    """`POST /v1/channels/{id}/revocations`. The own side carries no secret: its release is only a number."""

    party: SideName
    sequence: Number
    secret: SecretHex | None = None
    next_point: Hex33


class ParticipantBody(msgspec.Struct, frozen=True, kw_only=True):
    """Funding key and balance in state 0."""

    pubkey: Hex33
    initial_balance: int


class ChannelBody(msgspec.Struct, frozen=True, kw_only=True):
    """`ChannelInfo`: the documented fields and `final_sequence`, then what an operator needs.

    `liquidity` stands in the answer about one channel, not in lists; `receipt` in that to a registration; `as_of` in
    one about the past.
    """

    channel_id: Hex32
    status: str
    participants: tuple[ParticipantBody, ParticipantBody]
    current_sequence: int
    final_sequence: int
    balances: tuple[int, int]
    funding_txid: TxidHex | None
    challenge_period: int
    proposal_id: Hex32
    own_side: SideName
    capacity: int
    funding_vout: int | None
    funding_height: int | None
    highest_revoked: int
    warnings: tuple[str, ...] = ()
    claims: tuple[ClaimBody, ...] = ()
    liquidity: LiquidityBody | None = None
    receipt: SignedReceiptBody | None = None
    as_of: PointBody | None = None


class ChannelPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`GET /v1/channels`. `next` is the `after` of the following page, or null."""

    channels: tuple[ChannelBody, ...]
    next: str | None
    as_of: PointBody | None = None


class UpdateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The state is stored durably. The same bytes again get the same answer.

    `final_sequence` is what this upload makes final: `sequence` if it carries the revocation of the state before.
    `receipt` is missing only while the tower gives none (docs/receipts.md); the state is stored all the same.
    """

    channel_id: Hex32
    sequence: int
    state_hash: Hex32
    final_sequence: int
    receipt: SignedReceiptBody | None = None


class RevocationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The revocation is stored durably."""

    channel_id: Hex32
    party: SideName
    sequence: int
    final_sequence: int


class SpentByBody(msgspec.Struct, frozen=True, kw_only=True):
    """What spent the funding output: COOP, COMMIT (side, sequence, revoked) or UNKNOWN; in the block that is named."""

    kind: Literal["COOP", "COMMIT", "UNKNOWN"]
    txid: TxidHex
    party: SideName | None = None
    sequence: int | None = None
    revoked: bool | None = None
    height: int | None = None
    block_hash: BlockHashHex | None = None


class FundingBody(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/channels/{id}/funding`: UNSEEN, MEMPOOL, CONFIRMED, DOUBLE_SPENT or SPENT_BY.

    `confirmed` says whether the output has as many confirmations as the service asks for.
    """

    channel_id: Hex32
    status: Literal["UNSEEN", "MEMPOOL", "CONFIRMED", "DOUBLE_SPENT", "SPENT_BY"]
    confirmed: bool
    confirmations: int
    funding_txid: TxidHex
    funding_vout: int
    funding_height: int | None = None
    double_spent_by: TxidHex | None = None
    spent_by: SpentByBody | None = None


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a channel in plain words."""

    version: int
    recorded_at: int
    height: int | None
    kind: str
    text: str


class TimelinePage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`GET /v1/channels/{id}/timeline`."""

    channel_id: Hex32
    entries: tuple[TimelineEntry, ...]
    next: int | None
    as_of: PointBody | None = None


class LogBody(msgspec.Struct, frozen=True, kw_only=True):
    """Which log the tower's receipts are about, its epoch (it grows with every restored copy), and how far it is."""

    log_id: Hex16
    epoch: int
    position: int


class PromiseBody(msgspec.Struct, frozen=True, kw_only=True):
    """No loss if `reorg` + `outage` + `last_blocks` is at most T, all in blocks (docs/promises.md).

    `reorg` and `outage` are the pair that is promised together for T = 144; `min_challenge_period` is the shortest T
    that is accepted here.
    """

    reorg: int
    outage: int
    last_blocks: int
    min_challenge_period: int


class TowerBody(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/info`: the service's own state. `profiles` are those of new channels: 0 with Taproot, 1 without.

    In an answer about the past `past` says what the log said of the whole tower; `height`, `tip_hash`, `channels` and
    `capacity` are those of then. What the process was doing is not in the log: `phase` is `past`, and it neither
    watched nor stored.
    """

    version: str
    protocol_version: int
    tower_id: Hex32
    network: str
    chain_hash: BlockHashHex
    profiles: tuple[int, ...]
    operational: bool
    watching: bool
    phase: str
    reasons: tuple[str, ...]
    height: int | None
    tip_hash: BlockHashHex | None
    channels: int
    capacity: int
    lag: int | None
    promise: PromiseBody
    behind_receipts: BehindBody | None = None
    log: LogBody | None = None
    past: TowerPastBody | None = None


class AliveBody(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /healthz`: the event loop answers."""

    alive: bool


class ReadyBody(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /readyz`: 200 while states can be stored durably."""

    ready: bool
    watching: bool
    phase: str
    reasons: tuple[str, ...]


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457 problem document; `type` is `urn:state-channel:<slug>`.

    `time` is the tower's clock in Unix seconds, told where the clocks differ too much. `request_id` is the name of the
    request in the tower's log.
    """

    type: str
    title: str
    status: int
    detail: str | None = None
    time: int | None = None
    request_id: str | None = None
