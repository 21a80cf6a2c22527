"""Revocation: the shachain of per-commitment secrets and the keys made from it (protocol 2.3, BOLT-3).

State n uses index 2^48-1-n, so indexes fall as states rise. All secrets of one party fit in at most 49
buckets; every stored secret lets all secrets be derived that differ from it in lower bits only.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

from domain.contract import keys
from domain.errors import InvalidSecret, MalformedInput
from domain.units import MAX_SEQUENCE

FIRST_INDEX = 2**48 - 1
"""Index of state 0."""

Buckets = tuple[tuple[int, bytes], ...]
"""Stored secrets as (index, secret), ordered by bucket, at most 49."""

NO_SECRETS: Buckets = ()


def index_of(sequence: int) -> int:
    """Shachain index of a state; `MalformedInput` outside 0 … 2^48-2, where index 0 would be the seed."""
    if not 0 <= sequence <= MAX_SEQUENCE:
        raise MalformedInput(f"a state number lies between 0 and 2^48-2, got {sequence}")
    return FIRST_INDEX - sequence


def generate_from_seed(seed: bytes, index: int) -> bytes:
    """Secret of an index (0 … 2^48-1) from a 32-byte seed."""
    if len(seed) != 32 or not 0 <= index <= FIRST_INDEX:
        raise MalformedInput("a shachain seed has 32 bytes and an index 48 bits")
    return _descend(seed, index, 48)


def commitment_secret(seed: bytes, sequence: int) -> bytes:
    """Per-commitment secret of a state, 32 bytes."""
    return generate_from_seed(seed, index_of(sequence))


def commitment_point(seed: bytes, sequence: int) -> bytes:
    """Per-commitment point P of a state, 33 bytes."""
    return keys.public_key(commitment_secret(seed, sequence))


@lru_cache(maxsize=4096)
def revocation_public(basepoint: bytes, point: bytes) -> bytes:
    """Revocation key R (33 bytes) from the counterparty's revocation basepoint and the publisher's point P."""
    by_basepoint, by_point = _factors(basepoint, point)
    return keys.sum_of_products(((basepoint, by_basepoint), (point, by_point)))


def revocation_secret(basepoint_secret: bytes, secret: bytes) -> bytes:
    """Secret r of the revocation key, from the basepoint's secret and the revealed per-commitment secret."""
    basepoint, point = keys.public_key(basepoint_secret), keys.public_key(secret)
    by_basepoint, by_point = _factors(basepoint, point)
    parts = (keys.mul_secrets(basepoint_secret, by_basepoint), keys.mul_secrets(secret, by_point))
    return keys.add_secrets(*parts)


def insert_secret(buckets: Buckets, secret: bytes, index: int) -> Buckets:
    """The buckets with one more secret; `InvalidSecret` if it does not explain those stored before.

    Whether the secret fits the announced point is a separate check (`check_secret`).
    """
    if len(secret) != 32 or not 0 <= index <= FIRST_INDEX:
        raise MalformedInput("a per-commitment secret has 32 bytes and its index 48 bits")
    known = derive_secret(buckets, index)
    if known is not None and known != secret:
        raise InvalidSecret("another secret is stored for this state; keep it and alert the operator")
    if known is not None:
        return buckets
    bit, below, above = _low_bit(index), [], []
    for bucket in buckets:
        stored_index, stored = bucket
        if _low_bit(stored_index) > bit:
            above.append(bucket)
        elif _low_bit(stored_index) < bit:
            if _descend_to(secret, index, stored_index) != stored:
                raise InvalidSecret(
                    "the revealed secret contradicts an earlier one; keep the old state and alert the operator"
                )
            below.append(bucket)
    return (*below, (index, secret), *above)


def derive_secret(buckets: Buckets, index: int) -> bytes | None:
    """The secret of an index if the stored ones allow it, else None."""
    for stored_index, stored in buckets:
        if stored_index ^ index < _low_bit(stored_index):
            return _descend_to(stored, stored_index, index)
    return None


def check_secret(secret: bytes, point: bytes) -> None:
    """Raise `InvalidSecret` unless secret·G is the announced point."""
    if not keys.secret_in_range(secret) or keys.public_key(secret) != point:
        raise InvalidSecret("the revealed secret does not belong to the announced point; keep the old state")


def _factors(basepoint: bytes, point: bytes) -> tuple[bytes, bytes]:
    by_basepoint = sha256(basepoint + point).digest()
    by_point = sha256(point + basepoint).digest()
    return keys.reduce_scalar(by_basepoint), keys.reduce_scalar(by_point)


def _low_bit(index: int) -> int:
    """The lowest bit that is set; 2^48 for index 0. Its number is that of the bucket."""
    return index & -index or 1 << 48


def _descend_to(secret: bytes, index: int, target: int) -> bytes:
    """Secret of `target` if it differs from `index` only below the lowest set bit; else a value that fits nothing."""
    if index ^ target >= _low_bit(index):
        return b""
    return _descend(secret, target, _low_bit(index).bit_length() - 1)


def _descend(secret: bytes, index: int, bits: int) -> bytes:
    value = bytearray(secret)
    for bit in range(bits - 1, -1, -1):
        if index >> bit & 1:
            value[bit // 8] ^= 1 << (bit % 8)
            value = bytearray(sha256(value).digest())
    return bytes(value)
