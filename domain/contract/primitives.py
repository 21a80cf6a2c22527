"""What the scripts of both profiles share: numbers, the anchor, dust, HTLC terms, script templates' results."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from domain.contract.params import ANCHOR_SAT, P2A_SPK
from domain.errors import InvalidState, MalformedInput
from domain.transaction import TxOut
from domain.units import Side

ANCHOR = TxOut(ANCHOR_SAT, P2A_SPK)
MAX_EXPIRY = 500_000_000
"""Locktimes from here on are times, not heights."""


class Output(msgspec.Struct, frozen=True):
    """Where money lies in a channel: `spk` is the script (scriptPubKey) that a transaction pays to, 34 bytes."""

    spk: bytes


class ClaimPath(IntEnum):
    """How an HTLC output is claimed: with the preimage, or after the expiry."""

    SUCCESS = 0
    TIMEOUT = 1


class HtlcTerms(msgspec.Struct, frozen=True):
    """What the script of an HTLC is made of: who offers, SHA256 of the preimage (32 bytes), expiry height."""

    offerer: Side
    payment_hash: bytes
    expiry: int


def check_terms(terms: HtlcTerms) -> None:
    """Raise `MalformedInput` for a hash of another size and `InvalidState` for an expiry that is no height."""
    if len(terms.payment_hash) != 32:
        raise MalformedInput("a payment hash has 32 bytes")
    if not 1 <= terms.expiry < MAX_EXPIRY:
        raise InvalidState(f"an HTLC expires at a height from 1 to {MAX_EXPIRY - 1}, got {terms.expiry}")


def dust_limit(spk: bytes) -> int:
    """Smallest value in satoshi that an output of this witness program may have; never taken from a node."""
    return 3 * (9 + len(spk) + 67)


def push_number(number: int) -> bytes:
    """Minimal push of a non-negative number: OP_0 … OP_16, else a minimal CScriptNum."""
    if number < 0:
        raise MalformedInput("scripts of this contract push non-negative numbers only")
    if number == 0:
        return b"\x00"
    if number <= 16:
        return bytes((0x50 + number,))
    # One more bit than the number needs: the highest bit is the sign.
    size = number.bit_length() // 8 + 1
    return bytes((size,)) + number.to_bytes(size, "little")


def witness_weight(*sizes: int) -> int:
    """Weight in WU of a witness whose items have these sizes (each below 253 bytes)."""
    return 1 + sum(1 + size for size in sizes)
