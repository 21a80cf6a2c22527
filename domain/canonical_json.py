"""Canonical JSON for application data: RFC 8785 without floating-point numbers (protocol 4.2).

One value has one form, so two programs that agree on a value agree on its hash. Numbers are integers of at most
53 bits, the range in which every JSON reader agrees (RFC 7493); write larger ones, and amounts of other assets, as
text. The standard library writes strings exactly as RFC 8785 asks; only order, numbers and types need care.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from domain.errors import MalformedInput

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 64
"""Nested lists and objects; more has no use in a state and would cost stack."""


def encode_state_data(value: object) -> bytes:
    """The canonical bytes of None, a boolean, integer, text, list, tuple, or a dict with text keys.

    Raises `MalformedInput` for anything else: floats, integers beyond 53 bits, other types, lone surrogates.
    """
    parts: list[str] = []
    _write(value, parts, 0)
    try:
        return "".join(parts).encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedInput("state data has a text with half of a surrogate pair, which is no character") from None


def decode_state_data(raw: bytes) -> Any:
    """The value of canonical bytes; objects are dicts, arrays lists.

    Raises `MalformedInput` for bytes that are not JSON, and for JSON in any other form than the canonical one:
    spaces, another order of keys, a key twice, floats.
    """
    try:
        value = json.loads(raw.decode("utf-8"), parse_float=_no_float, parse_constant=_no_float)
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise MalformedInput(
            f"the {len(raw)} bytes of state data are not JSON with integers only; encode_state_data makes them"
        ) from None
    if encode_state_data(value) != raw:
        raise MalformedInput("state data is JSON, but not in the canonical form of RFC 8785; encode the value again")
    return value


def _no_float(text: str) -> NoReturn:
    raise ValueError(text)


def _write(value: object, parts: list[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise MalformedInput(f"state data is nested deeper than {MAX_DEPTH} levels")
    match value:
        case None | bool():
            parts.append({None: "null", True: "true", False: "false"}[value])
        case int():
            parts.append(_number(value))
        case str():
            parts.append(_text(value))
        case list() | tuple():
            _write_items(list(value), parts, depth)
        case dict():
            _write_members(value, parts, depth)
        case _:
            raise MalformedInput(
                f"state data cannot hold {type(value).__name__}; use integers, texts, booleans, None, lists and dicts"
            )


def _number(value: int) -> str:
    if abs(value) > MAX_INTEGER:
        raise MalformedInput("state data has an integer beyond 53 bits; write it as text")
    return str(int(value))


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _write_items(values: list[object], parts: list[str], depth: int) -> None:
    parts.append("[")
    for place, value in enumerate(values):
        if place:
            parts.append(",")
        _write(value, parts, depth + 1)
    parts.append("]")


def _write_members(members: dict[Any, object], parts: list[str], depth: int) -> None:
    if not all(isinstance(key, str) for key in members):
        raise MalformedInput("the keys of an object in state data are texts")
    parts.append("{")
    # RFC 8785 sorts by UTF-16 code units, which differs from code points above U+FFFF.
    for place, key in enumerate(sorted(members, key=_utf16)):
        if place:
            parts.append(",")
        parts += (_text(key), ":")
        _write(members[key], parts, depth + 1)
    parts.append("}")


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")
