"""Closed lists of small integers that stand in events. 0 is always *unknown*; numbers are never reused."""

from __future__ import annotations

from enum import IntEnum


class SpendKind(IntEnum):
    """What a spend of the funding outpoint is (protocol 7.2)."""

    UNKNOWN = 0
    COOP = 1
    OWN_CLOSE = 2
    SELF_BREACH = 3
    BREACH = 4
    PEER_CLOSE = 5
    FUTURE_STATE = 6
    UNKNOWN_SPEND = 7


class Source(IntEnum):
    """Where a fact was learned."""

    UNKNOWN = 0
    MEMPOOL = 1
    BLOCK = 2
    AUDIT = 3
    OPERATOR = 4
    CLIENT = 5
    CATCH_UP = 6
    UPLOAD = 7


class BroadcastOutcome(IntEnum):
    """What an answer of the node to a broadcast means. Every value but the first two means: try again."""

    UNKNOWN = 0
    ACCEPTED = 1
    ALREADY_KNOWN = 2
    INSUFFICIENT_FEE = 3
    BELOW_MINIMUM = 4
    PARENT_MISSING = 5
    MISSING_INPUTS = 6
    NOT_YET_FINAL = 7
    REJECTED = 8


class Via(IntEnum):
    """How a transaction was handed to the node."""

    UNKNOWN = 0
    RAW = 1
    PACKAGE = 2


class Mode(IntEnum):
    """How the tower is able to punish (protocol 8.3)."""

    UNKNOWN = 0
    KEYED = 1
    PRESIGNED = 2
    SEALED = 3


class BidMethod(IntEnum):
    """How a penalty got its feerate."""

    UNKNOWN = 0
    RESIGN = 1
    LADDER = 2


class AlertKind(IntEnum):
    """Conditions that a person must know about."""

    UNKNOWN = 0
    UNARMED_BREACH = 1
    SELF_BREACH = 2
    FUTURE_STATE = 3
    UNKNOWN_SPEND = 4
    EQUIVOCATION = 5
    FUNDS_LOST = 6
    UNECONOMICAL_TO_PUNISH = 7
    OUTPUT_CLAIMED_BY_COUNTERPARTY = 8
    SECRET_INCONSISTENT = 9
    SETTLEMENT_UNAVAILABLE = 10
    UNARMED_CLAIM = 11
    PENALTY_REFUSED = 12
    PENALTY_SKIPPED = 13
    LADDER_TOO_SHORT = 14


class ResolvedAs(IntEnum):
    """How a channel ended."""

    UNKNOWN = 0
    COOP = 1
    SETTLED = 2
    PUNISHED = 3
    LOST = 4
    DOUBLE_SPENT = 5


class EraseReason(IntEnum):
    """Why the keys of a channel were erased."""

    UNKNOWN = 0
    RETENTION = 1
    CLIENT_REQUEST = 2


class FreezeReason(IntEnum):
    """Why a party must not publish or update."""

    UNKNOWN = 0
    RESTORED = 1
    DATA_LOSS = 2
    EQUIVOCATION = 3


class AbandonReason(IntEnum):
    """Why an opening was given up."""

    UNKNOWN = 0
    PEER_REFUSED = 1
    TIMED_OUT = 2
    OWNER = 3


class UnavailableReason(IntEnum):
    """Why a block could not be read."""

    UNKNOWN = 0
    PRUNED = 1
    NODE_ERROR = 2
    UNPARSEABLE = 3


class ReportedBy(IntEnum):
    """Who told a frozen party the highest state number."""

    UNKNOWN = 0
    PEER = 1
    TOWER = 2
    OPERATOR = 3


class CoveredBy(IntEnum):
    """Who ended the wait for what a restored log lacks."""

    UNKNOWN = 0
    CLIENTS = 1
    OPERATOR = 2


class ClaimPath(IntEnum):
    """How a conditional output is taken (protocol 3.5)."""

    UNKNOWN = 0
    SUCCESS = 1
    TIMEOUT = 2


class ChallengeVerdict(IntEnum):
    """What `verify_proof` said (protocol 6.3)."""

    UNKNOWN = 0
    VALID_ENFORCEABLE = 1
    VALID_EVIDENCE_ONLY = 2
    INVALID = 3


class AnswerOutcome(IntEnum):
    """What a counter-proof achieves (protocol 6.4)."""

    UNKNOWN = 0
    CONCEDED = 1
    REFUTED = 2
    SUPERSEDED = 3
    COUNTER_INVALID = 4


class PaymentKind(IntEnum):
    """What a payment is to the party that keeps it."""

    UNKNOWN = 0
    INVOICE = 1
    PAY = 2
    FORWARD = 3
    SWAP = 4


class PaymentOutcome(IntEnum):
    """How a payment ended."""

    UNKNOWN = 0
    PAID = 1
    FAILED = 2
