"""Canonical JSON of application data."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.application import decode_state_data, encode_state_data, state_data_hash
from domain.canonical_json import MAX_DEPTH, MAX_INTEGER
from domain.errors import MalformedInput

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)


def shuffled(value: Any) -> Any:
    """The same value, its objects filled in the opposite order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(list(value))}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


def test_the_sorting_example_of_rfc_8785() -> None:
    """Keys are ordered by UTF-16 code units: the emoji comes before the ligature (RFC 8785, 3.2.3)."""
    keys = ["€", "\r", "\ufb33", "1", "😀", "\x80", "ö"]
    expected = ["\r", "1", "\x80", "ö", "€", "😀", "\ufb33"]

    encoded = encode_state_data(dict.fromkeys(keys, 0))

    assert expected == list(decode_state_data(encoded))


def test_the_string_example_of_rfc_8785() -> None:
    """Short escapes where JSON has them, hexadecimal ones for other controls, everything else as it is (3.2.2.2)."""
    expected = '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'

    assert expected.encode() == encode_state_data('€$\x0f\nA\'B"\\\\"/')


def test_no_spaces_and_plain_literals() -> None:
    """The whole form of a small value."""
    expected = b'{"a":[1,-2,true,false,null],"b":{}}'

    assert expected == encode_state_data({"b": {}, "a": (1, -2, True, False, None)})


@given(VALUES)
def test_every_value_survives(value: Any) -> None:
    """Decoding gives the value back, encoding does not depend on the order in which an object was filled."""
    encoded = encode_state_data(value)

    assert value == decode_state_data(encoded)
    assert encoded == encode_state_data(shuffled(value))


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:0123456789-+.eE truefalsn\\u').map(str.encode))
def test_foreign_bytes_are_canonical_or_refused(raw: bytes) -> None:
    """What decodes is exactly what encoding the value gives; everything else is `MalformedInput`."""
    try:
        value = decode_state_data(raw)
    except MalformedInput:
        return
    assert raw == encode_state_data(value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" 1",
        b"1 ",
        b"01",
        b"-0",
        b"1.0",
        b"1e3",
        b"NaN",
        b"Infinity",
        b"{'a':1}",
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'"\\u0041"',
        b'"\\/"',
        b'"\\ud800"',
        b"\xff",
        b"\xef\xbb\xbf1",
        b"9007199254740992",
        b"1" * 5000,
        b"[" * 100_000,
        b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2),
    ],
)
def test_any_other_form_is_refused(raw: bytes) -> None:
    """Spaces, floats, other orders and escapes, doubled keys, depth and size: one value has one form."""
    with pytest.raises(MalformedInput):
        decode_state_data(raw)


@pytest.mark.parametrize(
    "value", [1.0, float("nan"), 2**53, -(2**53), {1: 2}, {"a": object()}, b"bytes", {"a"}, "\ud800", {"\udc00": 1}]
)
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    """Floats, integers beyond 53 bits, keys that are no text, foreign types, half characters."""
    with pytest.raises(MalformedInput):
        encode_state_data(value)


def test_the_hash_is_that_of_the_header() -> None:
    """Annex: state_data_hash is a tagged hash over the canonical bytes."""
    from domain.contract.hashes import tagged_hash

    raw = encode_state_data({"move": 4})

    assert tagged_hash("SCT1/state-data", raw) == state_data_hash(raw)
