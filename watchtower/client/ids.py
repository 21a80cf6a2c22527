"""Identifiers of the SDK: hexadecimal texts outside, bytes inside."""

from __future__ import annotations

from domain.errors import MalformedInput


def channel_id_of(text: str) -> bytes:
    """A channel or proposal id of 64 hexadecimal digits; `MalformedInput` for anything else."""
    return _read(text, "a channel id")


def hash_of(text: str) -> bytes:
    """A payment hash of 64 hexadecimal digits; `MalformedInput` for anything else."""
    return _read(text, "a payment hash")


def _read(text: str, name: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise MalformedInput(f"{name} has 64 hexadecimal digits, got {text[:80]!r}")
    return raw
