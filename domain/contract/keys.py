"""Keys of secp256k1: points and secrets, BIP-340 and ECDSA signatures, taproot tweaks.

Secrets are 32-byte strings; none of them appears in a message of an error raised here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from domain.contract.hashes import tagged_hash
from domain.contract.secp256k1 import (
    CTX,
    ORDER,
    erase,
    ffi,
    keypair,
    lib,
    must,
    need,
    need_secret,
    parse_point,
    read_point,
    read_xonly,
    secret_in_range,
    serialize_point,
)
from domain.errors import InvalidSignature, MalformedInput

__all__ = ["ORDER", "secret_in_range"]


def public_key(secret: bytes) -> bytes:
    """Compressed public key (33 bytes) of a secret; `MalformedInput` if the secret is out of range."""
    need_secret(secret)
    point = ffi.new("secp256k1_pubkey *")
    must(lib.secp256k1_ec_pubkey_create(CTX, point, secret), "the secret has no public key")
    return serialize_point(point)


def xonly(public: bytes) -> bytes:
    """The 32-byte x coordinate of a compressed key (33 bytes), which must be a valid point."""
    need(public, 33, "a compressed public key")
    if public[0] not in (2, 3):
        raise MalformedInput("a compressed public key begins with 02 or 03")
    return lift_x(public[1:])[1:]


def is_public_key(candidate: bytes) -> bool:
    """Whether these are 33 bytes that name a point of the curve in compressed form."""
    return read_point(candidate) is not None


def is_xonly(candidate: bytes) -> bool:
    """Whether these are 32 bytes that are the x coordinate of a point of the curve."""
    return is_public_key(b"\x02" + candidate)


def lift_x(x: bytes) -> bytes:
    """The point with this x coordinate (32 bytes) and even y, 33 bytes (`lift_x` of BIP-340)."""
    need(x, 32, "an x-only key")
    lifted = b"\x02" + x
    parse_point(lifted)
    return lifted


def sign_schnorr(secret: bytes, message: bytes, aux: bytes) -> bytes:
    """BIP-340 signature (64 bytes) over a 32-byte message with 32 bytes of auxiliary randomness.

    The signature is verified before it is returned: a fault during signing may reveal the key.
    """
    signer = SchnorrSigner(secret)
    try:
        return signer.sign(message, aux)
    finally:
        signer.erase()


class SchnorrSigner:
    """Signs with one secret again and again: the public key, a third of the work, is made once.

    The secret stays in this object until `erase`. Use from any thread.
    """

    __slots__ = ("_key", "_pair")

    def __init__(self, secret: bytes) -> None:
        need_secret(secret)
        self._pair = keypair(secret)
        self._key = ffi.new("secp256k1_xonly_pubkey *")
        must(lib.secp256k1_keypair_xonly_pub(CTX, self._key, ffi.NULL, self._pair), "the key pair is damaged")

    def __repr__(self) -> str:
        return "<SchnorrSigner>"

    def __reduce__(self) -> str:
        raise TypeError("a signer is not copied or sent anywhere")

    def sign(self, message: bytes, aux: bytes) -> bytes:
        """As `sign_schnorr`, which also verifies."""
        need(message, 32, "a signed message")
        need(aux, 32, "auxiliary randomness")
        signature = ffi.new("unsigned char[64]")
        must(lib.secp256k1_schnorrsig_sign32(CTX, signature, message, self._pair, aux), "signing failed")
        if not lib.secp256k1_schnorrsig_verify(CTX, signature, message, 32, self._key):
            raise InvalidSignature("a signature made just now does not verify; suspect the machine")
        return bytes(ffi.buffer(signature))

    def erase(self) -> None:
        """Forget the secret; nothing is signed afterwards."""
        erase(self._pair)


def verify_schnorr(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a BIP-340 signature (64 bytes) by an x-only key (32) fits a message (32).

    Wrong lengths and keys off the curve give False: they cannot be valid signatures.
    """
    if len(message) != 32 or len(signature) != 64:
        return False
    key = read_xonly(public)
    return key is not None and bool(lib.secp256k1_schnorrsig_verify(CTX, signature, message, 32, key))


def sign_ecdsa(secret: bytes, message: bytes) -> bytes:
    """ECDSA signature as r ‖ s (64 bytes) over a 32-byte hash: nonce of RFC 6979, low s (BIP-146).

    The signature is verified before it is returned: a fault during signing may reveal the key.
    """
    need_secret(secret)
    need(message, 32, "a signed message")
    signature = ffi.new("secp256k1_ecdsa_signature *")
    signed = lib.secp256k1_ecdsa_sign(CTX, signature, message, secret, ffi.NULL, ffi.NULL)
    must(signed, "signing failed")
    if not lib.secp256k1_ecdsa_verify(CTX, signature, message, parse_point(public_key(secret))):
        raise InvalidSignature("a signature made just now does not verify; suspect the machine")
    return _compact(signature)


def verify_ecdsa(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether r ‖ s (64 bytes, low s) by a compressed key (33 bytes) fits a hash (32).

    Wrong lengths, keys off the curve and a high s give False: they cannot be valid signatures.
    """
    point = read_point(public)
    if point is None or len(message) != 32 or len(signature) != 64:
        return False
    parsed = ffi.new("secp256k1_ecdsa_signature *")
    if not lib.secp256k1_ecdsa_signature_parse_compact(CTX, parsed, signature):
        return False
    return bool(lib.secp256k1_ecdsa_verify(CTX, parsed, message, point))


def to_der(signature: bytes) -> bytes:
    """The DER form (at most 72 bytes, 71 with low s) of an ECDSA signature r ‖ s (64 bytes)."""
    need(signature, 64, "an ECDSA signature")
    parsed = ffi.new("secp256k1_ecdsa_signature *")
    must(lib.secp256k1_ecdsa_signature_parse_compact(CTX, parsed, signature), "a signature value is too large")
    written, size = ffi.new("unsigned char[72]"), ffi.new("size_t *", 72)
    must(lib.secp256k1_ecdsa_signature_serialize_der(CTX, written, size, parsed), "DER does not fit 72 bytes")
    return bytes(ffi.buffer(written, size[0]))


def from_der(encoded: bytes) -> bytes | None:
    """r ‖ s (64 bytes) of a DER signature, or None unless these are exactly the bytes that `to_der` writes."""
    parsed = ffi.new("secp256k1_ecdsa_signature *")
    if not lib.secp256k1_ecdsa_signature_parse_der(CTX, parsed, encoded, len(encoded)):
        return None
    signature = _compact(parsed)
    return signature if to_der(signature) == encoded else None


def even_secret(secret: bytes) -> bytes:
    """The secret whose point has the same x coordinate and even y: this one, or its negation."""
    if public_key(secret)[0] == 2:
        return secret
    negated = ffi.new("unsigned char[32]", secret)
    must(lib.secp256k1_ec_seckey_negate(CTX, negated), "the secret cannot be negated")
    return bytes(ffi.buffer(negated))


def taproot_tweak(internal: bytes, merkle_root: bytes) -> bytes:
    """The tweak of BIP-341 for an internal key (32 bytes) and a Merkle root (32, or empty)."""
    return tagged_hash("TapTweak", internal + merkle_root)


def tweak_xonly(internal: bytes, tweak: bytes) -> tuple[bytes, int]:
    """Output key lift_x(internal) + tweak·G: x coordinate (32 bytes) and parity of y (0 or 1)."""
    need(internal, 32, "an internal key")
    need(tweak, 32, "a tweak")
    key, point = ffi.new("secp256k1_xonly_pubkey *"), ffi.new("secp256k1_pubkey *")
    even = parse_point(b"\x02" + internal)  # as in `xonly`, so that a key is read once
    must(lib.secp256k1_xonly_pubkey_from_pubkey(CTX, key, ffi.NULL, even), "the internal key is damaged")
    must(lib.secp256k1_xonly_pubkey_tweak_add(CTX, point, key, tweak), "the tweak is out of range")
    output = serialize_point(point)
    return output[1:], output[0] & 1


def tweak_secret(secret: bytes, merkle_root: bytes) -> bytes:
    """Secret (32 bytes) that signs for the taproot output of this internal secret and Merkle root.

    The secret is negated first if its point has odd y, as BIP-341 wants.
    """
    need_secret(secret)
    if merkle_root:
        need(merkle_root, 32, "a Merkle root")
    tweak = taproot_tweak(public_key(secret)[1:], merkle_root)
    pair = keypair(secret)
    try:
        must(lib.secp256k1_keypair_xonly_tweak_add(CTX, pair, tweak), "the tweak is out of range")
        tweaked = ffi.new("unsigned char[32]")
        must(lib.secp256k1_keypair_sec(CTX, tweaked, pair), "the key pair is damaged")
    finally:
        erase(pair)
    return bytes(ffi.buffer(tweaked))


def sum_of_products(terms: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Sum of points (33 bytes) times scalars (32 bytes, big-endian, 1 to the group order minus 1), 33 bytes.

    `MalformedInput` for a point off the curve, a scalar out of range, no terms, or terms that cancel out.
    """
    products = []
    for point, scalar in terms:
        need_secret(scalar)
        product = ffi.new("secp256k1_pubkey *", parse_point(point)[0])  # a copy: the product takes its place
        must(lib.secp256k1_ec_pubkey_tweak_mul(CTX, product, scalar), "the scalar is out of range")
        products.append(product)
    return _sum(products)


def reduce_scalar(number: bytes) -> bytes:
    """A 32-byte big-endian number modulo the group order, 32 bytes."""
    need(number, 32, "a scalar")
    return (int.from_bytes(number, "big") % ORDER).to_bytes(32, "big")


def add_secrets(first: bytes, second: bytes) -> bytes:
    """Sum of two secrets modulo the group order; `MalformedInput` if it is zero."""
    need_secret(first)
    need_secret(second)
    total = ffi.new("unsigned char[32]", first)
    must(lib.secp256k1_ec_seckey_tweak_add(CTX, total, second), "the secrets add up to zero")
    return bytes(ffi.buffer(total))


def mul_secrets(first: bytes, second: bytes) -> bytes:
    """Product of two secrets modulo the group order."""
    need_secret(first)
    need_secret(second)
    product = ffi.new("unsigned char[32]", first)
    must(lib.secp256k1_ec_seckey_tweak_mul(CTX, product, second), "a factor is out of range")
    return bytes(ffi.buffer(product))


def _sum(points: Sequence[Any]) -> bytes:
    if not points:
        raise MalformedInput("at least one point is needed for a sum")
    total = ffi.new("secp256k1_pubkey *")
    pointers = ffi.new("secp256k1_pubkey *[]", points)
    must(lib.secp256k1_ec_pubkey_combine(CTX, total, pointers, len(points)), "the points add up to infinity")
    return serialize_point(total)


def _compact(signature: Any) -> bytes:
    written = ffi.new("unsigned char[64]")
    must(lib.secp256k1_ecdsa_signature_serialize_compact(CTX, written, signature), "the signature is damaged")
    return bytes(ffi.buffer(written))
