"""Settlement, preimages, alerts and the end of a channel."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from domain.chain import BlockRef
from domain.events.base import Amount, Hash32, Number, Payload, RawTransaction, Signature
from domain.events.enums import (
    AlertKind,
    AnswerOutcome,
    BroadcastOutcome,
    ChallengeVerdict,
    ClaimPath,
    EraseReason,
    ResolvedAs,
    Source,
    Via,
)
from domain.units import Side


class SettlePrepared(Payload, frozen=True, kw_only=True, array_like=True):
    """Intent: exactly this settlement is about to be sent; a mempool accepts it from tip `valid_from` - 1."""

    TOPIC: ClassVar[str] = "se01"
    commit_txid: Hash32
    side: Side
    sequence: Number
    txid: Hash32
    raw: RawTransaction
    fee: Amount
    valid_from: int
    child: RawTransaction | None


class SettleBroadcast(Payload, frozen=True, kw_only=True, array_like=True):
    """The node holds the settlement; once per txid."""

    TOPIC: ClassVar[str] = "se02"
    txid: Hash32
    outcome: BroadcastOutcome
    via: Via
    height: int


class SettleConfirmed(Payload, frozen=True, kw_only=True, array_like=True):
    """The contest output was split. `revoked` means that a stale state won: the channel is lost."""

    TOPIC: ClassVar[str] = "se03"
    commit_txid: Hash32
    txid: Hash32
    side: Side
    sequence: Number
    revoked: bool
    value: Amount
    block: BlockRef


class SettleDisconnected(Payload, frozen=True, kw_only=True, array_like=True):
    """The block with the settlement left the active chain."""

    TOPIC: ClassVar[str] = "se04"
    txid: Hash32
    block: BlockRef


class PreimageLearned(Payload, frozen=True, kw_only=True, array_like=True):
    """A preimage became public (a success witness in the mempool or a block)."""

    TOPIC: ClassVar[str] = "se05"
    payment_hash: Hash32
    preimage: Hash32
    source: Source
    txid: Hash32 | None


class ClaimPrepared(Payload, frozen=True, kw_only=True, array_like=True):
    """Intent: exactly these bytes are about to take a conditional output; first claim and every fee bump.

    `condition_type` and `condition_id` name the record; `vout` is its output in the settlement.
    """

    TOPIC: ClassVar[str] = "se06"
    settle_txid: Hash32
    condition_type: int
    condition_id: int
    vout: int
    path: ClaimPath
    txid: Hash32
    raw: RawTransaction
    fee: Amount
    lock_time: int


class ClaimBroadcast(Payload, frozen=True, kw_only=True, array_like=True):
    """The node holds the claim; once per txid."""

    TOPIC: ClassVar[str] = "se07"
    txid: Hash32
    outcome: BroadcastOutcome
    height: int


class ClaimConfirmed(Payload, frozen=True, kw_only=True, array_like=True):
    """A conditional output was spent in a block: by us, or by the counterparty (`ours` False).

    `missed` means that we could have taken it by our own path when the counterparty did.
    """

    TOPIC: ClassVar[str] = "se08"
    settle_txid: Hash32
    condition_type: int
    condition_id: int
    txid: Hash32
    ours: bool
    value: Amount
    block: BlockRef
    missed: bool = False


class ClaimDisconnected(Payload, frozen=True, kw_only=True, array_like=True):
    """The block with the spend of a conditional output left the active chain."""

    TOPIC: ClassVar[str] = "se09"
    txid: Hash32
    block: BlockRef


class RescueSigned(Payload, frozen=True, kw_only=True, array_like=True):
    """A joint settlement of a confirmed commitment was signed by `by`; one set of amounts (A, B) per channel, ever.

    `raw` is the complete transaction once both signatures are known.
    """

    TOPIC: ClassVar[str] = "se10"
    commit_txid: Hash32
    side: Side
    sequence: Number
    amounts: tuple[Amount, Amount]
    by: Side
    signature: Signature
    raw: RawTransaction | None


class ChallengeReceived(Payload, frozen=True, kw_only=True, array_like=True):
    """A proof of a newer state was shown against a published commitment.

    A proof with 16 rungs and evidence has 1,631 bytes.
    """

    TOPIC: ClassVar[str] = "re01"
    sequence: Number
    proof: Annotated[bytes, Meta(max_length=2048)]
    verdict: ChallengeVerdict
    published_txid: Hash32
    height: int


class ChallengeAnswered(Payload, frozen=True, kw_only=True, array_like=True):
    """A counter-proof was weighed against the newest challenge (protocol 6.4)."""

    TOPIC: ClassVar[str] = "re02"
    counter_proof: Annotated[bytes, Meta(max_length=1024)]
    outcome: AnswerOutcome
    published_txid: Hash32
    height: int


class SoftFinal(Payload, frozen=True, kw_only=True, array_like=True):
    """The final transaction is 6 blocks deep; may be announced, may still be undone."""

    TOPIC: ClassVar[str] = "re03"
    txid: Hash32
    block: BlockRef
    depth: int


class ChannelResolved(Payload, frozen=True, kw_only=True, array_like=True):
    """The final transaction is 100 blocks deep; the tower stops defending the outcome. Never undone."""

    TOPIC: ClassVar[str] = "re04"
    outcome: ResolvedAs
    txid: Hash32
    block: BlockRef
    depth: int


class AlertRaised(Payload, frozen=True, kw_only=True, array_like=True):
    """A condition that a person must know about began; recorded on the change only."""

    TOPIC: ClassVar[str] = "re05"
    kind: AlertKind
    txid: Hash32 | None
    sequence: Number | None
    height: int


class AlertCleared(Payload, frozen=True, kw_only=True, array_like=True):
    """The condition ended."""

    TOPIC: ClassVar[str] = "re06"
    kind: AlertKind
    height: int


class ChannelErased(Payload, frozen=True, kw_only=True, array_like=True):
    """The channel's keys leave the keystore: after this is stored, and again at every start until they are gone."""

    TOPIC: ClassVar[str] = "re07"
    reason: EraseReason


class LogOpened(Payload, frozen=True, kw_only=True, array_like=True):
    """Always the first event of a store: which log this is and which chain it follows."""

    TOPIC: ClassVar[str] = "lg01"
    log_id: Annotated[bytes, Meta(min_length=16, max_length=16)]
    origin: Annotated[str, Meta(max_length=120)]
    chain_hash: Hash32
    segment: int
    prev_head: Hash32
    schema: int


class SoftwareDeployed(Payload, frozen=True, kw_only=True, array_like=True):
    """Which build runs; recorded only when it changed."""

    TOPIC: ClassVar[str] = "lg02"
    version: str
    revision: str
    wheel_sha256: Hash32
    python: str
    database: str
