"""`RCP2`: the receipt that names the place of an upload in the tower's log."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.contract import keys
from domain.contract.hashes import sha256
from domain.contract.receipts import (
    LOG_RECEIPT_SIZE,
    SIGNED_RECEIPT_SIZE,
    LogReceipt,
    SignedReceipt,
    read_receipt,
    require_receipt_signature,
    sign_receipt,
    state_upload,
    state_upload_sha256,
)
from domain.contract.uploads import REGISTRATION_SEQ, ReceiptBody, receipt_hash
from domain.errors import InvalidSignature, MalformedInput
from tests.contract_vectors.load import ZERO, load, raw

VECTOR = load("receipts")
SECRET = raw(VECTOR["tower_sk"])
RECEIPT = LogReceipt(
    tower_id=raw(VECTOR["tower_id"]),
    subject=raw(VECTOR["subject"]),
    seq=7,
    upload_sha256=raw(VECTOR["upload_sha256"]),
    tip_height=840_000,
    log_id=raw(VECTOR["log_id"]),
    epoch=3,
    position=1_234_567,
    leaf=raw(VECTOR["leaf"]),
    head=raw(VECTOR["head"]),
)
BODY = raw(VECTOR["body"])
SIGNED = SignedReceipt(BODY, raw(VECTOR["signature"]))
OLD = load("uploads")["receipt"]


def test_the_receipt_of_the_vector() -> None:
    """Body, hash and signature are those of the vector, in both directions."""
    assert VECTOR["length"] == LOG_RECEIPT_SIZE == len(BODY)
    assert BODY == RECEIPT.encode()
    assert LogReceipt.decode(BODY) == RECEIPT
    assert VECTOR["tower_id"] == keys.public_key(SECRET)[1:].hex()
    assert VECTOR["hash"] == receipt_hash(BODY).hex()
    assert VECTOR["signature"] == sign_receipt(SECRET, BODY).hex()


def test_a_receipt_is_signed_with_the_same_bytes_again() -> None:
    """The same body gets the same signature, another body another nonce."""
    other = msgspec.structs.replace(RECEIPT, seq=8).encode()

    assert sign_receipt(SECRET, BODY) == sign_receipt(SECRET, BODY)
    assert sign_receipt(SECRET, BODY)[:32] != sign_receipt(SECRET, other)[:32]


def test_a_good_receipt_is_verified() -> None:
    """Its fields come out, for the tower that it names."""
    assert SIGNED.verified() == RECEIPT
    assert SIGNED.verified(RECEIPT.tower_id) == RECEIPT
    assert SignedReceipt.decode(SIGNED.encode()) == SIGNED
    assert SIGNED_RECEIPT_SIZE == len(SIGNED.encode())


def test_a_receipt_of_another_tower_is_refused() -> None:
    """A good signature of a tower that was not expected proves nothing about the expected one."""
    other = keys.public_key(bytes(31) + b"\x09")[1:]

    with pytest.raises(InvalidSignature, match="not by"):
        SIGNED.verified(other)


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, SIGNED_RECEIPT_SIZE - 1), mask=st.integers(1, 255))
def test_any_changed_byte_is_refused(place: int, mask: int) -> None:
    """No byte of body or signature can be another one."""
    changed = bytearray(SIGNED.encode())
    changed[place] ^= mask

    with pytest.raises((InvalidSignature, MalformedInput)):
        SignedReceipt.decode(bytes(changed)).verified()


def test_old_receipts_stay_readable_and_verifiable() -> None:
    """`RCP1` of the vectors reads by its first bytes, and its signature fits by the same rule."""
    body = raw(OLD["body"])

    assert isinstance(read_receipt(body), ReceiptBody)
    assert read_receipt(BODY) == RECEIPT
    require_receipt_signature(body, raw(OLD["sig"]), raw(OLD["tower_id"]))
    assert SignedReceipt.decode(body + raw(OLD["sig"])).body == body


def test_an_old_receipt_has_no_place() -> None:
    """It cannot be read as one that names a place in the log."""
    with pytest.raises(MalformedInput, match="RCP2"):
        SignedReceipt(raw(OLD["body"]), raw(OLD["sig"])).read()


@pytest.mark.parametrize("damaged", [b"", BODY[:-1], BODY + b"\x00", b"RCP3" + BODY[4:]])
def test_damaged_bodies_are_refused(damaged: bytes) -> None:
    """Wrong length or magic."""
    with pytest.raises(MalformedInput, match="RCP2"):
        read_receipt(damaged)


@pytest.mark.parametrize("position", [0, 2**63])
def test_positions_out_of_range_are_refused(position: int) -> None:
    """Positions begin with 1 and fit a database's number, on both ways."""
    with pytest.raises(MalformedInput, match="position"):
        msgspec.structs.replace(RECEIPT, position=position).encode()
    with pytest.raises(MalformedInput, match="position"):
        LogReceipt.decode(BODY[:132] + position.to_bytes(8, "little") + BODY[140:])


@pytest.mark.parametrize("field", [{"epoch": -1}, {"epoch": 2**32}, {"tip_height": -1}, {"seq": 2**64}])
def test_numbers_out_of_range_are_refused(field: dict[str, int]) -> None:
    """A number that does not fit its place is a typed error."""
    with pytest.raises(MalformedInput, match="number"):
        msgspec.structs.replace(RECEIPT, **field).encode()


@pytest.mark.parametrize("field", [{"log_id": ZERO}, {"leaf": b""}, {"head": bytes(31)}, {"subject": bytes(33)}])
def test_names_of_wrong_length_are_refused(field: dict[str, bytes]) -> None:
    """Every name and hash has its own length, also where the sum would fit."""
    with pytest.raises(MalformedInput, match="32 bytes"):
        msgspec.structs.replace(RECEIPT, **field).encode()


def test_what_a_receipt_is_for() -> None:
    """A registration has a number of its own, which no state can have."""
    registration = msgspec.structs.replace(RECEIPT, seq=REGISTRATION_SEQ)

    assert (RECEIPT.is_registration, RECEIPT.what) == (False, "state 7")
    assert (registration.is_registration, registration.what) == (True, "the registration")


def test_the_upload_of_a_state() -> None:
    """Header, eight signatures, own point, and the revocation if there is one; each part changes the hash."""
    parts = (bytes(320), bytes(256), b"\x01" * 256, b"\x02" * 33)
    revocation = (b"\x03" * 32, b"\x02" * 33)

    assert b"OUP1" + b"".join(parts) + b"\x00" == state_upload(*parts, None, None)
    assert b"OUP1" + b"".join(parts) + b"\x01" + b"".join(revocation) == state_upload(*parts, *revocation)
    assert (870, 935) == (len(state_upload(*parts, None, None)), len(state_upload(*parts, *revocation)))
    assert sha256(state_upload(*parts, None, None)) == state_upload_sha256(*parts)


def test_half_an_upload_is_refused() -> None:
    """A secret without its point, or a part of another length, is no upload."""
    parts = (bytes(320), bytes(256), bytes(256), bytes(33))

    with pytest.raises(MalformedInput, match="belong together"):
        state_upload(*parts, bytes(32), None)
    with pytest.raises(MalformedInput, match="320 bytes"):
        state_upload(bytes(319), *parts[1:], None, None)
    with pytest.raises(MalformedInput, match="secret of 32"):
        state_upload(*parts, bytes(31), bytes(33))
