"""Events of the `chain` stream. Its version is the compare-and-set of the cursor."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from domain.chain import BlockRef
from domain.events.base import Hash32, OutPointBytes, Payload
from domain.events.enums import Source, UnavailableReason

Work = Annotated[bytes, Meta(max_length=32)]
"""Cumulative chainwork, big-endian without leading zeros."""


class CursorStarted(Payload, frozen=True, kw_only=True, array_like=True):
    """First contact with a node: the cursor stands at its tip. Written once."""

    TOPIC: ClassVar[str] = "bk01"
    block: BlockRef
    chain_hash: Hash32
    chainwork: Work


class BlockConnected(Payload, frozen=True, kw_only=True, array_like=True):
    """A block was added to the active chain that the tower follows. `header` proves "not before this block"."""

    TOPIC: ClassVar[str] = "bk02"
    block: BlockRef
    prev: Hash32
    header: Annotated[bytes, Meta(min_length=80, max_length=80)]
    chainwork: Work
    source: Source


class BlockDisconnected(Payload, frozen=True, kw_only=True, array_like=True):
    """The cursor went back by one block; `parent` is the new cursor, `chainwork` its cumulative work."""

    TOPIC: ClassVar[str] = "bk03"
    block: BlockRef
    parent: BlockRef
    chainwork: Work


class BlockUnavailable(Payload, frozen=True, kw_only=True, array_like=True):
    """A block of the active chain could not be read; the cursor waits in front of it."""

    TOPIC: ClassVar[str] = "bk04"
    block: BlockRef
    reason: UnavailableReason


class AuditMismatch(Payload, frozen=True, kw_only=True, array_like=True):
    """The independent outpoint audit disagrees with the read model (1 = unspent, 2 = spent)."""

    TOPIC: ClassVar[str] = "bk05"
    outpoint: OutPointBytes
    expected: int
    found: int
    block: BlockRef
