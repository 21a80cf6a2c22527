"""Hexadecimal fields and foreign bytes: one text form each, and garbage is always a typed refusal."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import MalformedInput
from watchtower.client.protocol.messages import decode_message
from watchtower.wire.api import RegisterRequest, RevocationRequest, UpdateRequest
from watchtower.wire.hexes import Hex, Hex32, SecretHex, TxidHex, from_json, to_json

BODIES = (RegisterRequest, UpdateRequest, RevocationRequest)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


class Sample(msgspec.Struct):
    """A hash, a txid and free bytes."""

    hash: Hex32
    txid: TxidHex
    data: Hex


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.binary(max_size=100))
def test_encoding_is_lossless(first: bytes, txid: bytes, data: bytes) -> None:
    """Bytes come back as they went; only txids are reversed on the way."""
    sample = Sample(Hex32(first), TxidHex(txid), Hex(data))
    raw = to_json(sample)

    assert from_json(raw, Sample) == sample
    assert msgspec.json.decode(raw) == {"hash": first.hex(), "txid": txid[::-1].hex(), "data": data.hex()}


@pytest.mark.parametrize(
    "text", ["A" * 64, "0" * 63, "0" * 66, " " + "0" * 63, "00 " * 21 + "0", "٣" * 64, "0x" + "0" * 62]
)
def test_only_one_text_form_is_read(text: str) -> None:
    """Upper case, blanks, prefixes, other digits and wrong lengths are refused with the field's name."""
    with pytest.raises(MalformedInput, match=r"\$\.hash"):
        from_json(msgspec.json.encode({"hash": text, "txid": "00" * 32, "data": ""}), Sample)


@given(st.binary(max_size=200))
def test_garbage_bytes_are_refused_by_type(raw: bytes) -> None:
    """Every parser of foreign bytes raises `MalformedInput` only."""
    for form in BODIES:
        with pytest.raises(MalformedInput):
            from_json(raw, form)
    with pytest.raises(MalformedInput):
        decode_message(raw)


@given(json_values)
def test_garbage_json_is_refused_by_type(value: object) -> None:
    """So does well-formed JSON of any other shape."""
    raw = msgspec.json.encode(value)
    for form in BODIES:
        with pytest.raises(MalformedInput):
            from_json(raw, form)
    with pytest.raises(MalformedInput):
        decode_message(raw)


def test_secrets_have_no_repr() -> None:
    """A struct that holds a secret can be printed."""
    request = RevocationRequest(party="A", sequence=1, secret=SecretHex(b"\x07" * 32), next_point=Hex(bytes(33)))  # type: ignore[arg-type]

    assert "<secret>" in repr(request)
    assert "\\x07" not in repr(request)


def test_a_secret_in_the_wrong_field_is_not_repeated() -> None:
    """The refusal names the field; a key that stands there by mistake is left out."""
    key = "5a" * 32
    bodies = [{"party": key, "sequence": 1}, {key: 1}, {"party": "A", "sequence": key}]
    texts = []
    for body in bodies:
        with pytest.raises(MalformedInput) as caught:
            from_json(msgspec.json.encode(body), RevocationRequest)
        texts.append(str(caught.value))
    assert "$.party" in texts[0]
    assert [] == [text for text in texts if key in text]
