"""The exception tree of the domain. A domain error is a refusal: nothing was changed.

    DomainError
    ├── MalformedInput          bytes or text that cannot be read (HTTP 400)
    ├── Refusal                 readable, but against a rule (HTTP 422 unless said otherwise)
    │   ├── InvalidParams       channel constants that must not be used
    │   ├── InvalidState        amounts, reserve, conditions, header fields
    │   ├── InvalidSignature    a signature does not verify on the recomputed transaction
    │   ├── InvalidSecret       a revocation secret that does not fit its point or the shachain
    │   ├── SequenceGap         a state number that is not the next one (409)
    │   ├── Equivocation        another content for a number that has one (409, rule U5)
    │   ├── ChannelClosed       a close is in progress or done (409, rule U6)
    │   ├── ChannelNotReady     not yet confirmed, frozen (409)
    │   ├── UnknownChannel      no such channel (404)
    │   ├── ChannelExists       already registered with other content (409)
    │   ├── FundingMismatch     the funding output is missing, spent, or pays another script or value
    │   ├── SelfBreach          would publish a state whose own secret was released
    │   ├── ChallengeRefused    a proof that is invalid or does not fit the published transaction
    │   ├── UnknownTransaction  neither the log nor the node knows it (404)
    │   ├── UnknownState        no state with this number is stored (404)
    │   ├── UnknownPoint        the log has no such position, block or height (404)
    │   └── PastTooLong         an answer about this point would take too long here
    └── LogCorrupt              an event that cannot be decoded

Each error carries `slug`, the stable last part of its problem URN, and a sentence that says what was wrong
and what to do. Messages never contain a secret.
"""

from __future__ import annotations

from typing import ClassVar


class DomainError(Exception):
    """Base of all refusals; `slug` is stable and part of the public interface."""

    slug: ClassVar[str] = "domain-error"


class MalformedInput(DomainError):
    """Bytes or text that cannot be read: wrong length, not hexadecimal, trailing bytes, value out of range."""

    slug = "malformed"


class Refusal(DomainError):
    """Readable, but against a rule."""

    slug = "refused"


class InvalidParams(Refusal):
    """Channel constants that must not be used (duplicate keys, capacity out of policy, forbidden script …)."""

    slug = "invalid-params"


class InvalidState(Refusal):
    """A state whose amounts, conditions or header fields break a rule of protocol 5.1."""

    slug = "invalid-state"


class InvalidSignature(Refusal):
    """A signature does not verify against the recomputed transaction or header."""

    slug = "invalid-signature"


class InvalidSecret(Refusal):
    """A revocation secret that does not match the announced point or the earlier secrets."""

    slug = "invalid-secret"


class SequenceGap(Refusal):
    """The state number is not the successor of the stored one."""

    slug = "sequence-gap"


class Equivocation(Refusal):
    """A second, different content for a state number (rule U5). Evidence is kept, nothing is replaced."""

    slug = "equivocation"


class ChannelClosed(Refusal):
    """The funding output is spent or a close was signed; no more updates (rule U6)."""

    slug = "channel-closed"


class ChannelNotReady(Refusal):
    """The funding output is not confirmed deep enough, or the channel is frozen."""

    slug = "channel-not-ready"


class UnknownChannel(Refusal):
    """No channel with this id."""

    slug = "unknown-channel"


class ChannelExists(Refusal):
    """A channel with this id was registered before, with other content."""

    slug = "channel-exists"


class FundingMismatch(Refusal):
    """The funding output does not exist, is spent, or pays another script or value than agreed."""

    slug = "funding-mismatch"


class SelfBreach(Refusal):
    """Publishing this state would let the counterparty punish us: its secret was released (rule U2)."""

    slug = "self-breach"


class ChallengeRefused(Refusal):
    """A proof that is invalid, accuses the wrong side or state, or names a transaction that is not there."""

    slug = "challenge-refused"


class UnknownTransaction(Refusal):
    """Neither the log nor the node has the bytes of this transaction."""

    slug = "unknown-transaction"


class UnknownState(Refusal):
    """No state with this number is stored."""

    slug = "unknown-state"


class UnknownPoint(Refusal):
    """The log has no such position, or followed no such block."""

    slug = "unknown-point"


class PastTooLong(Refusal):
    """An answer about this point of the log would need more events than a question may cost."""

    slug = "past-too-long"


class LogCorrupt(DomainError):
    """A stored event that cannot be decoded: unknown topic or damaged bytes."""

    slug = "log-corrupt"
