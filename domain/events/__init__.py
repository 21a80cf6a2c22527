"""Every domain event, and the one table that maps a topic to its class.

A topic (two letters, two digits) is never reused, renamed or derived from a module path; strings found in a
database are looked up here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from domain.errors import LogCorrupt
from domain.events.base import MAX_RAW_TRANSACTION, Envelope, Payload, Recorded
from domain.events.block import AuditMismatch, BlockConnected, BlockDisconnected, BlockUnavailable, CursorStarted
from domain.events.enums import (
    AbandonReason,
    AlertKind,
    AnswerOutcome,
    BidMethod,
    BroadcastOutcome,
    ChallengeVerdict,
    ClaimPath,
    CoveredBy,
    EraseReason,
    FreezeReason,
    Mode,
    PaymentKind,
    PaymentOutcome,
    ReportedBy,
    ResolvedAs,
    Source,
    SpendKind,
    UnavailableReason,
    Via,
)
from domain.events.funding import (
    ChannelAbandoned,
    ChannelProposed,
    ChannelRegistered,
    FundingBroadcast,
    FundingConfirmed,
    FundingDisconnected,
    FundingDoubleSpent,
)
from domain.events.log import HeadSealed, HoldingsConfirmed, ReceiptsCovered, SegmentClosed, StoreRestored
from domain.events.payment import InvoiceMade, LegOffered, PaymentEnded, PaymentPlanned
from domain.events.settlement import (
    AlertCleared,
    AlertRaised,
    ChallengeAnswered,
    ChallengeReceived,
    ChannelErased,
    ChannelResolved,
    ClaimBroadcast,
    ClaimConfirmed,
    ClaimDisconnected,
    ClaimPrepared,
    LogOpened,
    PreimageLearned,
    RescueSigned,
    SettleBroadcast,
    SettleConfirmed,
    SettleDisconnected,
    SettlePrepared,
    SoftFinal,
    SoftwareDeployed,
)
from domain.events.spend import (
    BreachDetected,
    CloseProposed,
    CloseSigned,
    CommitmentPublished,
    FeeChildPrepared,
    PenaltyBroadcast,
    PenaltyConfirmed,
    PenaltyDisconnected,
    PenaltyPrepared,
    PenaltyRefused,
    PenaltyReplaced,
    SpendConfirmed,
    SpendDisconnected,
    SpendReplaced,
    SpendSeen,
)
from domain.events.state import (
    ChannelFrozen,
    ChannelUnfrozen,
    EquivocationFound,
    SignatureSet,
    StateAccepted,
    StateCommitted,
    StateOffered,
    StateProposed,
    StateRevoked,
    StateUpdated,
    TowerAcknowledged,
    TurnYielded,
)
from domain.events.upcasts import RETIRED, UPCASTS, Upcast, path

EVENT_TYPES: tuple[type[Payload], ...] = (
    CursorStarted,
    BlockConnected,
    BlockDisconnected,
    BlockUnavailable,
    AuditMismatch,
    ChannelProposed,
    ChannelRegistered,
    FundingBroadcast,
    FundingConfirmed,
    FundingDisconnected,
    FundingDoubleSpent,
    ChannelAbandoned,
    StateOffered,
    StateProposed,
    StateAccepted,
    StateCommitted,
    StateRevoked,
    StateUpdated,
    TowerAcknowledged,
    TurnYielded,
    ChannelFrozen,
    ChannelUnfrozen,
    EquivocationFound,
    CloseProposed,
    CloseSigned,
    CommitmentPublished,
    SpendSeen,
    SpendReplaced,
    SpendConfirmed,
    SpendDisconnected,
    FeeChildPrepared,
    BreachDetected,
    PenaltyPrepared,
    PenaltyBroadcast,
    PenaltyRefused,
    PenaltyReplaced,
    PenaltyConfirmed,
    PenaltyDisconnected,
    SettlePrepared,
    SettleBroadcast,
    SettleConfirmed,
    SettleDisconnected,
    PreimageLearned,
    ClaimPrepared,
    ClaimBroadcast,
    ClaimConfirmed,
    ClaimDisconnected,
    RescueSigned,
    ChallengeReceived,
    ChallengeAnswered,
    SoftFinal,
    ChannelResolved,
    AlertRaised,
    AlertCleared,
    ChannelErased,
    InvoiceMade,
    PaymentPlanned,
    LegOffered,
    PaymentEnded,
    LogOpened,
    SoftwareDeployed,
    HeadSealed,
    StoreRestored,
    SegmentClosed,
    ReceiptsCovered,
    HoldingsConfirmed,
)

WRITTEN: dict[str, type[Payload]] = {event.TOPIC: event for event in EVENT_TYPES}
"""Topics of today."""

TOPICS: dict[str, type[Payload]] = WRITTEN | {event.TOPIC: event for event in RETIRED}
"""The only map from a stored topic to the class that its bytes fit."""

_encoder = msgspec.msgpack.Encoder()


def _reader_of(topic: str) -> Callable[[bytes], Payload]:
    """Reads stored bytes of a topic; one that needs no upcast pays nothing for those that do."""
    decode = msgspec.msgpack.Decoder(TOPICS[topic]).decode
    steps = path(topic)
    if not steps:
        return decode

    def read(state: bytes) -> Payload:
        payload: Payload = decode(state)
        for step in steps:
            payload = step.newer(payload)
        return payload

    return read


_readers = {topic: _reader_of(topic) for topic in TOPICS}

CHAIN_STREAM = "chain"
LOG_STREAM = "log"


def encode_payload(payload: Payload) -> bytes:
    """The stored bytes of an event: a MessagePack array in field order."""
    return _encoder.encode(payload)


def decode_payload(topic: str, state: bytes) -> Payload:
    """Read stored bytes as an event of today; raises `LogCorrupt` for an unknown topic or bytes that do not fit it."""
    read = _readers.get(topic)
    if read is None:
        raise LogCorrupt(f"unknown topic {topic!r}: the log was written by a newer version or is damaged")
    try:
        return read(state)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LogCorrupt(f"an event with topic {topic} cannot be decoded: {error}") from None


def topics_of(*events: type[Payload]) -> frozenset[str]:
    """The stored topics that are read as one of these classes: their own, and those of what became them."""
    wanted = {event.TOPIC for event in events}
    return frozenset(wanted | {topic for topic in TOPICS if any(step.becomes in events for step in path(topic)[-1:])})


def envelopes(stream: str, version: int, payloads: Sequence[Payload]) -> list[Envelope]:
    """Place payloads behind `version` in a stream."""
    return [Envelope(stream, version + i, p.TOPIC, p) for i, p in enumerate(payloads, start=1)]


__all__ = [
    "CHAIN_STREAM",
    "EVENT_TYPES",
    "LOG_STREAM",
    "MAX_RAW_TRANSACTION",
    "RETIRED",
    "TOPICS",
    "UPCASTS",
    "WRITTEN",
    "AbandonReason",
    "AlertCleared",
    "AlertKind",
    "AlertRaised",
    "AnswerOutcome",
    "AuditMismatch",
    "BidMethod",
    "BlockConnected",
    "BlockDisconnected",
    "BlockUnavailable",
    "BreachDetected",
    "BroadcastOutcome",
    "ChallengeAnswered",
    "ChallengeReceived",
    "ChallengeVerdict",
    "ChannelAbandoned",
    "ChannelErased",
    "ChannelFrozen",
    "ChannelProposed",
    "ChannelRegistered",
    "ChannelResolved",
    "ChannelUnfrozen",
    "ClaimBroadcast",
    "ClaimConfirmed",
    "ClaimDisconnected",
    "ClaimPath",
    "ClaimPrepared",
    "CloseProposed",
    "CloseSigned",
    "CommitmentPublished",
    "CoveredBy",
    "CursorStarted",
    "Envelope",
    "EquivocationFound",
    "EraseReason",
    "FeeChildPrepared",
    "FreezeReason",
    "FundingBroadcast",
    "FundingConfirmed",
    "FundingDisconnected",
    "FundingDoubleSpent",
    "HeadSealed",
    "HoldingsConfirmed",
    "InvoiceMade",
    "LegOffered",
    "LogOpened",
    "Mode",
    "Payload",
    "PaymentEnded",
    "PaymentKind",
    "PaymentOutcome",
    "PaymentPlanned",
    "PenaltyBroadcast",
    "PenaltyConfirmed",
    "PenaltyDisconnected",
    "PenaltyPrepared",
    "PenaltyRefused",
    "PenaltyReplaced",
    "PreimageLearned",
    "ReceiptsCovered",
    "Recorded",
    "ReportedBy",
    "RescueSigned",
    "ResolvedAs",
    "SegmentClosed",
    "SettleBroadcast",
    "SettleConfirmed",
    "SettleDisconnected",
    "SettlePrepared",
    "SignatureSet",
    "SoftFinal",
    "SoftwareDeployed",
    "Source",
    "SpendConfirmed",
    "SpendDisconnected",
    "SpendKind",
    "SpendReplaced",
    "SpendSeen",
    "StateAccepted",
    "StateCommitted",
    "StateOffered",
    "StateProposed",
    "StateRevoked",
    "StateUpdated",
    "StoreRestored",
    "TowerAcknowledged",
    "TurnYielded",
    "UnavailableReason",
    "Upcast",
    "Via",
    "decode_payload",
    "encode_payload",
    "envelopes",
    "topics_of",
]
