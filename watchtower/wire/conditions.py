"""Bodies about preimages of payments and claims on conditional outputs."""

from __future__ import annotations

from typing import Literal

import msgspec

from watchtower.wire.hexes import Hex32, SecretHex, TxidHex

ClaimStatus = Literal["PREPARED", "MEMPOOL", "OURS", "THEIRS"]
"""Signed; held by the node; taken in a block by us; taken in a block by the counterparty."""


class PreimageRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/channels/{id}/preimages`: 32 bytes that open an HTLC of a stored state."""

    preimage: SecretHex


class PreimageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The preimage is stored durably. The same one again gets the same answer."""

    channel_id: Hex32
    payment_hash: Hex32


class PreimageBody(msgspec.Struct, frozen=True, kw_only=True):
    """One payment and what opens it; `payment_hash` is the SHA-256 of `preimage`.

    `public` = a transaction showed it to everybody.
    """

    payment_hash: Hex32
    preimage: SecretHex
    public: bool


class PreimagesBody(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/channels/{id}/preimages`: those of the channel's pending HTLCs, wherever they became known.

    `missing` are the payment hashes of HTLCs that the owner may claim once somebody hands over the preimage.
    """

    channel_id: Hex32
    preimages: tuple[PreimageBody, ...]
    missing: tuple[Hex32, ...]


class ClaimBody(msgspec.Struct, frozen=True, kw_only=True):
    """The newest transaction that takes a conditional output after a settlement; amounts in satoshi.

    `type` and `id` name the condition. `path` and `fee` are of our own claim and null without one; `missed` says that
    the counterparty took what was ours to take.
    """

    settle_txid: TxidHex
    type: int
    id: int
    status: ClaimStatus
    txid: TxidHex
    path: Literal["SUCCESS", "TIMEOUT"] | None = None
    fee: int | None = None
    height: int | None = None
    missed: bool = False
