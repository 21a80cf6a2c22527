"""Keys, BIP-340 and ECDSA signatures, and the guards before the library that computes them."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from domain.contract import keys, musig
from domain.contract.hashes import sha256
from domain.errors import MalformedInput
from tests.contract_vectors.load import ZERO, load, raw

BIP340 = load("bip340")["vectors"]
SIGNING = [vector for vector in BIP340 if vector["secret"]]
SECRET = bytes(31) + b"\x07"
PUBLIC = keys.public_key(SECRET)
ONE = bytes(31) + b"\x01"
ORDER = keys.ORDER.to_bytes(32, "big")

GUARD_PROBE = """
from domain.contract.secp256k1 import CTX
from coincurve._libsecp256k1 import ffi, lib
points = ffi.new("secp256k1_pubkey *[1]")
print(lib.secp256k1_ec_pubkey_combine(CTX, ffi.new("secp256k1_pubkey *"), points, 0))
"""
RESTRICTED = f"""
import ctypes, os, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
    sys.exit(77)
os.execv(sys.executable, [sys.executable, "-c", {GUARD_PROBE!r}])
"""


@pytest.mark.parametrize("vector", BIP340, ids=lambda vector: str(vector["index"]))
def test_bip340_verification(vector: dict[str, str]) -> None:
    """Every published signature is judged as BIP-340 says."""
    verdict = keys.verify_schnorr(raw(vector["public"]), raw(vector["message"]), raw(vector["signature"]))

    assert vector["valid"] == verdict


@pytest.mark.parametrize("vector", SIGNING, ids=lambda vector: str(vector["index"]))
def test_bip340_signing(vector: dict[str, str]) -> None:
    """Signing gives the published bytes."""
    signature = keys.sign_schnorr(raw(vector["secret"]), raw(vector["message"]), raw(vector["aux"]))

    assert vector["signature"] == signature.hex()
    assert vector["public"] == keys.public_key(raw(vector["secret"]))[1:].hex()


@pytest.mark.parametrize("role", ["fund", "rev", "settle", "htlc", "auth"])
@pytest.mark.parametrize("party", ["A", "B"])
def test_public_keys_of_the_parties(party: str, role: str) -> None:
    """Secrets of the vectors give their public keys."""
    pair = load("keys")[party][role]

    assert raw(pair["pk"]) == keys.public_key(raw(pair["sk"]))
    assert raw(pair["pk"])[1:] == keys.xonly(raw(pair["pk"]))


@pytest.mark.parametrize("vector", load("bip341")["inputs"], ids=lambda vector: str(vector["index"]))
def test_bip341_tweaked_secrets(vector: dict[str, str]) -> None:
    """Secrets are tweaked as in BIP-341, with and without a script tree and for either parity."""
    assert raw(vector["tweaked"]) == keys.tweak_secret(raw(vector["secret"]), raw(vector["merkle_root"]))


@pytest.mark.parametrize(
    "call",
    [
        lambda: keys.public_key(bytes(31)),
        lambda: keys.public_key(bytes(32)),
        lambda: keys.public_key(ORDER),
        lambda: keys.xonly(PUBLIC[1:]),
        lambda: keys.xonly(b"\x04" + PUBLIC[1:]),
        lambda: keys.xonly(b"\x02" + b"\xff" * 32),
        lambda: keys.lift_x(PUBLIC),
        lambda: keys.lift_x(b"\xff" * 32),
        lambda: keys.sign_schnorr(SECRET, bytes(31), bytes(32)),
        lambda: keys.sign_schnorr(SECRET, bytes(32), bytes(33)),
        lambda: keys.sign_schnorr(bytes(32), bytes(32), bytes(32)),
        lambda: keys.tweak_xonly(bytes(31), bytes(32)),
        lambda: keys.tweak_xonly(b"\xff" * 32, bytes(32)),
        lambda: keys.tweak_xonly(PUBLIC[1:], ORDER),
        lambda: keys.tweak_secret(SECRET, bytes(31)),
        lambda: keys.sum_of_products([]),
        lambda: keys.sum_of_products([(PUBLIC, ONE), (bytes((PUBLIC[0] ^ 1,)) + PUBLIC[1:], ONE)]),
        lambda: keys.sum_of_products([(PUBLIC, bytes(32))]),
        lambda: keys.sum_of_products([(PUBLIC, ORDER)]),
        lambda: keys.add_secrets(SECRET, (keys.ORDER - 7).to_bytes(32, "big")),
        lambda: keys.mul_secrets(SECRET, bytes(32)),
        lambda: musig.key_agg([]),
        lambda: musig.key_agg([PUBLIC, b"\x02" + b"\xff" * 32]),
        lambda: keys.reduce_scalar(bytes(31)),
    ],
)
def test_bad_arguments_are_refused_before_the_library_sees_them(call: Callable[[], bytes]) -> None:
    """Wrong lengths, points off the curve and scalars out of range give a typed error."""
    with pytest.raises(MalformedInput):
        call()


@pytest.mark.parametrize(
    ("public", "message", "signature"),
    [(PUBLIC, bytes(32), bytes(64)), (PUBLIC[1:], bytes(31), bytes(64)), (PUBLIC[1:], bytes(32), bytes(63))],
)
def test_wrong_lengths_are_never_valid_signatures(public: bytes, message: bytes, signature: bytes) -> None:
    """Verification answers False to arguments of a wrong length."""
    assert not keys.verify_schnorr(public, message, signature)


@pytest.mark.parametrize(
    "candidate", [b"", PUBLIC[:32], PUBLIC + b"\x00", b"\x04" + PUBLIC[1:], b"\x02" + b"\xff" * 32]
)
def test_is_public_key_refuses(candidate: bytes) -> None:
    """Only 33 bytes that name a point in compressed form are a public key."""
    assert not keys.is_public_key(candidate)


def test_predicates_accept_what_is_valid() -> None:
    """A point, its x coordinate and its secret are recognized."""
    assert keys.is_public_key(PUBLIC)
    assert keys.is_xonly(PUBLIC[1:])
    assert keys.secret_in_range(SECRET)


def test_secret_arithmetic_matches_point_arithmetic() -> None:
    """Sums and products of secrets belong to sums and multiples of their points."""
    other = bytes(31) + b"\x0b"

    total = keys.sum_of_products([(PUBLIC, ONE), (keys.public_key(other), ONE)])
    assert keys.public_key(keys.add_secrets(SECRET, other)) == total
    assert keys.public_key(keys.mul_secrets(SECRET, other)) == keys.sum_of_products([(PUBLIC, other)])


def test_tweaked_secret_signs_for_the_tweaked_key() -> None:
    """The output key of a tree verifies what its tweaked secret signs."""
    root = bytes(range(32))
    output, _ = keys.tweak_xonly(PUBLIC[1:], keys.taproot_tweak(PUBLIC[1:], root))

    signature = keys.sign_schnorr(keys.tweak_secret(SECRET, root), bytes(32), bytes(32))

    assert keys.verify_schnorr(output, bytes(32), signature)


def test_errors_do_not_show_the_secret() -> None:
    """A refused secret does not appear in the message."""
    with pytest.raises(MalformedInput) as caught:
        keys.public_key(ORDER)

    assert ORDER.hex() not in str(caught.value).lower()


def test_an_illegal_argument_fails_instead_of_ending_the_process() -> None:
    """With the guard an illegal call into the library returns 0 and the process lives."""
    probe = subprocess.run([sys.executable, "-c", GUARD_PROBE], capture_output=True, text=True, check=False)

    assert (0, "0\n") == (probe.returncode, probe.stdout), probe.stderr


@pytest.fixture
def restricted_probe() -> "subprocess.CompletedProcess[str]":
    """The probe, run by an interpreter under PR_SET_MDWE; skipped where the kernel has none."""
    probe = subprocess.run([sys.executable, "-c", RESTRICTED], capture_output=True, text=True, check=False)
    if probe.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3 or newer)")
    return probe


def test_the_guard_works_where_memory_may_not_become_executable(
    restricted_probe: "subprocess.CompletedProcess[str]",
) -> None:
    """Under PR_SET_MDWE, as in the hardened service, the guard still holds."""
    assert (0, "0\n") == (restricted_probe.returncode, restricted_probe.stdout), restricted_probe.stderr


def test_ecdsa_of_rfc6979() -> None:
    """A published signature over secp256k1 with the nonce of RFC 6979 is made again, with low s."""
    secret = (1).to_bytes(32, "big")
    signature = keys.sign_ecdsa(secret, sha256(b"Satoshi Nakamoto"))

    assert (
        "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8"
        "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"
    ) == signature.hex()


@pytest.mark.parametrize(
    ("public", "message", "signature"),
    [
        (bytes(33), ZERO, bytes(64)),
        (keys.public_key(bytes(31) + b"\x01"), ZERO, bytes(64)),
        (keys.public_key(bytes(31) + b"\x01"), ZERO, b"\xff" * 64),
        (keys.public_key(bytes(31) + b"\x01"), ZERO, bytes(63)),
        (keys.public_key(bytes(31) + b"\x01"), bytes(31), bytes(63) + b"\x01"),
    ],
    ids=["no key", "zeros", "too large", "short", "short message"],
)
def test_malformed_ecdsa_signatures_do_not_verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Wrong lengths and values are no signatures, and no error either."""
    assert not keys.verify_ecdsa(public, message, signature)


def test_der_has_one_form() -> None:
    """What the encoder would not write is not read: garbage, another length, trailing bytes, padding."""
    encoded = keys.to_der(keys.sign_ecdsa(bytes(31) + b"\x01", ZERO))
    padded = b"\x30" + bytes((encoded[1] + 1,)) + b"\x02" + bytes((encoded[3] + 1,)) + b"\x00" + encoded[4:]

    assert [None] * 4 == [keys.from_der(each) for each in (b"", encoded[:-1], encoded + b"\x00", padded)]
    with pytest.raises(MalformedInput):
        keys.to_der(bytes(63))
    with pytest.raises(MalformedInput):
        keys.to_der(b"\xff" * 64)


def test_a_kept_signer_signs_the_same_bytes() -> None:
    """Whether the public key is made once or at every signature, the same secret gives the same signature."""
    signer = keys.SchnorrSigner(SECRET)

    again = [signer.sign(bytes(32), bytes(range(32))) for _ in range(2)]

    assert again == [keys.sign_schnorr(SECRET, bytes(32), bytes(range(32)))] * 2
    assert SECRET.hex() not in repr(signer)


def test_an_erased_signer_signs_nothing() -> None:
    """After `erase` the secret is gone, and so is the signature."""
    signer = keys.SchnorrSigner(SECRET)
    signer.erase()

    with pytest.raises(MalformedInput):
        signer.sign(bytes(32), bytes(32))


def test_reading_a_point_again_does_not_change_it() -> None:
    """Points are kept in parsed form; a product takes the place of a copy, not of the kept point."""
    factor = bytes(31) + b"\x05"

    once, twice = (keys.sum_of_products([(PUBLIC, factor)]) for _ in range(2))

    assert once == twice == keys.public_key((35).to_bytes(32, "big"))
