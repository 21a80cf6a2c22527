"""Identifiers of the SDK: hexadecimal texts outside, bytes inside. All else is refused before anything is built."""

from __future__ import annotations

import re

from domain.errors import MalformedInput

_WHOLE = re.compile(r"[0-9a-f]{64}")
_BEGINNING = re.compile(r"[0-9a-f]{4,64}")


def channel_id_of(text: str) -> bytes:
    """A channel or proposal id of 64 hexadecimal digits; `MalformedInput` for anything else."""
    return bytes.fromhex(_matched(text, _WHOLE, "a channel id has 64 hexadecimal digits"))


def channel_name(text: str) -> str:
    """The id of a channel or its beginning, as towers take it; `MalformedInput` for anything else.

    It becomes a part of an address, where `/` or `..` would ask for something else.
    """
    return _matched(text, _BEGINNING, "a channel is named by 4 to 64 hexadecimal digits of its id")


def hash_of(text: str) -> bytes:
    """A payment hash of 64 hexadecimal digits; `MalformedInput` for anything else."""
    return bytes.fromhex(_matched(text, _WHOLE, "a payment hash has 64 hexadecimal digits"))


def _matched(text: str, form: re.Pattern[str], rule: str) -> str:
    given: object = text
    if not isinstance(given, str) or form.fullmatch(given.lower()) is None:
        raise MalformedInput(f"{rule}, got {given!r:.80}")
    return given.lower()
