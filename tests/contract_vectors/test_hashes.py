"""Hash functions against published figures."""

from hashlib import sha256

import pytest

from domain.contract.hashes import hash160, ripemd160, tagged_hash
from tests.contract_vectors.load import load, raw


@pytest.mark.parametrize(
    ("digest", "message"),
    [
        ("9c1185a5c5e9fc54612808977ee8f548b2258d31", b""),
        ("0bdc9d2d256b3ee9daae347be6f4dc835a467ffe", b"a"),
        ("8eb208f7e05d987a9b044a8e98c6b087f15a0bfc", b"abc"),
        ("5d0689ef49d2fae572b881b123a85ffa21595f36", b"message digest"),
        ("f71c27109c692c1b56bbdceb5b9d2865b3708dbc", b"abcdefghijklmnopqrstuvwxyz"),
        ("12a053384a9c0c88e405a06c27dcf49ada62eb2b", b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
        ("9b752e45573d4b39f4dbd3323cab82bf63326bfb", b"1234567890" * 8),
        pytest.param("52783243c1697bdbe16d37f97f68f08325dc1528", b"a" * 1_000_000, marks=pytest.mark.slow),
    ],
    ids=["empty", "a", "abc", "message digest", "alphabet", "two blocks", "digits", "million a"],
)
def test_ripemd160_gives_the_published_digests(digest: str, message: bytes) -> None:
    """RIPEMD-160 agrees with the figures of its authors."""
    assert raw(digest) == ripemd160(message)


@pytest.mark.parametrize("entry", load("htlc")["htlc"], ids=["A to B", "B to A"])
def test_hash_of_the_payment_hash_is_that_of_the_vectors(entry: dict[str, str]) -> None:
    """RIPEMD160(H) in an HTLC script is HASH160 of the preimage."""
    assert raw(entry["ripemd160_of_hash"]) == hash160(raw(entry["preimage"]))


def test_tagged_hash_prefixes_the_hash_of_the_tag_twice() -> None:
    """A tagged hash is SHA-256 with the tag's hash written twice before the message."""
    tag = sha256(b"SCT1/state").digest()

    assert sha256(tag + tag + b"message").digest() == tagged_hash("SCT1/state", b"message")


def test_tagged_hash_keeps_no_state_between_calls() -> None:
    """The cached beginning of a tag is copied, never continued."""
    first = tagged_hash("SCT1/conds", b"one")
    tagged_hash("SCT1/conds", b"two")

    assert first == tagged_hash("SCT1/conds", b"one")
