"""Opening and funding of a channel."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from domain.chain import BlockRef
from domain.events.base import Amount, Hash32, OutPointBytes, Payload, Point, RawTransaction, Script, Signature
from domain.events.enums import AbandonReason, Mode, Source
from domain.units import Side

ParamsBytes = Annotated[bytes, Meta(min_length=516, max_length=516)]
"""Encoded `ChannelParams` (protocol 2.2)."""


class ChannelProposed(Payload, frozen=True, kw_only=True, array_like=True):
    """An owner's channel before its funding outpoint is known (`params` carry a blank outpoint)."""

    TOPIC: ClassVar[str] = "fu01"
    params: ParamsBytes
    own_side: Side
    channel_index: int
    own_points: tuple[Point, Point]
    counterparty_points: tuple[Point, Point] | None
    initial_balances: tuple[Amount, Amount]


class ChannelRegistered(Payload, frozen=True, kw_only=True, array_like=True):
    """The tower took the channel under its watch. The revocation basepoint secret is in the keystore, not here.

    `highest_revoked` is -1 when the counterparty revoked nothing yet; `points` are its P^{h+1} and P^{h+2};
    `buckets` its shachain (index, secret). `funding_tx` is the funding transaction (appended in schema 1).
    """

    TOPIC: ClassVar[str] = "fu02"
    mode: Mode
    params: ParamsBytes
    watched: Side
    sweep_spk: Script
    client_key: Hash32
    highest_revoked: Annotated[int, Meta(ge=-1, le=2**48 - 2)]
    points: tuple[Point, Point] | None
    buckets: tuple[tuple[int, Hash32], ...]
    policy: Annotated[bytes, Meta(max_length=256)]
    upload_sha256: Hash32
    upload_sig: Signature
    tip_height: int
    funding_tx: RawTransaction | None = None


class FundingBroadcast(Payload, frozen=True, kw_only=True, array_like=True):
    """The funding transaction was seen in the mempool for the first time, or sent by us."""

    TOPIC: ClassVar[str] = "fu03"
    outpoint: OutPointBytes
    channel_id: Hash32
    source: Source
    raw: RawTransaction | None


class FundingConfirmed(Payload, frozen=True, kw_only=True, array_like=True):
    """The funding output is on the active chain, in exactly this block."""

    TOPIC: ClassVar[str] = "fu04"
    outpoint: OutPointBytes
    block: BlockRef


class FundingDisconnected(Payload, frozen=True, kw_only=True, array_like=True):
    """The block with the funding output (or with its double spend) left the active chain."""

    TOPIC: ClassVar[str] = "fu05"
    outpoint: OutPointBytes
    block: BlockRef


class FundingDoubleSpent(Payload, frozen=True, kw_only=True, array_like=True):
    """A conflicting spend of a funding input confirmed; the channel is void while this block stands."""

    TOPIC: ClassVar[str] = "fu06"
    outpoint: OutPointBytes
    conflict: Hash32
    block: BlockRef


class ChannelAbandoned(Payload, frozen=True, kw_only=True, array_like=True):
    """An opening was given up before funding."""

    TOPIC: ClassVar[str] = "fu07"
    reason: AbandonReason
