"""Names of streams: deterministic for the store that holds the key, meaningless for everyone else."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode

from domain.errors import MalformedInput


def stream_id(stream_key: bytes, category: str, natural_key: bytes) -> str:
    """Category letter and 22 base64url characters of HMAC-SHA256(stream_key, letter ‖ natural key)[0:16]."""
    if len(category) != 1 or not category.isascii():
        raise MalformedInput(f"a stream category is one ASCII letter, got {category!r}")
    mac = hmac.digest(stream_key, category.encode() + natural_key, "sha256")
    return category + urlsafe_b64encode(mac[:16]).decode().rstrip("=")
