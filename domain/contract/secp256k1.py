"""The only door to libsecp256k1: its context, and the forms in which points and secrets pass.

Every argument is measured before it reaches the library, which reads fixed sizes behind bare pointers and
ends the process on an argument that it calls illegal. As a second line an illegal-argument callback is
installed that does nothing, so such a call merely fails. The callback is the C library's `strlen`, an existing
function with a compatible signature: a Python callback would need memory that is writable and executable,
which a hardened service must not have.

For `domain/contract/keys.py` and `musig.py` alone. Points and key pairs are the library's own structs.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

from domain.errors import MalformedInput

__all__ = [
    "CTX",
    "ORDER",
    "erase",
    "ffi",
    "keypair",
    "lib",
    "must",
    "need",
    "need_secret",
    "parse_point",
    "read_point",
    "read_xonly",
    "secret_in_range",
    "serialize_point",
]

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Order of the group of secp256k1."""

KEPT_POINTS = 8192
"""Parsed points that are kept: reading one takes a square root, and a channel's keys are read at every state."""

CTX = GLOBAL_CONTEXT.ctx

_COMPRESSED = lib.SECP256K1_EC_COMPRESSED


def _install_guard() -> None:
    address = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value
    callback = ffi.cast("void (*)(const char *, void *)", address)
    lib.secp256k1_context_set_illegal_callback(CTX, callback, ffi.NULL)


_install_guard()


def secret_in_range(candidate: bytes) -> bool:
    """Whether these are 32 bytes with a value from 1 to the group order minus 1."""
    return len(candidate) == 32 and 0 < int.from_bytes(candidate, "big") < ORDER


def parse_point(public: bytes) -> Any:
    """A compressed key (33 bytes) in the library's form; `MalformedInput` off the curve. Shared, see `read_point`."""
    need(public, 33, "a compressed public key")
    point = read_point(public)
    if point is None:
        raise MalformedInput("a public key is not on the curve")
    return point


@lru_cache(maxsize=KEPT_POINTS)
def read_point(public: bytes) -> Any:
    """The parsed form of a compressed key, or None. Shared: whoever changes a point makes a copy first."""
    # The library also reads hybrid and uncompressed forms; with 33 bytes only 02 and 03 can pass.
    if len(public) != 33:
        return None
    point = ffi.new("secp256k1_pubkey *")
    return point if lib.secp256k1_ec_pubkey_parse(CTX, point, public, 33) else None


@lru_cache(maxsize=KEPT_POINTS)
def read_xonly(public: bytes) -> Any:
    """The parsed form of an x-only key, or None. Shared, and never changed."""
    if len(public) != 32:
        return None
    key = ffi.new("secp256k1_xonly_pubkey *")
    return key if lib.secp256k1_xonly_pubkey_parse(CTX, key, public) else None


def serialize_point(point: Any) -> bytes:
    """The compressed form (33 bytes) of a point."""
    serialized = ffi.new("unsigned char[33]")
    size = ffi.new("size_t *", 33)
    written = lib.secp256k1_ec_pubkey_serialize(CTX, serialized, size, point, _COMPRESSED)
    must(written, "a point cannot be written")
    return bytes(ffi.buffer(serialized))


def keypair(secret: bytes) -> Any:
    """The library's key pair of a secret (32 bytes); it holds the secret until `erase`."""
    pair = ffi.new("secp256k1_keypair *")
    must(lib.secp256k1_keypair_create(CTX, pair, secret), "the secret is out of range")
    return pair


def erase(struct: Any) -> None:
    """Overwrite a struct of the library with zeros."""
    buffer = ffi.buffer(struct)
    buffer[:] = bytes(len(buffer))


def need(value: bytes, size: int, what: str) -> None:
    """`MalformedInput` unless the value has this size; `what` names it."""
    if len(value) != size:
        raise MalformedInput(f"{what} has {size} bytes, got {len(value)}")


def need_secret(secret: bytes) -> None:
    """`MalformedInput` unless these are 32 bytes and a scalar that is a secret key."""
    need(secret, 32, "a secret key")
    if not secret_in_range(secret):
        raise MalformedInput("a secret key is zero or not below the group order")


def must(answer: int, complaint: str) -> None:
    """`MalformedInput` with this complaint if the library answered 0."""
    if not answer:
        raise MalformedInput(complaint)
