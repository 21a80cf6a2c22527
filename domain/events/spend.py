"""Closes, breaches and penalties. Facts about the chain carry the block hash and have a mirror that undoes them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from domain.chain import BlockRef
from domain.events.base import Amount, Hash32, Number, OutPointBytes, Payload, RawTransaction, Signature, Text120
from domain.events.enums import BidMethod, BroadcastOutcome, Source, SpendKind, Via
from domain.units import Side


class CloseProposed(Payload, frozen=True, kw_only=True, array_like=True):
    """A cooperative close was proposed."""

    TOPIC: ClassVar[str] = "cl01"
    final_balances: tuple[Amount, Amount]
    fee: Amount
    lock_time: int
    by: Side
    txid: Hash32


class CloseSigned(Payload, frozen=True, kw_only=True, array_like=True):
    """A cooperative-close signature was released or received; rule U6 binds from here."""

    TOPIC: ClassVar[str] = "cl02"
    txid: Hash32
    by: Side
    signature: Signature
    raw: RawTransaction | None


class CommitmentPublished(Payload, frozen=True, kw_only=True, array_like=True):
    """Intent of an own unilateral close; the own signature is made at broadcast and not stored."""

    TOPIC: ClassVar[str] = "cl03"
    sequence: Number
    txid: Hash32


class SpendSeen(Payload, frozen=True, kw_only=True, array_like=True):
    """A spend of the funding outpoint is in the mempool. The signed bytes are kept for sending them again.

    `raw` is None for a transaction above the limit, which no commitment is.
    """

    TOPIC: ClassVar[str] = "cl04"
    kind: SpendKind
    txid: Hash32
    side: Side | None
    sequence: Number | None
    raw: RawTransaction | None
    source: Source
    height: int


class SpendReplaced(Payload, frozen=True, kw_only=True, array_like=True):
    """An unconfirmed spend left the mempool: replaced by `by`, or evicted (None)."""

    TOPIC: ClassVar[str] = "cl05"
    txid: Hash32
    by: Hash32 | None
    height: int


class SpendConfirmed(Payload, frozen=True, kw_only=True, array_like=True):
    """A spend of the funding outpoint is in a block; the block's height is h_c for a commitment."""

    TOPIC: ClassVar[str] = "cl06"
    kind: SpendKind
    txid: Hash32
    side: Side | None
    sequence: Number | None
    block: BlockRef
    raw: RawTransaction | None


class SpendDisconnected(Payload, frozen=True, kw_only=True, array_like=True):
    """The block with the spend left the active chain."""

    TOPIC: ClassVar[str] = "cl07"
    txid: Hash32
    block: BlockRef


class FeeChildPrepared(Payload, frozen=True, kw_only=True, array_like=True):
    """Intent: exactly these bytes are about to be sent, to pay for a commitment or settlement of an own close.

    The parent takes `outpoint`; the child spends its pay-to-anchor output first. `fee` is that of the child alone, with
    which the pair pays `feerate_kvb`; `height` is that of the chain. First bid and every
    better one.
    """

    TOPIC: ClassVar[str] = "cl08"
    parent_txid: Hash32
    outpoint: OutPointBytes
    raw: RawTransaction
    fee: Amount
    feerate_kvb: int
    height: int


class BreachDetected(Payload, frozen=True, kw_only=True, array_like=True):
    """A revoked commitment is in the mempool (`block` None) or in a block (then with its deadline)."""

    TOPIC: ClassVar[str] = "pn01"
    txid: Hash32
    side: Side
    sequence: Number
    contest: OutPointBytes
    contest_value: Amount
    contest_spk: Annotated[bytes, Meta(min_length=34, max_length=34)]
    source: Source
    block: BlockRef | None
    deadline: int | None


class PenaltyPrepared(Payload, frozen=True, kw_only=True, array_like=True):
    """Intent: exactly these bytes are about to be sent. First bid and every bump; durable before the call."""

    TOPIC: ClassVar[str] = "pn02"
    commit_txid: Hash32
    bid_no: int
    replaces: Hash32 | None
    txid: Hash32
    raw: RawTransaction
    fee: Amount
    feerate_kvb: int
    method: BidMethod
    rung: int | None
    remaining: int | None


class PenaltyBroadcast(Payload, frozen=True, kw_only=True, array_like=True):
    """The node holds the penalty in its mempool; once per txid."""

    TOPIC: ClassVar[str] = "pn03"
    txid: Hash32
    outcome: BroadcastOutcome
    via: Via
    height: int


class PenaltyRefused(Payload, frozen=True, kw_only=True, array_like=True):
    """The node refused the penalty; recorded when the class of the answer changes. Never deletes anything."""

    TOPIC: ClassVar[str] = "pn04"
    txid: Hash32
    outcome: BroadcastOutcome
    code: int
    text: Text120
    height: int


class PenaltyReplaced(Payload, frozen=True, kw_only=True, array_like=True):
    """An unconfirmed penalty left the mempool: replaced by `by`, or evicted (None)."""

    TOPIC: ClassVar[str] = "pn05"
    txid: Hash32
    by: Hash32 | None
    ours: bool
    height: int


class PenaltyConfirmed(Payload, frozen=True, kw_only=True, array_like=True):
    """A spend of the contest output that pays our sweep script is in a block."""

    TOPIC: ClassVar[str] = "pn06"
    commit_txid: Hash32
    txid: Hash32
    block: BlockRef
    fee: Amount
    swept: Amount


class PenaltyDisconnected(Payload, frozen=True, kw_only=True, array_like=True):
    """The block with the penalty left the active chain."""

    TOPIC: ClassVar[str] = "pn07"
    txid: Hash32
    block: BlockRef
