"""Derivation of channel keys: BIP-32 figures of hardened paths, and the roles of a channel."""

import pytest

from domain.contract.derivation import ROLES, channel_keys, derive
from domain.contract.keys import public_key
from domain.errors import MalformedInput

VECTOR_1 = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
VECTOR_3 = bytes.fromhex(
    "4b381541583be4423346c643850da4b320e46a87ae3d2a4e6da11eba819cd4acba45d239319ac14f863b8d5ab5a0d0c6"
    "4d2e8a1e7d1457df2e5a3c51c73235be"
)
VECTOR_4 = bytes.fromhex("3ddd5602285899a946114506157c7997e5444528f3003f6134712147db19b678")
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def _fields(extended: str) -> tuple[bytes, bytes]:
    """Secret and chain code of a serialized extended private key."""
    number = 0
    for character in extended:
        number = number * 58 + ALPHABET.index(character)
    decoded = number.to_bytes(82, "big")
    return decoded[46:78], decoded[13:45]


@pytest.mark.parametrize(
    ("seed", "path", "extended"),
    [
        (
            VECTOR_1,
            (),
            "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi",
        ),
        (
            VECTOR_1,
            (0,),
            "xprv9uHRZZhk6KAJC1avXpDAp4MDc3sQKNxDiPvvkX8Br5ngLNv1TxvUxt4cV1rGL5hj6KCesnDYUhd7oWgT11eZG7XnxHrnYeSvkzY7d2bhkJ7",
        ),
        (
            VECTOR_3,
            (),
            "xprv9s21ZrQH143K25QhxbucbDDuQ4naNntJRi4KUfWT7xo4EKsHt2QJDu7KXp1A3u7Bi1j8ph3EGsZ9Xvz9dGuVrtHHs7pXeTzjuxBrCmmhgC6",
        ),
        (
            VECTOR_3,
            (0,),
            "xprv9uPDJpEQgRQfDcW7BkF7eTya6RPxXeJCqCJGHuCJ4GiRVLzkTXBAJMu2qaMWPrS7AANYqdq6vcBcBUdJCVVFceUvJFjaPdGZ2y9WACViL4L",
        ),
        (
            VECTOR_4,
            (),
            "xprv9s21ZrQH143K48vGoLGRPxgo2JNkJ3J3fqkirQC2zVdk5Dgd5w14S7fRDyHH4dWNHUgkvsvNDCkvAwcSHNAQwhwgNMgZhLtQC63zxwhQmRv",
        ),
    ],
    ids=["1 m", "1 m/0'", "3 m", "3 m/0'", "4 m"],
)
def test_bip32_hardened_figures(seed: bytes, path: tuple[int, ...], extended: str) -> None:
    """Hardened paths of the BIP-32 vectors, also those that keep leading zeros."""
    node = derive(seed, path)

    assert _fields(extended) == (node.secret, node.chain_code)


def test_channel_keys_follow_the_path_of_the_protocol() -> None:
    """Every role lies at m / 5456724' / coin_type' / channel_index' / role'."""
    secrets = channel_keys(VECTOR_1, 1, 7)

    expected = [derive(VECTOR_1, (5456724, 1, 7, role)).secret for role in range(8)]
    assert expected == [getattr(secrets, name) for name in ROLES]


def test_channels_networks_and_roles_share_no_secret() -> None:
    """Other channels and coin types have other secrets, and all roles differ."""
    sets = [channel_keys(VECTOR_1, coin, index) for coin in (0, 1) for index in (0, 1)]
    secrets = {getattr(entry, name) for entry in sets for name in ROLES}

    assert 32 == len(secrets)


def test_key_block_holds_the_public_side() -> None:
    """The key block of a channel's secrets has their public keys in the right form."""
    secrets = channel_keys(VECTOR_1, 1, 0)
    block = secrets.key_block(b"\x00\x14" + bytes(20))

    assert (public_key(secrets.fund), public_key(secrets.settle)[1:]) == (block.fund, block.settle)
    assert 206 == len(block.encode())


@pytest.mark.parametrize(("seed", "path"), [(bytes(15), ()), (bytes(65), ()), (VECTOR_1, (2**31,)), (VECTOR_1, (-1,))])
def test_bad_seeds_and_paths_are_refused(seed: bytes, path: tuple[int, ...]) -> None:
    """Seeds outside 16 to 64 bytes and indexes beyond 31 bits give a typed error."""
    with pytest.raises(MalformedInput):
        derive(seed, path)


def test_reprs_hide_secrets() -> None:
    """Neither keys nor chain codes show in a repr."""
    assert "<ChannelSecrets>" == repr(channel_keys(VECTOR_1, 1, 0))
    assert "<ExtendedSecret>" == repr(derive(VECTOR_1, ()))
