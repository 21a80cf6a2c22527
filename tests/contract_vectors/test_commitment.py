"""Commitment transactions: bytes, hidden numbers, template."""

from typing import Any

import msgspec
import pytest

from domain.chain import display
from domain.contract import keys
from domain.contract.commitment import (
    build_commitment,
    build_commitment_to,
    commitment_number,
    commitment_sighash,
    complete_commitment,
    contest_key,
    contest_txout,
    decode_number,
    is_commitment_template,
    obscure,
)
from domain.contract.revocation import commitment_point
from domain.errors import MalformedInput
from domain.transaction import Transaction, TxOut
from domain.units import Side
from tests.contract_vectors.load import PARAMS, SECRETS, ZERO, load, raw

VECTORS = load("commitments")
COMMIT = Transaction.parse(raw(VECTORS["commit_A_5"]["tx"]))
CLOSE = Transaction.parse(raw(load("closing")["coop_close"]["tx"]))


def _place(name: str) -> tuple[Side, int]:
    _, side, number = name.split("_")
    return Side[side], int(number)


def _changed(**changes: Any) -> Transaction:
    return msgspec.structs.replace(COMMIT, **changes)


@pytest.mark.parametrize("name", list(VECTORS))
def test_commitments_of_the_vectors(name: str) -> None:
    """A commitment is rebuilt from constants, number and point, and signed to the same bytes."""
    vector, (side, number) = VECTORS[name], _place(name)
    point = commitment_point(SECRETS[side].seed, number)

    tx = build_commitment(PARAMS, side, number, point)
    message = commitment_sighash(PARAMS, tx)
    signatures = [keys.sign_schnorr(SECRETS[signer].fund, message, ZERO) for signer in Side]
    complete = complete_commitment(PARAMS, tx, *signatures)

    assert (vector["point"], vector["R"]) == (point.hex(), contest_key(PARAMS, side, point).hex())
    assert vector["contest_spk"] == tx.outputs[0].spk.hex()
    assert (int(vector["nSequence"], 16), int(vector["nLockTime"], 16)) == (tx.inputs[0].sequence, tx.lock_time)
    assert (vector["sighash"], vector["txid"]) == (message.hex(), display(tx.txid))
    assert vector["tx"] == complete.serialize().hex()
    assert (664, 166) == (complete.weight, complete.vsize)


@pytest.mark.parametrize("name", list(VECTORS))
def test_commitments_are_rebuilt_from_their_contest_script(name: str) -> None:
    """Whoever knows only the contest script rebuilds the same transaction."""
    vector, (_, number) = VECTORS[name], _place(name)

    assert vector["txid"] == display(build_commitment_to(PARAMS, number, raw(vector["contest_spk"])).txid)


@pytest.mark.parametrize("vector", load("channel")["obscure"], ids=lambda vector: str(vector["n"]))
def test_f13_obscured_numbers_round_trip(vector: dict[str, Any]) -> None:
    """F13: numbers at the borders give the fields of the vectors and are read back."""
    fields = (int(vector["nSequence"], 16), int(vector["nLockTime"], 16))

    assert fields == obscure(PARAMS, vector["n"])
    assert vector["n"] == decode_number(PARAMS, *fields)


@pytest.mark.parametrize("number", [2**48 - 1, 2**48, -1])
def test_f13_numbers_without_a_secret_are_refused(number: int) -> None:
    """F13: 2^48-1 and whatever lies outside cannot be committed to."""
    with pytest.raises(MalformedInput):
        obscure(PARAMS, number)


@pytest.mark.parametrize("number", [0, 2**24 - 1, 2**24, 2**48 - 2])
def test_commitments_never_use_relative_or_future_locks(number: int) -> None:
    """Bit 31 switches BIP-68 off, replacement is signalled, and the lock time is in the past."""
    sequence, lock_time = obscure(PARAMS, number)

    assert 0x80 == sequence >> 24
    assert 500_000_000 <= lock_time < 0x21000000


def test_the_template_recognizes_commitments_of_both_sides() -> None:
    """Every commitment of the vectors has the template, with its number."""
    parsed = {name: Transaction.parse(raw(vector["tx"])) for name, vector in VECTORS.items()}

    assert dict.fromkeys(VECTORS, True) == {name: is_commitment_template(tx, PARAMS) for name, tx in parsed.items()}
    assert {name: _place(name)[1] for name in VECTORS} == {
        name: commitment_number(PARAMS, tx) for name, tx in parsed.items()
    }


@pytest.mark.parametrize(
    "tx",
    [
        _changed(version=2),
        _changed(lock_time=0x30000000),
        _changed(inputs=(msgspec.structs.replace(COMMIT.inputs[0], sequence=0xFFFFFFFD),)),
        _changed(inputs=(msgspec.structs.replace(COMMIT.inputs[0], script_sig=b"\x51"),)),
        _changed(inputs=(msgspec.structs.replace(COMMIT.inputs[0], outpoint=bytes(36)),)),
        _changed(inputs=COMMIT.inputs * 2),
        _changed(outputs=COMMIT.outputs[:1]),
        _changed(outputs=COMMIT.outputs[::-1]),
        _changed(outputs=(TxOut(PARAMS.contest_value - 1, COMMIT.outputs[0].spk), COMMIT.outputs[1])),
        _changed(outputs=(TxOut(PARAMS.contest_value, b"\x00\x14" + bytes(20)), COMMIT.outputs[1])),
        _changed(outputs=(COMMIT.outputs[0], TxOut(0, COMMIT.outputs[1].spk))),
        CLOSE,
    ],
    ids=[
        "version",
        "lock time",
        "sequence",
        "scriptSig",
        "outpoint",
        "two inputs",
        "one output",
        "order",
        "value",
        "script",
        "anchor",
        "close",
    ],
)
def test_the_template_refuses_everything_else(tx: Transaction) -> None:
    """One field that differs, or another kind of transaction, is not a commitment."""
    assert not is_commitment_template(tx, PARAMS)


def test_a_cooperative_close_decodes_to_a_random_number() -> None:
    """The number of a close means nothing, so the number alone never decides."""
    assert load("closing")["coop_close"]["decoded_n_prime"] == commitment_number(PARAMS, CLOSE)


def test_b_commitments_differ_from_a_commitments() -> None:
    """Both sides have their own contest output for one number and point."""
    point = commitment_point(SECRETS[Side.A].seed, 5)

    assert contest_txout(PARAMS, contest_key(PARAMS, Side.A, point)) != contest_txout(
        PARAMS, contest_key(PARAMS, Side.B, point)
    )
