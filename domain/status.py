"""The status of a channel (protocol 6.1): one rule for the aggregate and for the read models."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from domain.chain import BlockRef
from domain.events import SpendKind


class ChannelStatus(StrEnum):
    """The states of protocol 6.1."""

    PROPOSED = "PROPOSED"
    FUNDING_BROADCAST = "FUNDING_BROADCAST"
    ACTIVE = "ACTIVE"
    FROZEN = "FROZEN"
    COOP_CLOSING = "COOP_CLOSING"
    UNILATERAL = "UNILATERAL"
    SETTLED = "SETTLED"
    PUNISHED = "PUNISHED"
    LOST = "LOST"
    DOUBLE_SPENT = "DOUBLE_SPENT"
    UNKNOWN_SPEND = "UNKNOWN_SPEND"
    RESOLVED = "RESOLVED"


COMMITMENT_KINDS = frozenset(
    {SpendKind.OWN_CLOSE, SpendKind.SELF_BREACH, SpendKind.BREACH, SpendKind.PEER_CLOSE, SpendKind.FUTURE_STATE}
)
"""Kinds whose first output is a contest output of this channel."""

HONEST_KINDS = frozenset({SpendKind.OWN_CLOSE, SpendKind.PEER_CLOSE})
"""Closes that the tower settles."""


class PresentSpend(Protocol):
    """The spend of the funding output that counts now; `block` is None in the mempool."""

    @property
    def kind(self) -> SpendKind:
        """What the classifier says."""

    @property
    def txid(self) -> bytes:
        """Its txid."""

    @property
    def block(self) -> BlockRef | None:
        """Where it stands."""


class ContestEnd(Protocol):
    """The confirmed spend of a contest output."""

    @property
    def is_penalty(self) -> bool:
        """Whether it pays our sweep script."""

    @property
    def revoked(self) -> bool:
        """Whether the commitment that it spends was revoked."""


class StatusFacts(Protocol):
    """What the rule asks about a channel beside its spends; anything but None or False means yes."""

    @property
    def resolved(self) -> object:
        """Over for good."""

    @property
    def double_spend(self) -> object:
        """The funding lost its coins in a block."""

    @property
    def close_signed(self) -> object:
        """A cooperative close has a signature."""

    @property
    def frozen(self) -> object:
        """No more updates."""

    @property
    def funding_block(self) -> object:
        """Where the funding output was created."""

    @property
    def funding_seen(self) -> object:
        """The funding transaction was seen or sent."""


def channel_status(
    facts: StatusFacts, spend: PresentSpend | None, end_of: Callable[[bytes], ContestEnd | None]
) -> ChannelStatus:
    """Status from the facts, the present spend and the end of a commitment (by its txid).

    ACTIVE here means confirmed: how deep is the caller's policy.
    """
    if facts.resolved is not None:
        return ChannelStatus.RESOLVED
    if facts.double_spend is not None:
        return ChannelStatus.DOUBLE_SPENT
    if spend is not None:
        return _close_status(spend, end_of)
    if facts.close_signed:
        return ChannelStatus.COOP_CLOSING
    if facts.frozen:
        return ChannelStatus.FROZEN
    if facts.funding_block is not None:
        return ChannelStatus.ACTIVE
    return ChannelStatus.FUNDING_BROADCAST if facts.funding_seen else ChannelStatus.PROPOSED


def _close_status(spend: PresentSpend, end_of: Callable[[bytes], ContestEnd | None]) -> ChannelStatus:
    if spend.kind is SpendKind.COOP:
        return ChannelStatus.SETTLED if spend.block else ChannelStatus.COOP_CLOSING
    if spend.kind not in COMMITMENT_KINDS:
        return ChannelStatus.UNKNOWN_SPEND
    end = end_of(spend.txid)
    if end is None:
        return ChannelStatus.UNILATERAL
    if end.is_penalty:
        return ChannelStatus.PUNISHED
    return ChannelStatus.LOST if end.revoked else ChannelStatus.SETTLED
