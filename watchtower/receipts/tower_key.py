"""The tower's identity: the key that signs receipts and heads of the log.

The secret stays in this object. Nothing that signs gets more than `sign`, and no repr, error or log line shows it.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import ClassVar

from domain.contract import keys
from domain.contract.receipts import SignedReceipt, sign_receipt
from domain.errors import MalformedInput
from watchtower.config import Settings
from watchtower.ports import WatchtowerError


class TowerKeyMissing(WatchtowerError):
    """The tower's identity key is missing or no key."""

    slug: ClassVar[str] = "tower-key"


class TowerKey:
    """A signing key. Use from any thread; a signature takes about 60 µs."""

    __slots__ = ("_secret", "_signer", "public")

    public: bytes
    """The public key, compressed (33 bytes)."""

    def __init__(self, secret: bytes) -> None:
        """`secret` has 32 bytes; `TowerKeyMissing` if it is no secret key."""
        if not keys.secret_in_range(secret):
            raise TowerKeyMissing("the tower key holds no secret key")
        self._secret = secret
        self._signer = keys.SchnorrSigner(secret)
        self.public = keys.public_key(secret)

    def __repr__(self) -> str:
        return f"<TowerKey {self.tower_id.hex()}>"

    def __reduce__(self) -> str:
        raise TypeError("a tower key is not copied or sent anywhere")

    @property
    def tower_id(self) -> bytes:
        """The x-only key (32 bytes) that clients know the tower by."""
        return self.public[1:]

    def sign(self, message: bytes) -> bytes:
        """BIP-340 signature (64 bytes) over a 32-byte hash; the same hash always gets the same bytes."""
        return self._signer.sign(message, hmac.digest(self._secret, message, "sha256"))

    def derive(self, purpose: bytes) -> bytes:
        """A secret of 32 bytes for another purpose; towers with the same key derive the same."""
        return hmac.digest(self._secret, b"state-channel-watchtower/derived/" + purpose, "sha256")

    def receipt(self, body: bytes) -> SignedReceipt:
        """A receipt body with its signature; the same body always gives the same bytes."""
        return SignedReceipt(body, sign_receipt(self._secret, body, self._signer))


def read_tower_key(text: str, place: str) -> TowerKey:
    """A key written as 64 hexadecimal digits; `TowerKeyMissing` names the `place` where it should stand."""
    try:
        return TowerKey(bytes.fromhex(text.strip()))
    except (ValueError, MalformedInput):
        raise TowerKeyMissing(
            f"{place} cannot be read as 64 hexadecimal digits; make a tower with `watchtower init`"
        ) from None
    except TowerKeyMissing:
        raise TowerKeyMissing(f"{place} holds no secret key") from None


def load_tower_key(settings: Settings) -> TowerKey:
    """The key of the settings, else of `tower.key` in the data directory; raises `TowerKeyMissing`."""
    if settings.tower_key is not None:
        return read_tower_key(settings.tower_key.reveal(), "tower_key")
    path = Path(settings.data_dir) / "tower.key"
    try:
        return read_tower_key(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError):
        raise TowerKeyMissing(
            f"{path} cannot be read as 64 hexadecimal digits; make a tower with `watchtower init`"
        ) from None
