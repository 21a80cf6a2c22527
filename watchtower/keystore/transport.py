"""Secrets on their way between the towers of one owner: sealed under a key that only those towers have."""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from watchtower.keystore.errors import KeystoreError
from watchtower.keystore.sealing import NONCE_SIZE

_BINDING = b"state-channel-keystore/transport/1|"


class TransportSeal:
    """Seals and opens single secrets; what is sealed for one name opens for no other."""

    def __init__(self, key: bytes) -> None:
        """`key` has 32 bytes."""
        self._cipher = ChaCha20Poly1305(key)

    def seal(self, name: bytes, secret: bytes) -> bytes:
        """Nonce and ciphertext; different at each call."""
        nonce = secrets.token_bytes(NONCE_SIZE)
        return nonce + self._cipher.encrypt(nonce, secret, _BINDING + name)

    def open(self, name: bytes, sealed: bytes) -> bytes:
        """The secret; raises `KeystoreError` if it was sealed with another key, for another name, or changed."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], _BINDING + name)
        except (InvalidTag, ValueError):
            raise KeystoreError(
                f"the sealed secret {name.hex()} on the database server cannot be opened; the towers of one log need "
                "the same tower.key"
            ) from None
