"""Nothing secret reaches a log line: names are refused, and long hexadecimal or base64 is allowed in few fields only.

It errs on the side of hiding. It cannot know a secret that is short and has an innocent name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

IDENTIFIERS = frozenset({"txid", "block_hash", "channel", "outpoint", "event_id", "breach_id"})
"""Fields in which 32 bytes of hexadecimal are a public name, not a secret."""

_EXACT = frozenset({"cookie", "authorization", "signature", "nonce", "seed", "preimage"})
_PARTS = ("secret", "key", "password", "passphrase", "token")
_OPEN = frozenset({"pubkey", "filename", "exc_type", "event", "level", "timestamp"})

_IDENTIFIER = re.compile(r"[0-9a-f]{64}(:\d{1,10})?|[csk][A-Za-z0-9_-]{22}|[0-9a-f]{8,63}")
_TOKEN = re.compile(r"wt_[A-Za-z0-9_-]+")
_HEX = re.compile(r"(?i)(?<![0-9a-z])(?:0x)?(?:[0-9a-f]{2}){32,}(?![0-9a-z])")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{43,}={0,2}")
_BYTES = re.compile(r"""\bb(?P<quote>['"])(?:\\.|(?!(?P=quote)).){16,}(?P=quote)""", re.DOTALL)
"""Bytes as Python writes them, in the text of an error."""

_URL_USER = re.compile(r"://[^/@\s]*@")
_DEPTH = 12

FRAME_DEPTH = 3
"""Where the frames of an exception stand: only there a `filename` is a path of the program."""


def redact(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that may be written: every value is a JSON value and free of what looks like a secret."""
    return {scrub(str(name)): _value(str(name), value, 0) for name, value in fields.items()}


def scrub(text: str) -> str:
    """A text without tokens, credentials in URLs and runs of 32 or more encoded bytes."""
    text = _URL_USER.sub("://", text)
    text = _TOKEN.sub("[redacted]", text)
    text = _BYTES.sub("[redacted]", text)
    text = _HEX.sub(lambda found: f"[redacted:{len(found[0])}]", text)
    return _BASE64.sub(_base64_or_word, text)


def is_secret_name(name: str) -> bool:
    """True for fields whose value is never shown, whatever it is."""
    lowered = name.lower()
    return lowered not in _OPEN and (lowered in _EXACT or any(part in lowered for part in _PARTS))


def _base64_or_word(found: re.Match[str]) -> str:
    """Long words and paths stay; a run that mixes both cases and digits is encoded bytes."""
    run = found[0]
    mixed = any(c.isdigit() for c in run) and any(c.isupper() for c in run) and any(c.islower() for c in run)
    return f"[redacted:{len(run)}]" if mixed else run


def _value(name: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if is_secret_name(name):
        return "[redacted]"
    if isinstance(value, int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value).hex()
    if isinstance(value, Mapping) and depth < _DEPTH:
        return {scrub(str(key)): _value(str(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEPTH:
        return [_value(name, item, depth + 1) for item in value]
    text = value if isinstance(value, str) else repr(value)
    if name in IDENTIFIERS and _IDENTIFIER.fullmatch(text):
        return text
    return text if name == "filename" and depth >= FRAME_DEPTH else scrub(text)
