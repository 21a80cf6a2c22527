"""Hash functions of the contract: SHA-256, BIP-340 tagged hashes, HASH160.

RIPEMD-160 is computed in Python: OpenSSL 3 leaves it out by default, so `hashlib` cannot be relied on
(protocol chapter 1). It is used on short inputs only.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


@lru_cache(maxsize=64)
def _midstate(tag: str) -> _Hash:
    return hashlib.sha256(sha256(tag.encode()) * 2)


def tagged_hash(tag: str, message: bytes) -> bytes:
    """SHA256(SHA256(tag) ‖ SHA256(tag) ‖ message) as in BIP-340, 32 bytes."""
    state = _midstate(tag).copy()
    state.update(message)
    return state.digest()


def hash160(data: bytes) -> bytes:
    """RIPEMD160(SHA256(data)), 20 bytes."""
    return ripemd160(sha256(data))


_ORDER_LEFT = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (7, 4, 13, 1, 10, 6, 15, 3, 12, 0, 9, 5, 2, 14, 11, 8),
    (3, 10, 14, 4, 9, 15, 8, 1, 2, 7, 0, 6, 13, 11, 5, 12),
    (1, 9, 11, 10, 0, 8, 12, 4, 13, 3, 7, 15, 14, 5, 6, 2),
    (4, 0, 5, 9, 7, 12, 2, 10, 14, 1, 3, 8, 11, 6, 15, 13),
)
_ORDER_RIGHT = (
    (5, 14, 7, 0, 9, 2, 11, 4, 13, 6, 15, 8, 1, 10, 3, 12),
    (6, 11, 3, 7, 0, 13, 5, 10, 14, 15, 8, 12, 4, 9, 1, 2),
    (15, 5, 1, 3, 7, 14, 6, 9, 11, 8, 12, 2, 10, 0, 4, 13),
    (8, 6, 4, 1, 3, 11, 15, 0, 5, 12, 2, 13, 9, 7, 10, 14),
    (12, 15, 10, 4, 1, 5, 8, 7, 6, 2, 13, 14, 0, 3, 9, 11),
)
_TURN_LEFT = (
    (11, 14, 15, 12, 5, 8, 7, 9, 11, 13, 14, 15, 6, 7, 9, 8),
    (7, 6, 8, 13, 11, 9, 7, 15, 7, 12, 15, 9, 11, 7, 13, 12),
    (11, 13, 6, 7, 14, 9, 13, 15, 14, 8, 13, 6, 5, 12, 7, 5),
    (11, 12, 14, 15, 14, 15, 9, 8, 9, 14, 5, 6, 8, 6, 5, 12),
    (9, 15, 5, 11, 6, 8, 13, 12, 5, 12, 13, 14, 11, 8, 5, 6),
)
_TURN_RIGHT = (
    (8, 9, 9, 11, 13, 15, 15, 5, 7, 7, 8, 11, 14, 14, 12, 6),
    (9, 13, 15, 7, 12, 8, 9, 11, 7, 7, 12, 7, 6, 15, 13, 11),
    (9, 7, 15, 11, 8, 6, 6, 14, 12, 13, 5, 14, 13, 13, 7, 5),
    (15, 5, 8, 11, 14, 14, 6, 14, 6, 9, 12, 9, 12, 5, 15, 8),
    (8, 5, 12, 9, 12, 5, 14, 6, 8, 13, 6, 5, 15, 13, 11, 11),
)
_ADD_LEFT = (0, 0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xA953FD4E)
_ADD_RIGHT = (0x50A28BE6, 0x5C4DD124, 0x6D703EF3, 0x7A6D76E9, 0)
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0)
_MASK = 0xFFFFFFFF

_Words = tuple[int, ...]


def ripemd160(data: bytes) -> bytes:
    """RIPEMD-160, 20 bytes (Dobbertin, Bosselaers, Preneel 1996)."""
    padding = b"\x80" + bytes((55 - len(data)) % 64)
    padded = data + padding + (8 * len(data)).to_bytes(8, "little")
    state: _Words = _START
    for start in range(0, len(padded), 64):
        state = _compress(state, padded[start : start + 64])
    return b"".join(word.to_bytes(4, "little") for word in state)


def _compress(state: _Words, block: bytes) -> _Words:
    words = [int.from_bytes(block[i : i + 4], "little") for i in range(0, 64, 4)]
    left = right = state
    for step in range(5):
        left = _round(left, words, step, _ORDER_LEFT[step], _TURN_LEFT[step], _ADD_LEFT[step])
        right = _round(right, words, 4 - step, _ORDER_RIGHT[step], _TURN_RIGHT[step], _ADD_RIGHT[step])
    # The two lines are joined crosswise: word i takes left i+1 and right i+2.
    joined = [(state[i] + left[i - 4] + right[i - 3]) & _MASK for i in (1, 2, 3, 4, 0)]
    return tuple(joined)


def _round(state: _Words, words: list[int], function: int, order: _Words, turns: _Words, constant: int) -> _Words:
    a, b, c, d, e = state
    for index, turn in zip(order, turns, strict=True):
        total = (a + _mix(function, b, c, d) + words[index] + constant) & _MASK
        a, b, c, d, e = e, (_rotate(total, turn) + e) & _MASK, b, _rotate(c, 10), d
    return a, b, c, d, e


def _mix(function: int, x: int, y: int, z: int) -> int:
    if function == 0:
        return x ^ y ^ z
    if function == 1:
        return (x & y) | (~x & z)
    if function == 2:
        return (x | ~y) ^ z
    if function == 3:
        return (x & z) | (y & ~z)
    return x ^ (y | ~z)


def _rotate(word: int, turn: int) -> int:
    return ((word << turn) | (word >> (32 - turn))) & _MASK
