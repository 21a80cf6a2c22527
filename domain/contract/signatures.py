"""Signatures as records hold them, apart from the witnesses that carry them on chain."""

from __future__ import annotations

import msgspec


class PenaltySignature(msgspec.Struct, frozen=True):
    """What a penalty's witness holds: signature (64 bytes), hash type and, in profile 1, R (33 bytes)."""

    signature: bytes
    hash_type: int
    revocation_key: bytes | None = None
