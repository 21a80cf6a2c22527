"""Shape of every event: a frozen, positional payload and the envelope that places it in a stream.

The position of a field is the format (MessagePack arrays). New fields are appended at the end with a default;
an incompatible change is a new class with a new topic. `Payload` itself never grows: a second field would move
every position of every event (docs/adr/0003).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

Hash32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""32 bytes: a hash or an x-only key; transaction and block hashes in internal byte order."""

Point = Annotated[bytes, Meta(min_length=33, max_length=33)]
"""A compressed public key."""

Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
"""A BIP-340 signature."""

OutPointBytes = Annotated[bytes, Meta(min_length=36, max_length=36)]
"""txid (internal order) and output number (u32 little-endian)."""

Script = Annotated[bytes, Meta(max_length=42)]
"""A witness program of at most 42 bytes."""

MAX_RAW_TRANSACTION = 100_000
"""Bytes of a transaction that an event may hold. Decoding checks it, so whoever makes an event checks it first."""

RawTransaction = Annotated[bytes, Meta(max_length=MAX_RAW_TRANSACTION)]
"""A serialized transaction with witness."""

Amount = Annotated[int, Meta(ge=0, le=2_100_000_000_000_000)]
"""Satoshi."""

Number = Annotated[int, Meta(ge=0, le=2**48 - 2)]
"""State number."""

Text120 = Annotated[str, Meta(max_length=120)]


class Payload(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What happened, without its place. `recorded_at` is the only wall-clock field; nothing may depend on it."""

    TOPIC: ClassVar[str] = ""
    recorded_at: int


class Envelope(msgspec.Struct, frozen=True):
    """One event in its stream. Versions of a stream start at 1 and have no gaps."""

    stream: str
    version: int
    topic: str
    payload: Payload


class Recorded(msgspec.Struct, frozen=True):
    """An envelope together with its notification id, the order of the whole log (1, 2, 3 …)."""

    id: int
    envelope: Envelope
