"""Headers of signed requests: what is read, what is refused, and nonces that are good once."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import MalformedInput
from tests.support.signed_calls import unsigned
from tests.support.towers import Bench
from watchtower.http.nonces import Nonces, TooBusy
from watchtower.wire.signed_request import SignedHeaders, read_headers, write_headers

HEADERS = SignedHeaders(key=bytes(range(32)), signature=bytes(64), nonce=bytes(16), digest=bytes(32), created=1_700)


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """B's tower."""
    return Bench(tmp_path)


def test_headers_are_read_as_they_are_written() -> None:
    """A round trip through the three headers."""
    written = write_headers(HEADERS)

    assert HEADERS == read_headers(written["Content-Digest"], written["Signature-Input"], written["Signature"])


BAD_INPUTS = {
    "empty": "",
    "two signatures": "{0}, {0}",
    "another order of components": '{0}|("@method" "@path"|("@path" "@method"',
    "fewer components": '{0}| "content-digest"|',
    "a parameter twice": "{0};created=1",
    "an unknown parameter": '{0};alg="ed25519"',
    "another tag": "{0}|state-channel-v1|web-bot-auth",
    "no time": "{0}|created=1700;|",
    "a short nonce": '{0}|nonce="00|nonce="',
    "digits in capitals": '{0}|keyid="0001|keyid="AB01',
    "a label that is none": "{0}|sct=|SCT=",
    "too long": "{0}|sct=|" + "s" * 1200 + "=",
}


@pytest.mark.parametrize("fault", BAD_INPUTS)
def test_signature_inputs_that_are_refused(fault: str) -> None:
    """There is one form of a header; everything else is refused in words."""
    written = write_headers(HEADERS)
    form, old, new = (*BAD_INPUTS[fault].split("|"), "", "")[:3]
    text = form.format(written["Signature-Input"])
    text = text.replace(old, new) if old else text

    with pytest.raises(MalformedInput):
        read_headers(written["Content-Digest"], text, written["Signature"])


@pytest.mark.parametrize(
    ("digest", "signature"),
    [
        ("md5=:AAAA:", None),
        ("sha-256=AAAA", None),
        ("sha-256=:AAAA:, sha-512=:AAAA:", None),
        (None, "other=:AAAA:"),
        (None, "sct=:AAAA:"),
        (None, "sct=:" + "!" * 88 + ":"),
    ],
)
def test_digests_and_signatures_that_are_refused(digest: str | None, signature: str | None) -> None:
    """Other algorithms, lengths, labels and alphabets."""
    written = write_headers(HEADERS)

    with pytest.raises(MalformedInput):
        read_headers(digest or written["Content-Digest"], written["Signature-Input"], signature or written["Signature"])


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_any_headers_are_read_or_refused(digest: str, signature_input: str, signature: str) -> None:
    """No text of a stranger does anything but a typed refusal."""
    with pytest.raises(MalformedInput):
        read_headers(digest, signature_input, signature)


def test_parts_of_a_message_cannot_be_shifted() -> None:
    """Lengths keep method and target apart: no two requests have the same bytes to sign."""
    hashes = {
        unsigned(method, target, bytes(32), bytes(32), 1, bytes(16)).hash
        for method, target in (("GET", b"/a"), ("GE", b"T/a"), ("GET/", b"a"))
    }

    assert 3 == len(hashes)


def test_the_example_of_the_documentation() -> None:
    """docs/api.md shows what is signed; another implementation can check itself against it."""
    generator = bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
    found = unsigned("GET", b"/v1/info", generator, sha256(b"").digest(), 1_700_000_000, bytes(range(16))).hash
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()

    assert found.hex() in page


def test_nonces_are_bounded_and_never_forgotten_early() -> None:
    """A full memory refuses; time makes room."""
    nonces = Nonces(lifetime=120, capacity=2)
    assert [True, False, True] == [nonces.add(b"k", each, 0.0) for each in (b"1", b"1", b"2")]

    with pytest.raises(TooBusy):
        nonces.add(b"k", b"3", 119.0)
    assert not nonces.add(b"k", b"1", 119.0)
    assert nonces.add(b"k", b"3", 120.0)
