"""Key aggregation and two-round signing: MuSig2 (BIP-327) for taproot outputs.

Secrets are 32-byte strings; none of them appears in a message of an error raised here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from domain.contract.keys import public_key, taproot_tweak, verify_schnorr
from domain.contract.secp256k1 import (
    CTX,
    erase,
    ffi,
    keypair,
    lib,
    must,
    need,
    need_secret,
    parse_point,
    serialize_point,
)
from domain.errors import InvalidSignature, MalformedInput


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
        need_secret(secret)
        need(message, 32, "a signed message")
        need(session_secrand, 32, "session randomness")
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
            CTX, self._nonce, public, random, secret, parse_point(own), self._message, self._cache, ffi.NULL
        )
        must(drawn, "session randomness of zeros is refused; draw 32 random bytes")
        serialized = ffi.new("unsigned char[66]")
        must(lib.secp256k1_musig_pubnonce_serialize(CTX, serialized, public), "the nonce is damaged")
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
        pair = keypair(self._secret)
        self._secret = None
        partial = ffi.new("secp256k1_musig_partial_sig *")
        try:
            signed = lib.secp256k1_musig_partial_sign(CTX, partial, self._nonce, pair, self._cache, session)
            must(signed, "partial signing failed; start a new session")
        finally:
            erase(pair)
            erase(self._nonce)
        self._session = session
        serialized = ffi.new("unsigned char[32]")
        must(lib.secp256k1_musig_partial_sig_serialize(CTX, serialized, partial), "damaged signature")
        return bytes(ffi.buffer(serialized))

    def verify_partial(self, signer: bytes, nonce: bytes, partial: bytes) -> bool:
        """Whether `partial` (32 bytes) is by `signer` (33) with its public nonce (66); after `partial_sign`."""
        session = self._signed_session()
        if signer not in self._publics or len(partial) != 32:
            return False
        parsed = ffi.new("secp256k1_musig_partial_sig *")
        if not lib.secp256k1_musig_partial_sig_parse(CTX, parsed, partial):
            return False
        by = (_parse_nonce(nonce), parse_point(signer))
        return bool(lib.secp256k1_musig_partial_sig_verify(CTX, parsed, *by, self._cache, session))

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
        erase(self._nonce)

    def _signed_session(self) -> Any:
        if self._session is None:
            raise MalformedInput("sign first: the session does not know the nonces of the other signers yet")
        return self._session


def _nonce_session(cache: Any, message: bytes, public_nonces: Sequence[bytes]) -> Any:
    parsed = [_parse_nonce(nonce) for nonce in public_nonces]
    total = ffi.new("secp256k1_musig_aggnonce *")
    pointers = ffi.new("secp256k1_musig_pubnonce *[]", parsed)
    must(lib.secp256k1_musig_nonce_agg(CTX, total, pointers, len(parsed)), "the nonces do not add up")
    session = ffi.new("secp256k1_musig_session *")
    started = lib.secp256k1_musig_nonce_process(CTX, session, total, message, cache)
    must(started, "the nonces cannot be used")
    return session


def _join_partials(session: Any, partials: Sequence[bytes]) -> bytes:
    parsed = [_parse_partial(partial) for partial in partials]
    signature = ffi.new("unsigned char[64]")
    pointers = ffi.new("secp256k1_musig_partial_sig *[]", parsed)
    joined = lib.secp256k1_musig_partial_sig_agg(CTX, signature, session, pointers, len(parsed))
    must(joined, "the partial signatures cannot be joined")
    return bytes(ffi.buffer(signature))


def _key_agg_cache(publics: Sequence[bytes]) -> Any:
    if not publics:
        raise MalformedInput("at least one key is needed for an aggregate")
    parsed = [parse_point(public) for public in publics]
    cache = ffi.new("secp256k1_musig_keyagg_cache *")
    pointers = ffi.new("secp256k1_pubkey *[]", parsed)
    aggregated = lib.secp256k1_musig_pubkey_agg(CTX, ffi.NULL, cache, pointers, len(parsed))
    must(aggregated, "the keys cannot be aggregated")
    return cache


def _tweaked_cache(publics: Sequence[bytes], merkle_root: bytes) -> Any:
    if merkle_root:
        need(merkle_root, 32, "a Merkle root")
    cache = _key_agg_cache(publics)
    tweak = taproot_tweak(_aggregate_point(cache)[1:], merkle_root)
    tweaked = lib.secp256k1_musig_pubkey_xonly_tweak_add(CTX, ffi.NULL, cache, tweak)
    must(tweaked, "the tweak is out of range")
    return cache


def _aggregate_point(cache: Any) -> bytes:
    point = ffi.new("secp256k1_pubkey *")
    must(lib.secp256k1_musig_pubkey_get(CTX, point, cache), "the aggregate key is damaged")
    return serialize_point(point)


def _parse_nonce(nonce: bytes) -> Any:
    need(nonce, 66, "a public nonce")
    parsed = ffi.new("secp256k1_musig_pubnonce *")
    must(lib.secp256k1_musig_pubnonce_parse(CTX, parsed, nonce), "a public nonce is not on the curve")
    return parsed


def _parse_partial(partial: bytes) -> Any:
    need(partial, 32, "a partial signature")
    parsed = ffi.new("secp256k1_musig_partial_sig *")
    must(lib.secp256k1_musig_partial_sig_parse(CTX, parsed, partial), "a partial signature is too large")
    return parsed
