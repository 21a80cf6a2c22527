"""The state header: what both parties agree on under one number (protocol 4.2, 4.3).

The header names the four transactions of the state; whoever reads one rebuilds them (`state.py`).
"""

from __future__ import annotations

import msgspec

from domain.contract.hashes import tagged_hash
from domain.errors import MalformedInput
from domain.once import once
from domain.units import MAX_SEQUENCE, Side

HEADER_SIZE = 320
MAGIC = b"SCT1"
VERSION = 1
NO_HASH = bytes(32)


class StateHeader(msgspec.Struct, frozen=True, cache_hash=True, dict=True):
    """Header version 1. Balances in satoshi, hashes 32 bytes in internal order. Bytes and hash are made once."""

    n_cond: int
    channel_id: bytes
    seq: int
    balance_a: int
    balance_b: int
    cond_root: bytes
    state_data_hash: bytes
    commit_txid_a: bytes
    commit_txid_b: bytes
    settle_txid_a: bytes
    settle_txid_b: bytes
    prev_state_hash: bytes
    app_id: bytes

    def encode(self) -> bytes:
        """The 320 bytes; `MalformedInput` if a field does not fit its place."""
        return self._encoded

    @once
    def _encoded(self) -> bytes:
        try:
            head = MAGIC + bytes((VERSION, 0)) + self.n_cond.to_bytes(2, "little") + self.channel_id
            numbers = (self.seq, self.balance_a, self.balance_b)
            head += b"".join(number.to_bytes(8, "little") for number in numbers)
        except OverflowError:
            raise MalformedInput("a number of the state header is negative or too large") from None
        encoded = head + b"".join(self._hashes())
        if len(head) != 64 or len(encoded) != HEADER_SIZE:
            raise MalformedInput("every hash of a state header has 32 bytes")
        return encoded

    def _hashes(self) -> tuple[bytes, ...]:
        transactions = (self.commit_txid_a, self.commit_txid_b, self.settle_txid_a, self.settle_txid_b)
        return (self.cond_root, self.state_data_hash, *transactions, self.prev_state_hash, self.app_id)

    @classmethod
    def decode(cls, raw: bytes) -> StateHeader:
        """Read exactly 320 bytes; refuses other magic, versions, flags and numbers above 2^48-2."""
        if len(raw) != HEADER_SIZE:
            raise MalformedInput(f"a state header has {HEADER_SIZE} bytes, got {len(raw)}")
        if raw[:4] != MAGIC or raw[4] != VERSION or raw[5] != 0:
            raise MalformedInput("a state header starts with SCT1, version 1 and flags 0")
        if _u(raw, 40, 8) > MAX_SEQUENCE:
            raise MalformedInput("the state number of a header is above 2^48-2")
        hashes = [raw[start : start + 32] for start in range(64, HEADER_SIZE, 32)]
        return cls(_u(raw, 6, 2), raw[8:40], _u(raw, 40, 8), _u(raw, 48, 8), _u(raw, 56, 8), *hashes)

    @once
    def state_hash(self) -> bytes:
        """What `state_sig` signs and the next header refers to, 32 bytes."""
        return tagged_hash("SCT1/state", self.encode())

    @property
    def balances(self) -> tuple[int, int]:
        """Balances of A and B in satoshi."""
        return self.balance_a, self.balance_b

    def commit_txid(self, side: Side) -> bytes:
        """Txid of one side's commitment, internal order."""
        return self.commit_txid_a if side is Side.A else self.commit_txid_b

    def settle_txid(self, side: Side) -> bytes:
        """Txid of the settlement that spends one side's commitment, internal order."""
        return self.settle_txid_a if side is Side.A else self.settle_txid_b


class PreviousState(msgspec.Struct, frozen=True):
    """What a successor is checked against: number, hash and balances of the state before."""

    seq: int
    state_hash: bytes
    balance_a: int
    balance_b: int
    app_id: bytes

    @classmethod
    def of(cls, header: StateHeader) -> PreviousState:
        """The facts of a header that its successor needs."""
        return cls(header.seq, header.state_hash, header.balance_a, header.balance_b, header.app_id)


def state_data_hash(state_data: bytes) -> bytes:
    """Hash of the application's bytes, also of none; 32 bytes."""
    return tagged_hash("SCT1/state-data", state_data)


def onchain_state_hash(header: StateHeader) -> bytes:
    """What a settlement carries under flag onchain_state: the header's hash without settlement txids."""
    blank = msgspec.structs.replace(header, settle_txid_a=NO_HASH, settle_txid_b=NO_HASH)
    return tagged_hash("SCT1/state-onchain", blank.encode())


def _u(raw: bytes, start: int, size: int) -> int:
    return int.from_bytes(raw[start : start + size], "little")
