"""Uploads of mode K and receipts."""

import msgspec
import pytest

from domain.contract import keys
from domain.contract.hashes import sha256
from domain.contract.revocation import NO_SECRETS, commitment_secret, index_of, insert_secret
from domain.contract.uploads import (
    REGISTRATION_SEQ,
    KeyedRegistration,
    KeyedUpdate,
    ReceiptBody,
    receipt_for,
    receipt_hash,
    upload_hash,
)
from domain.errors import MalformedInput
from domain.units import Side
from tests.contract_vectors.load import PARAMS, SECRETS, SWEEP, ZERO, load, points, raw

VECTORS = load("uploads")
REGISTER = raw(VECTORS["mode_K"]["KRG1"])
UPDATE = raw(VECTORS["mode_K"]["KUP1_seq5"])
RECEIPT = VECTORS["receipt"]
BODY = raw(RECEIPT["body"])


def test_registration_of_the_vectors() -> None:
    """The registration reads to B's keys against A and writes to the same bytes."""
    registration = KeyedRegistration.decode(REGISTER)
    expected = KeyedRegistration(
        PARAMS, Side.A, SECRETS[Side.B].rev, SWEEP[Side.B], -1, (points(0)[0], points(1)[0]), NO_SECRETS
    )

    assert expected == registration
    assert REGISTER == registration.encode()
    assert VECTORS["mode_K"]["lengths"] == [len(REGISTER), len(UPDATE)]


def test_registration_with_secrets_round_trips() -> None:
    """A later registration carries its buckets, 38 bytes each."""
    buckets = NO_SECRETS
    for number in range(5):
        buckets = insert_secret(buckets, commitment_secret(SECRETS[Side.A].seed, number), index_of(number))
    registration = msgspec.structs.replace(KeyedRegistration.decode(REGISTER), highest_revoked=4, buckets=buckets)

    assert 671 + 38 * len(buckets) == len(registration.encode())
    assert registration == KeyedRegistration.decode(registration.encode())


def test_update_of_the_vectors() -> None:
    """The update reads to A's secret of state 5 and point of state 7."""
    expected = KeyedUpdate(PARAMS.channel_id, 5, commitment_secret(SECRETS[Side.A].seed, 5), points(7)[0])

    assert expected == KeyedUpdate.decode(UPDATE)
    assert UPDATE == expected.encode()


def test_receipt_of_the_vectors() -> None:
    """The receipt names the upload and is signed by the tower, the upload by the client."""
    tower = raw(RECEIPT["tower_sk"])
    body = receipt_for(raw(RECEIPT["tower_id"]), PARAMS.channel_id, 5, UPDATE, 123_456)

    assert BODY == body.encode()
    assert body == ReceiptBody.decode(BODY)
    assert RECEIPT["length"] == len(BODY)
    assert RECEIPT["tower_id"] == keys.public_key(tower)[1:].hex()
    assert RECEIPT["hash"] == receipt_hash(BODY).hex()
    assert RECEIPT["sig"] == keys.sign_schnorr(tower, receipt_hash(BODY), ZERO).hex()
    assert RECEIPT["upload_sig_B"] == keys.sign_schnorr(SECRETS[Side.B].auth, upload_hash(UPDATE), ZERO).hex()


def test_the_receipt_of_a_registration_has_its_own_number() -> None:
    """2^64-1 cannot be a state number, so a registration's receipt is not mistaken."""
    body = receipt_for(raw(RECEIPT["tower_id"]), PARAMS.channel_id, REGISTRATION_SEQ, REGISTER, 1)

    assert b"\xff" * 8 == body.encode()[68:76]
    assert sha256(REGISTER) == body.upload_sha256


@pytest.mark.parametrize(
    "damaged",
    [
        REGISTER[:-1],
        REGISTER + b"\x00",
        b"KRG2" + REGISTER[4:],
        REGISTER[:-1] + b"\x01",
        REGISTER[:-1] + bytes((50,)) + bytes(38 * 50),
        REGISTER[:520] + b"\x02" + REGISTER[521:],
        REGISTER[:596] + (-2).to_bytes(8, "little", signed=True) + REGISTER[604:],
        REGISTER[:-1] + b"\x02" + bytes(76),
        REGISTER[:-1] + b"\x01" + bytes(5) + b"\xff" * 33 + b"\x00",
    ],
    ids=["short", "long", "magic", "count", "too many", "side", "revoked", "twice", "extra"],
)
def test_damaged_registrations_are_refused(damaged: bytes) -> None:
    """Only complete registrations with values in range are read."""
    with pytest.raises(MalformedInput):
        KeyedRegistration.decode(damaged)


@pytest.mark.parametrize(
    "damaged", [UPDATE[:-1], UPDATE + b"\x00", b"KUP2" + UPDATE[4:], UPDATE[:36] + b"\xff" * 8 + UPDATE[44:]]
)
def test_damaged_updates_are_refused(damaged: bytes) -> None:
    """Wrong lengths, magic and impossible numbers cannot be read."""
    with pytest.raises(MalformedInput):
        KeyedUpdate.decode(damaged)


@pytest.mark.parametrize("damaged", [BODY[:-1], BODY + b"\x00", b"RCP2" + BODY[4:]])
def test_damaged_receipts_are_refused(damaged: bytes) -> None:
    """Wrong lengths and magic cannot be read."""
    with pytest.raises(MalformedInput):
        ReceiptBody.decode(damaged)


def test_fields_that_do_not_fit_are_not_written() -> None:
    """Encoding never truncates."""
    with pytest.raises(MalformedInput):
        KeyedUpdate(ZERO, -1, ZERO, bytes(33)).encode()
    with pytest.raises(MalformedInput):
        KeyedUpdate(ZERO, 1, ZERO, bytes(32)).encode()
    with pytest.raises(MalformedInput):
        ReceiptBody(ZERO, ZERO, 1, ZERO, -1).encode()
    with pytest.raises(MalformedInput):
        msgspec.structs.replace(KeyedRegistration.decode(REGISTER), rev_secret=bytes(31)).encode()
    with pytest.raises(MalformedInput):
        msgspec.structs.replace(KeyedRegistration.decode(REGISTER), highest_revoked=-2).encode()


def test_reprs_hide_secrets() -> None:
    """Neither the revocation secret nor a revealed secret shows in a repr."""
    update, registration = KeyedUpdate.decode(UPDATE), KeyedRegistration.decode(REGISTER)

    assert f"<KeyedUpdate {PARAMS.channel_id.hex()} state 5>" == repr(update)
    assert f"<KeyedRegistration {PARAMS.channel_id.hex()} watching A>" == repr(registration)
