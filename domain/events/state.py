"""States of a channel and their revocation (owner's and party's store).

`StateOffered` … `StateRevoked` record the messages of the exchange one by one; `StateUpdated` is the one-call
form of `update_state` and equals them. An own secret is never stored: releasing it is recorded as a number.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from domain.events.base import Amount, Hash32, Number, Payload, Point, Script, Signature
from domain.events.enums import FreezeReason, ReportedBy
from domain.units import Side

HeaderBytes = Annotated[bytes, Meta(min_length=320, max_length=320)]
"""Encoded `StateHeader` (protocol 4.2)."""

StateData = Annotated[bytes, Meta(max_length=65_536)]
"""Opaque application data of a state."""


class SignatureSet(msgspec.Struct, frozen=True, array_like=True):
    """The four signatures of one party for one state (protocol 4.4)."""

    state: Signature
    settle_a: Signature
    settle_b: Signature
    commit_peer: Signature


class StateOffered(Payload, frozen=True, kw_only=True, array_like=True):
    """Messages 0a/0b: a state was offered. Commits to nothing. `descriptors` as in `StateUpdated`."""

    TOPIC: ClassVar[str] = "st01"
    sequence: Number
    by: Side
    header: HeaderBytes
    balance_a: Amount
    balance_b: Amount
    conditions: bytes
    state_data: StateData
    descriptors: tuple[tuple[int, str, Script], ...] = ()


class StateProposed(Payload, frozen=True, kw_only=True, array_like=True):
    """Message 1: the proposer's settlement signatures are out; rule U5 binds from here."""

    TOPIC: ClassVar[str] = "st02"
    sequence: Number
    by: Side
    state_hash: Hash32
    state_sig: Signature
    settle_a: Signature
    settle_b: Signature


class StateAccepted(Payload, frozen=True, kw_only=True, array_like=True):
    """Message 2: all four signatures of the acceptor."""

    TOPIC: ClassVar[str] = "st03"
    sequence: Number
    by: Side
    state_sig: Signature
    settle_a: Signature
    settle_b: Signature
    commit_peer: Signature


class StateCommitted(Payload, frozen=True, kw_only=True, array_like=True):
    """Message 3: the proposer's commitment signature; all eight signatures are stored."""

    TOPIC: ClassVar[str] = "st04"
    sequence: Number
    by: Side
    commit_peer: Signature


class StateRevoked(Payload, frozen=True, kw_only=True, array_like=True):
    """A state was revoked by `party`.

    Counterparty: `secret` is the verified revealed secret. Own side: `secret` is None; the event records the
    release and is durable before the message leaves (self-breach guard).
    """

    TOPIC: ClassVar[str] = "st05"
    party: Side
    sequence: Number
    secret: Hash32 | None
    next_point: Point


class StateUpdated(Payload, frozen=True, kw_only=True, array_like=True):
    """A complete state: header, content, all eight signatures and, if known, the revocation of its predecessor.

    `own_point` is the owner's per-commitment point of this state: with it the service rebuilds both commitments
    and both settlements and checks every signature itself (docs/adr/0005). `descriptors` holds what the 64-byte
    records of descriptor outputs only hash: (id, descriptor, scriptPubKey).
    """

    TOPIC: ClassVar[str] = "st06"
    sequence: Number
    header: HeaderBytes
    balance_a: Amount
    balance_b: Amount
    conditions: bytes
    state_data: StateData
    sigs_a: SignatureSet
    sigs_b: SignatureSet
    revoked_secret: Hash32 | None
    next_point: Point | None
    tip_height: int
    own_point: Point
    descriptors: tuple[tuple[int, str, Script], ...] = ()


class TowerAcknowledged(Payload, frozen=True, kw_only=True, array_like=True):
    """The tower stored the state durably (rule U4); state 0 is the registration.

    `receipt` is the body of `RCP2` (204 bytes). Earlier versions stored none.
    """

    TOPIC: ClassVar[str] = "st07"
    tower_id: Hash32
    sequence: Number
    upload_sha256: Hash32
    receipt: Annotated[bytes, Meta(max_length=204)]
    receipt_sig: Annotated[bytes, Meta(max_length=64)]


class TurnYielded(Payload, frozen=True, kw_only=True, array_like=True):
    """`by` handed the proposal of state `sequence` to the other side (rule U3)."""

    TOPIC: ClassVar[str] = "st08"
    sequence: Number
    by: Side


class ChannelFrozen(Payload, frozen=True, kw_only=True, array_like=True):
    """This side must not sign or publish until the highest state number is known again."""

    TOPIC: ClassVar[str] = "st09"
    reason: FreezeReason
    evidence: Annotated[bytes, Meta(max_length=1024)]


class ChannelUnfrozen(Payload, frozen=True, kw_only=True, array_like=True):
    """The highest state number is known again and this side's log holds it: signing is allowed again."""

    TOPIC: ClassVar[str] = "st10"
    reported_by: ReportedBy
    sequence: Number


class EquivocationFound(Payload, frozen=True, kw_only=True, array_like=True):
    """The peer signed or offered a second content for a state number (rule U5)."""

    TOPIC: ClassVar[str] = "st11"
    sequence: Number
    stored_state_hash: Hash32
    offered_header: HeaderBytes
    offered_sig: Signature | None
