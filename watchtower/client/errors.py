"""The exceptions of the SDK.

StateChannelError
├── ConfigurationError      an option or variable that cannot be used
├── NotConnected            connect() was not called, or disconnect() was
├── TowerUnreachable        no connection, no answer within timeout_ms, or no HTTP
├── WrongTower              the tower answers for another network or with another key
├── UnexpectedAnswer        an answer that this version cannot read
├── ReceiptRefused          stored, but without a receipt that can be relied on: not armed
│   ├── ReceiptMissing, ReceiptForged, ReceiptOfAnotherTower, ReceiptOfAnotherUpload
│   └── ReceiptFromTheFuture, ReceiptOutOfOrder
└── TowerProblem            the tower refused: slug, status, title, detail
├── MalformedRequest, Unauthorized, ChannelNotFound, StateNotStored
├── SequenceConflict, EquivocationRefused, ChannelIsClosed, ChannelIsNotReady, AlreadyRegistered
├── ParamsRefused, StateRefused, SignatureRefused, SecretRefused, FundingRefused
├── ChallengeRejected, TransactionNotKnown, SelfBreachRefused, ApplicationDeclined
├── Forbidden, TooManyRequests, TowerFull
├── PointNotFound, PastIsTooLong
└── TowerUnavailable    503 and 507: nothing was stored, try again
"""

from __future__ import annotations

from domain.contract.receipts import SignedReceipt
from watchtower.wire.api import Problem

URN = "urn:state-channel:"


class StateChannelError(Exception):
    """Base of everything that the SDK raises by itself."""


class ConfigurationError(StateChannelError):
    """An option or variable that cannot be used."""


class NotConnected(StateChannelError):
    """The client is not connected."""


class TowerUnreachable(StateChannelError):
    """The tower did not answer in time; whether it stored the request is unknown. Send the same bytes again."""


class WrongTower(StateChannelError):
    """The tower serves another network, or is not the one that was expected."""


class UnexpectedAnswer(StateChannelError):
    """The answer is not what this version of the API promises."""


class ReceiptRefused(StateChannelError):
    """The tower's receipt must not be relied on: the update counts as not armed (rule U4), whatever the tower stored.

    `receipt` holds the bytes that were refused, if they are a receipt at all: they may be proof of misbehavior.
    """

    def __init__(self, sentence: str, receipt: SignedReceipt | None = None) -> None:
        super().__init__(sentence)
        self.receipt = receipt


class ReceiptMissing(ReceiptRefused):
    """The tower gave no receipt. It gives none while its log may be an older copy; ask again later."""


class ReceiptForged(ReceiptRefused):
    """No receipt that can be read, or a signature that does not fit."""


class ReceiptOfAnotherTower(ReceiptRefused):
    """A good signature of a tower that was not asked."""


class ReceiptOfAnotherUpload(ReceiptRefused):
    """About another channel, another state number, or other bytes than those that were sent."""


class ReceiptFromTheFuture(ReceiptRefused):
    """It names an event that the tower's log does not reach."""


class ReceiptOutOfOrder(ReceiptRefused):
    """Its place, epoch or log contradicts receipts that the client holds already."""


class TowerProblem(StateChannelError):
    """The tower refused the request and stored nothing."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title)
        self.slug = problem.type.removeprefix(URN)
        self.status = problem.status
        self.title = problem.title
        self.detail = problem.detail


class MalformedRequest(TowerProblem):
    """Bytes or fields that the tower cannot read."""


class Unauthorized(TowerProblem):
    """The token is missing or wrong."""


class ChannelNotFound(TowerProblem):
    """The tower has no such channel."""


class StateNotStored(TowerProblem):
    """The tower has no state with this number."""


class SequenceConflict(TowerProblem):
    """The state number is not the next one."""


class EquivocationRefused(TowerProblem):
    """Another content is stored for this number (rule U5)."""


class ChannelIsClosed(TowerProblem):
    """The channel is closing or closed (rule U6)."""


class ChannelIsNotReady(TowerProblem):
    """The funding is not confirmed deep enough, or the channel is frozen."""


class AlreadyRegistered(TowerProblem):
    """The channel is registered with other content."""


class ParamsRefused(TowerProblem):
    """Channel constants that must not be used."""


class StateRefused(TowerProblem):
    """A state that breaks a rule of the protocol."""


class SignatureRefused(TowerProblem):
    """A signature that does not verify."""


class SecretRefused(TowerProblem):
    """A revocation secret that does not fit."""


class FundingRefused(TowerProblem):
    """The funding output is missing, spent or different."""


class ChallengeRejected(TowerProblem):
    """The proof is invalid, or does not fit what is published."""


class TransactionNotKnown(TowerProblem):
    """Neither the tower nor its node has the bytes of this transaction."""


class SelfBreachRefused(TowerProblem):
    """The own state was revoked; publishing it would give everything to the counterparty."""


class ApplicationDeclined(TowerProblem):
    """The channel's application, which the tower asks as well, does not accept the state."""


class Forbidden(TowerProblem):
    """The token or key is good, but not for this."""


class TooManyRequests(TowerProblem):
    """Slow down; nothing was stored."""


class TowerFull(TowerProblem):
    """The tower watches as much as it wants to; use another one, or ask its operator."""


class PointNotFound(TowerProblem):
    """The tower's log has no such position, or followed no such block."""


class PastIsTooLong(TowerProblem):
    """Too much has happened since that point for an answer over the API; the tower's operator can ask its log."""


class TowerUnavailable(TowerProblem):
    """The tower cannot take the request now; nothing was stored, try again."""


AWAY = (TowerUnreachable, TowerUnavailable, TooManyRequests)
"""The tower cannot answer now: it restarts, stands by until it leads, or is asked too often. Ask again later."""

BY_SLUG: dict[str, type[TowerProblem]] = {
    "malformed": MalformedRequest,
    "unauthorized": Unauthorized,
    "unknown-channel": ChannelNotFound,
    "unknown-state": StateNotStored,
    "sequence-gap": SequenceConflict,
    "equivocation": EquivocationRefused,
    "channel-closed": ChannelIsClosed,
    "channel-not-ready": ChannelIsNotReady,
    "channel-exists": AlreadyRegistered,
    "invalid-params": ParamsRefused,
    "invalid-state": StateRefused,
    "invalid-signature": SignatureRefused,
    "invalid-secret": SecretRefused,
    "funding-mismatch": FundingRefused,
    "challenge-refused": ChallengeRejected,
    "unknown-transaction": TransactionNotKnown,
    "self-breach": SelfBreachRefused,
    "application-refused": ApplicationDeclined,
    "clock-skew": Unauthorized,
    "forbidden": Forbidden,
    "rate-limited": TooManyRequests,
    "tower-full": TowerFull,
    "unknown-point": PointNotFound,
    "past-too-long": PastIsTooLong,
    "keystore-conflict": AlreadyRegistered,
}


def error_of(problem: Problem) -> TowerProblem:
    """The exception of a problem document; an unknown slug is a plain `TowerProblem`."""
    slug = problem.type.removeprefix(URN)
    unavailable = TowerUnavailable if problem.status in (503, 507) else TowerProblem
    return BY_SLUG.get(slug, unavailable)(problem)
