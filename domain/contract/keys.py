"""The only door to libsecp256k1: keys, BIP-340 and ECDSA signatures, taproot tweaks, key aggregation, MuSig2.

Every argument is measured before it reaches the library, which reads fixed sizes behind bare pointers and
ends the process on an argument that it calls illegal. As a second line an illegal-argument callback is
installed that does nothing, so such a call merely fails. The callback is the C library's `strlen`, an existing
function with a compatible signature: a Python callback would need memory that is writable and executable,
which a hardened service must not have.

Secrets are 32-byte strings; none of them appears in a message of an error raised here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

from domain.contract.hashes import tagged_hash
from domain.errors import InvalidSignature, MalformedInput

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Order of the group of secp256k1."""

KEPT_POINTS = 8192
"""Parsed points that are kept: reading one takes a square root, and a channel's keys are read at every state."""

_COMPRESSED = lib.SECP256K1_EC_COMPRESSED
_CTX = GLOBAL_CONTEXT.ctx


def _install_guard() -> None:
    address = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value
    callback = ffi.cast("void (*)(const char *, void *)", address)
    lib.secp256k1_context_set_illegal_callback(_CTX, callback, ffi.NULL)


_install_guard()


def public_key(secret: bytes) -> bytes:
    """Compressed public key (33 bytes) of a secret; `MalformedInput` if the secret is out of range."""
    _need_secret(secret)
    point = ffi.new("secp256k1_pubkey *")
    _must(lib.secp256k1_ec_pubkey_create(_CTX, point, secret), "the secret has no public key")
    return _serialize(point)


def xonly(public: bytes) -> bytes:
    """The 32-byte x coordinate of a compressed key (33 bytes), which must be a valid point."""
    _need(public, 33, "a compressed public key")
    if public[0] not in (2, 3):
        raise MalformedInput("a compressed public key begins with 02 or 03")
    return lift_x(public[1:])[1:]


def is_public_key(candidate: bytes) -> bool:
    """Whether these are 33 bytes that name a point of the curve in compressed form."""
    return _read_point(candidate) is not None


def is_xonly(candidate: bytes) -> bool:
    """Whether these are 32 bytes that are the x coordinate of a point of the curve."""
    return is_public_key(b"\x02" + candidate)


def lift_x(x: bytes) -> bytes:
    """The point with this x coordinate (32 bytes) and even y, 33 bytes (`lift_x` of BIP-340)."""
    _need(x, 32, "an x-only key")
    lifted = b"\x02" + x
    _parse(lifted)
    return lifted


def secret_in_range(candidate: bytes) -> bool:
    """Whether these are 32 bytes with a value from 1 to the group order minus 1."""
    return len(candidate) == 32 and 0 < int.from_bytes(candidate, "big") < ORDER


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
        _need_secret(secret)
        self._pair = _keypair(secret)
        self._key = ffi.new("secp256k1_xonly_pubkey *")
        _must(lib.secp256k1_keypair_xonly_pub(_CTX, self._key, ffi.NULL, self._pair), "the key pair is damaged")

    def __repr__(self) -> str:
        return "<SchnorrSigner>"

    def __reduce__(self) -> str:
        raise TypeError("a signer is not copied or sent anywhere")

    def sign(self, message: bytes, aux: bytes) -> bytes:
        """As `sign_schnorr`, which also verifies."""
        _need(message, 32, "a signed message")
        _need(aux, 32, "auxiliary randomness")
        signature = ffi.new("unsigned char[64]")
        _must(lib.secp256k1_schnorrsig_sign32(_CTX, signature, message, self._pair, aux), "signing failed")
        if not lib.secp256k1_schnorrsig_verify(_CTX, signature, message, 32, self._key):
            raise InvalidSignature("a signature made just now does not verify; suspect the machine")
        return bytes(ffi.buffer(signature))

    def erase(self) -> None:
        """Forget the secret; nothing is signed afterwards."""
        _erase(self._pair)


def verify_schnorr(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a BIP-340 signature (64 bytes) by an x-only key (32) fits a message (32).

    Wrong lengths and keys off the curve give False: they cannot be valid signatures.
    """
    if len(message) != 32 or len(signature) != 64:
        return False
    key = _read_xonly(public)
    return key is not None and bool(lib.secp256k1_schnorrsig_verify(_CTX, signature, message, 32, key))


def sign_ecdsa(secret: bytes, message: bytes) -> bytes:
    """ECDSA signature as r ‖ s (64 bytes) over a 32-byte hash: nonce of RFC 6979, low s (BIP-146).

    The signature is verified before it is returned: a fault during signing may reveal the key.
    """
    _need_secret(secret)
    _need(message, 32, "a signed message")
    signature = ffi.new("secp256k1_ecdsa_signature *")
    signed = lib.secp256k1_ecdsa_sign(_CTX, signature, message, secret, ffi.NULL, ffi.NULL)
    _must(signed, "signing failed")
    if not lib.secp256k1_ecdsa_verify(_CTX, signature, message, _parse(public_key(secret))):
        raise InvalidSignature("a signature made just now does not verify; suspect the machine")
    return _compact(signature)


def verify_ecdsa(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether r ‖ s (64 bytes, low s) by a compressed key (33 bytes) fits a hash (32).

    Wrong lengths, keys off the curve and a high s give False: they cannot be valid signatures.
    """
    point = _read_point(public)
    if point is None or len(message) != 32 or len(signature) != 64:
        return False
    parsed = ffi.new("secp256k1_ecdsa_signature *")
    if not lib.secp256k1_ecdsa_signature_parse_compact(_CTX, parsed, signature):
        return False
    return bool(lib.secp256k1_ecdsa_verify(_CTX, parsed, message, point))


def to_der(signature: bytes) -> bytes:
    """The DER form (at most 72 bytes, 71 with low s) of an ECDSA signature r ‖ s (64 bytes)."""
    _need(signature, 64, "an ECDSA signature")
    parsed = ffi.new("secp256k1_ecdsa_signature *")
    _must(lib.secp256k1_ecdsa_signature_parse_compact(_CTX, parsed, signature), "a signature value is too large")
    written, size = ffi.new("unsigned char[72]"), ffi.new("size_t *", 72)
    _must(lib.secp256k1_ecdsa_signature_serialize_der(_CTX, written, size, parsed), "DER does not fit 72 bytes")
    return bytes(ffi.buffer(written, size[0]))


def from_der(encoded: bytes) -> bytes | None:
    """r ‖ s (64 bytes) of a DER signature, or None unless these are exactly the bytes that `to_der` writes."""
    parsed = ffi.new("secp256k1_ecdsa_signature *")
    if not lib.secp256k1_ecdsa_signature_parse_der(_CTX, parsed, encoded, len(encoded)):
        return None
    signature = _compact(parsed)
    return signature if to_der(signature) == encoded else None


def even_secret(secret: bytes) -> bytes:
    """The secret whose point has the same x coordinate and even y: this one, or its negation."""
    if public_key(secret)[0] == 2:
        return secret
    negated = ffi.new("unsigned char[32]", secret)
    _must(lib.secp256k1_ec_seckey_negate(_CTX, negated), "the secret cannot be negated")
    return bytes(ffi.buffer(negated))


def taproot_tweak(internal: bytes, merkle_root: bytes) -> bytes:
    """The tweak of BIP-341 for an internal key (32 bytes) and a Merkle root (32, or empty)."""
    return tagged_hash("TapTweak", internal + merkle_root)


def tweak_xonly(internal: bytes, tweak: bytes) -> tuple[bytes, int]:
    """Output key lift_x(internal) + tweak·G: x coordinate (32 bytes) and parity of y (0 or 1)."""
    _need(internal, 32, "an internal key")
    _need(tweak, 32, "a tweak")
    key, point = ffi.new("secp256k1_xonly_pubkey *"), ffi.new("secp256k1_pubkey *")
    even = _parse(b"\x02" + internal)  # as in `xonly`, so that a key is read once
    _must(lib.secp256k1_xonly_pubkey_from_pubkey(_CTX, key, ffi.NULL, even), "the internal key is damaged")
    _must(lib.secp256k1_xonly_pubkey_tweak_add(_CTX, point, key, tweak), "the tweak is out of range")
    output = _serialize(point)
    return output[1:], output[0] & 1


def tweak_secret(secret: bytes, merkle_root: bytes) -> bytes:
    """Secret (32 bytes) that signs for the taproot output of this internal secret and Merkle root.

    The secret is negated first if its point has odd y, as BIP-341 wants.
    """
    _need_secret(secret)
    if merkle_root:
        _need(merkle_root, 32, "a Merkle root")
    tweak = taproot_tweak(public_key(secret)[1:], merkle_root)
    pair = _keypair(secret)
    try:
        _must(lib.secp256k1_keypair_xonly_tweak_add(_CTX, pair, tweak), "the tweak is out of range")
        tweaked = ffi.new("unsigned char[32]")
        _must(lib.secp256k1_keypair_sec(_CTX, tweaked, pair), "the key pair is damaged")
    finally:
        _erase(pair)
    return bytes(ffi.buffer(tweaked))


def sum_of_products(terms: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Sum of points (33 bytes) times scalars (32 bytes, big-endian, 1 to the group order minus 1), 33 bytes.

    `MalformedInput` for a point off the curve, a scalar out of range, no terms, or terms that cancel out.
    """
    products = []
    for point, scalar in terms:
        _need_secret(scalar)
        product = ffi.new("secp256k1_pubkey *", _parse(point)[0])  # a copy: the product takes its place
        _must(lib.secp256k1_ec_pubkey_tweak_mul(_CTX, product, scalar), "the scalar is out of range")
        products.append(product)
    return _sum(products)


def reduce_scalar(number: bytes) -> bytes:
    """A 32-byte big-endian number modulo the group order, 32 bytes."""
    _need(number, 32, "a scalar")
    return (int.from_bytes(number, "big") % ORDER).to_bytes(32, "big")


def add_secrets(first: bytes, second: bytes) -> bytes:
    """Sum of two secrets modulo the group order; `MalformedInput` if it is zero."""
    _need_secret(first)
    _need_secret(second)
    total = ffi.new("unsigned char[32]", first)
    _must(lib.secp256k1_ec_seckey_tweak_add(_CTX, total, second), "the secrets add up to zero")
    return bytes(ffi.buffer(total))


def mul_secrets(first: bytes, second: bytes) -> bytes:
    """Product of two secrets modulo the group order."""
    _need_secret(first)
    _need_secret(second)
    product = ffi.new("unsigned char[32]", first)
    _must(lib.secp256k1_ec_seckey_tweak_mul(_CTX, product, second), "a factor is out of range")
    return bytes(ffi.buffer(product))


def key_agg(publics: Sequence[bytes]) -> bytes:
    """Aggregate key (33 bytes) of compressed keys, sorted here: KeyAgg(KeySort(…)) of BIP-327."""
    return _aggregate_point(_key_agg_cache(sorted(publics)))


class MusigSession:
    """One signing attempt of BIP-327 for the taproot output of an aggregate key.

    A session signs once. Its secret nonce lives in memory only, is drawn from `session_secrand` (32 fresh
    random bytes that must never be used again) and is erased before the partial signature is handed out.
    A second attempt, also for the same message, needs a new session.
    """

    def __init__(
        self,
        secret: bytes,
        publics: Sequence[bytes],
        session_secrand: bytes,
        merkle_root: bytes,
        message: bytes,
    ) -> None:
        _need_secret(secret)
        _need(message, 32, "a signed message")
        _need(session_secrand, 32, "session randomness")
        own = public_key(secret)
        if own not in publics:
            raise MalformedInput("the signer's key is not among the keys of the session")
        self._publics = sorted(publics)
        self._cache = _tweaked_cache(self._publics, merkle_root)
        self._message = message
        self._secret: bytes | None = secret
        self._session: Any = None
        self._nonce = ffi.new("secp256k1_musig_secnonce *")
        self.public_nonce = self._draw_nonce(own, secret, session_secrand)

    def __repr__(self) -> str:
        return f"<MusigSession {'open' if self._secret else 'used'}>"

    def _draw_nonce(self, own: bytes, secret: bytes, session_secrand: bytes) -> bytes:
        random = ffi.new("unsigned char[32]", session_secrand)
        public = ffi.new("secp256k1_musig_pubnonce *")
        drawn = lib.secp256k1_musig_nonce_gen(
            _CTX, self._nonce, public, random, secret, _parse(own), self._message, self._cache, ffi.NULL
        )
        _must(drawn, "session randomness of zeros is refused; draw 32 random bytes")
        serialized = ffi.new("unsigned char[66]")
        _must(lib.secp256k1_musig_pubnonce_serialize(_CTX, serialized, public), "the nonce is damaged")
        return bytes(ffi.buffer(serialized))

    def partial_sign(self, public_nonces: Sequence[bytes]) -> bytes:
        """Partial signature (32 bytes), given the public nonces of all signers (66 bytes each).

        Raises `MalformedInput` on a second call and on nonces that are not those of this session.
        """
        if self._secret is None:
            raise MalformedInput("this signing session was used; start a new one with fresh randomness")
        if self.public_nonce not in public_nonces:
            raise MalformedInput("the nonces do not include the one of this session")
        if len(public_nonces) != len(self._publics):
            raise MalformedInput(f"{len(self._publics)} public nonces are needed, got {len(public_nonces)}")
        session = _nonce_session(self._cache, self._message, public_nonces)
        pair = _keypair(self._secret)
        self._secret = None
        partial = ffi.new("secp256k1_musig_partial_sig *")
        try:
            signed = lib.secp256k1_musig_partial_sign(_CTX, partial, self._nonce, pair, self._cache, session)
            _must(signed, "partial signing failed; start a new session")
        finally:
            _erase(pair)
            _erase(self._nonce)
        self._session = session
        serialized = ffi.new("unsigned char[32]")
        _must(lib.secp256k1_musig_partial_sig_serialize(_CTX, serialized, partial), "damaged signature")
        return bytes(ffi.buffer(serialized))

    def verify_partial(self, signer: bytes, nonce: bytes, partial: bytes) -> bool:
        """Whether `partial` (32 bytes) is by `signer` (33) with its public nonce (66); after `partial_sign`."""
        session = self._signed_session()
        if signer not in self._publics or len(partial) != 32:
            return False
        parsed = ffi.new("secp256k1_musig_partial_sig *")
        if not lib.secp256k1_musig_partial_sig_parse(_CTX, parsed, partial):
            return False
        by = (_parse_nonce(nonce), _parse(signer))
        return bool(lib.secp256k1_musig_partial_sig_verify(_CTX, parsed, *by, self._cache, session))

    def aggregate(self, partials: Sequence[bytes]) -> bytes:
        """The BIP-340 signature (64 bytes) of all partial signatures, after `partial_sign`.

        Raises `InvalidSignature` if they do not give one; `verify_partial` tells whose is wrong.
        """
        if len(partials) != len(self._publics):
            raise MalformedInput(f"{len(self._publics)} partial signatures are needed, got {len(partials)}")
        complete = _join_partials(self._signed_session(), partials)
        if not verify_schnorr(_aggregate_point(self._cache)[1:], self._message, complete):
            raise InvalidSignature("the partial signatures do not give a valid signature; try a new session")
        return complete

    def erase(self) -> None:
        """Forget the secret nonce of an attempt that is given up."""
        self._secret = None
        _erase(self._nonce)

    def _signed_session(self) -> Any:
        if self._session is None:
            raise MalformedInput("sign first: the session does not know the nonces of the other signers yet")
        return self._session


def _nonce_session(cache: Any, message: bytes, public_nonces: Sequence[bytes]) -> Any:
    parsed = [_parse_nonce(nonce) for nonce in public_nonces]
    total = ffi.new("secp256k1_musig_aggnonce *")
    pointers = ffi.new("secp256k1_musig_pubnonce *[]", parsed)
    _must(lib.secp256k1_musig_nonce_agg(_CTX, total, pointers, len(parsed)), "the nonces do not add up")
    session = ffi.new("secp256k1_musig_session *")
    started = lib.secp256k1_musig_nonce_process(_CTX, session, total, message, cache)
    _must(started, "the nonces cannot be used")
    return session


def _join_partials(session: Any, partials: Sequence[bytes]) -> bytes:
    parsed = [_parse_partial(partial) for partial in partials]
    signature = ffi.new("unsigned char[64]")
    pointers = ffi.new("secp256k1_musig_partial_sig *[]", parsed)
    joined = lib.secp256k1_musig_partial_sig_agg(_CTX, signature, session, pointers, len(parsed))
    _must(joined, "the partial signatures cannot be joined")
    return bytes(ffi.buffer(signature))


def _key_agg_cache(publics: Sequence[bytes]) -> Any:
    if not publics:
        raise MalformedInput("at least one key is needed for an aggregate")
    parsed = [_parse(public) for public in publics]
    cache = ffi.new("secp256k1_musig_keyagg_cache *")
    pointers = ffi.new("secp256k1_pubkey *[]", parsed)
    aggregated = lib.secp256k1_musig_pubkey_agg(_CTX, ffi.NULL, cache, pointers, len(parsed))
    _must(aggregated, "the keys cannot be aggregated")
    return cache


def _tweaked_cache(publics: Sequence[bytes], merkle_root: bytes) -> Any:
    if merkle_root:
        _need(merkle_root, 32, "a Merkle root")
    cache = _key_agg_cache(publics)
    tweak = taproot_tweak(_aggregate_point(cache)[1:], merkle_root)
    tweaked = lib.secp256k1_musig_pubkey_xonly_tweak_add(_CTX, ffi.NULL, cache, tweak)
    _must(tweaked, "the tweak is out of range")
    return cache


def _aggregate_point(cache: Any) -> bytes:
    point = ffi.new("secp256k1_pubkey *")
    _must(lib.secp256k1_musig_pubkey_get(_CTX, point, cache), "the aggregate key is damaged")
    return _serialize(point)


def _parse_nonce(nonce: bytes) -> Any:
    _need(nonce, 66, "a public nonce")
    parsed = ffi.new("secp256k1_musig_pubnonce *")
    _must(lib.secp256k1_musig_pubnonce_parse(_CTX, parsed, nonce), "a public nonce is not on the curve")
    return parsed


def _parse_partial(partial: bytes) -> Any:
    _need(partial, 32, "a partial signature")
    parsed = ffi.new("secp256k1_musig_partial_sig *")
    _must(lib.secp256k1_musig_partial_sig_parse(_CTX, parsed, partial), "a partial signature is too large")
    return parsed


def _parse(public: bytes) -> Any:
    _need(public, 33, "a compressed public key")
    point = _read_point(public)
    if point is None:
        raise MalformedInput("a public key is not on the curve")
    return point


@lru_cache(maxsize=KEPT_POINTS)
def _read_point(public: bytes) -> Any:
    """The parsed form of a compressed key, or None. Shared: whoever changes a point makes a copy first."""
    # The library also reads hybrid and uncompressed forms; with 33 bytes only 02 and 03 can pass.
    if len(public) != 33:
        return None
    point = ffi.new("secp256k1_pubkey *")
    return point if lib.secp256k1_ec_pubkey_parse(_CTX, point, public, 33) else None


@lru_cache(maxsize=KEPT_POINTS)
def _read_xonly(public: bytes) -> Any:
    """The parsed form of an x-only key, or None. Shared, and never changed."""
    if len(public) != 32:
        return None
    key = ffi.new("secp256k1_xonly_pubkey *")
    return key if lib.secp256k1_xonly_pubkey_parse(_CTX, key, public) else None


def _sum(points: Sequence[Any]) -> bytes:
    if not points:
        raise MalformedInput("at least one point is needed for a sum")
    total = ffi.new("secp256k1_pubkey *")
    pointers = ffi.new("secp256k1_pubkey *[]", points)
    _must(lib.secp256k1_ec_pubkey_combine(_CTX, total, pointers, len(points)), "the points add up to infinity")
    return _serialize(total)


def _serialize(point: Any) -> bytes:
    serialized = ffi.new("unsigned char[33]")
    size = ffi.new("size_t *", 33)
    written = lib.secp256k1_ec_pubkey_serialize(_CTX, serialized, size, point, _COMPRESSED)
    _must(written, "a point cannot be written")
    return bytes(ffi.buffer(serialized))


def _compact(signature: Any) -> bytes:
    written = ffi.new("unsigned char[64]")
    _must(lib.secp256k1_ecdsa_signature_serialize_compact(_CTX, written, signature), "the signature is damaged")
    return bytes(ffi.buffer(written))


def _keypair(secret: bytes) -> Any:
    pair = ffi.new("secp256k1_keypair *")
    _must(lib.secp256k1_keypair_create(_CTX, pair, secret), "the secret is out of range")
    return pair


def _erase(struct: Any) -> None:
    buffer = ffi.buffer(struct)
    buffer[:] = bytes(len(buffer))


def _need(value: bytes, size: int, what: str) -> None:
    if len(value) != size:
        raise MalformedInput(f"{what} has {size} bytes, got {len(value)}")


def _need_secret(secret: bytes) -> None:
    _need(secret, 32, "a secret key")
    if not secret_in_range(secret):
        raise MalformedInput("a secret key is zero or not below the group order")


def _must(answer: int, complaint: str) -> None:
    if not answer:
        raise MalformedInput(complaint)
