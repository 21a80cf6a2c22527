"""Signed requests of a party to a tower in this process."""

from __future__ import annotations

from watchtower.wire.signed_request import UnsignedRequest


def unsigned(method: str, target: bytes, tower: bytes, body: bytes, created: int, nonce: bytes) -> UnsignedRequest:
    """A request before its signature."""
    return UnsignedRequest(
        method=method, tower_key=tower, target=target, body_sha256=body, created=created, nonce=nonce
    )
