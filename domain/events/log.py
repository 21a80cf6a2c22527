"""Events about the log itself: sealed heads, and what a restored copy of it means."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from domain.events.base import Hash32, Number, Payload, Signature
from domain.events.enums import CoveredBy

Position = Annotated[int, Meta(ge=0, le=2**53)]
"""Number of events up to and including one; 0 before the first."""

Epoch = Annotated[int, Meta(ge=0, le=2**32 - 1)]
"""How often the log went on from an older copy; 0 for one that never did."""


class HeadSealed(Payload, frozen=True, kw_only=True, array_like=True):
    """The tower signed the chain head at `position` (`domain.log_chain.sealed_head_hash`)."""

    TOPIC: ClassVar[str] = "lg03"
    position: Position
    head: Hash32
    sig: Signature


class StoreRestored(Payload, frozen=True, kw_only=True, array_like=True):
    """The operator accepted that the log goes on behind `position`, although `high_water` had been reached before.

    `head` is the chain head at `position`. Receipts of earlier epochs may name events that this log does not hold.
    `source` says where the copy came from.
    """

    TOPIC: ClassVar[str] = "lg06"
    epoch: Epoch
    position: Position
    head: Hash32
    high_water: Position
    source: Annotated[str, Meta(max_length=120)]


class SegmentClosed(Payload, frozen=True, kw_only=True, array_like=True):
    """The file number `segment` ends with this event; `head` is the chain head at `position`, right before it."""

    TOPIC: ClassVar[str] = "lg08"
    segment: Annotated[int, Meta(ge=0)]
    position: Position
    head: Hash32


class ReceiptsCovered(Payload, frozen=True, kw_only=True, array_like=True):
    """What was lost before `epoch` is here again, or nobody waits for it any more; `missing` channels never came."""

    TOPIC: ClassVar[str] = "lg10"
    epoch: Epoch
    by: CoveredBy
    missing: Annotated[int, Meta(ge=0)]


class HoldingsConfirmed(Payload, frozen=True, kw_only=True, array_like=True):
    """After a restore the channel's owner compared: the tower holds all that the owner has, up to `sequence`."""

    TOPIC: ClassVar[str] = "st12"
    epoch: Epoch
    sequence: Number
