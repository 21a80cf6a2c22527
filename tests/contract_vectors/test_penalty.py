"""Penalty transactions: bytes, weights, and that nothing about the revoked state matters."""

from typing import Any

import pytest

from domain.chain import display, outpoint_vout
from domain.contract import keys
from domain.contract.commitment import build_commitment, contest_key
from domain.contract.penalty import (
    build_penalty,
    max_penalty_fee,
    penalty_sighash,
    penalty_vsize,
    penalty_weight,
    sign_penalty,
    verify_penalty,
)
from domain.contract.revocation import commitment_point, commitment_secret, revocation_secret
from domain.contract.taproot_scripts import contest_output
from domain.errors import InvalidSecret, InvalidState
from domain.transaction import Transaction
from domain.units import Side
from tests.contract_vectors.load import PARAMS, SECRETS, SWEEP, ZERO, load, raw

VECTORS = load("penalties")
POINT = commitment_point(SECRETS[Side.A].seed, 5)
COMMIT = build_commitment(PARAMS, Side.A, 5, POINT)
KEY = contest_key(PARAMS, Side.A, POINT)
SECRET = revocation_secret(SECRETS[Side.B].rev, commitment_secret(SECRETS[Side.A].seed, 5))
CONTEST = COMMIT.outputs[0].spk
P2WPKH = Transaction.parse(raw(VECTORS["penalty_A_5_p2wpkh"]["tx"])).outputs[0].spk


def _signed(fee: int = 1000, hash_type: int = 0) -> Transaction:
    return sign_penalty(PARAMS, build_penalty(PARAMS, COMMIT.txid, fee, SWEEP[Side.B]), KEY, SECRET, ZERO, hash_type)


@pytest.mark.parametrize(
    ("name", "sweep", "weight", "size"),
    [
        ("penalty_A_5", SWEEP[Side.B], 444, 111),
        ("penalty_A_5_acp", SWEEP[Side.B], 445, 112),
        ("penalty_A_5_p2wpkh", P2WPKH, 396, 99),
    ],
)
def test_penalties_of_the_vectors(name: str, sweep: bytes, weight: int, size: int) -> None:
    """A penalty is signed to the bytes, sighash and weight of the vectors."""
    vector = VECTORS[name]
    tx = build_penalty(PARAMS, COMMIT.txid, vector["fee"], sweep)
    signed = sign_penalty(PARAMS, tx, KEY, SECRET, ZERO, vector["sighash_type"])

    assert vector["sighash"] == penalty_sighash(PARAMS, tx, CONTEST, vector["sighash_type"]).hex()
    assert vector["signature64"] == signed.inputs[0].witness[0][:64].hex()
    assert (vector["tx"], vector["txid"]) == (signed.serialize().hex(), display(signed.txid))
    assert (weight, size) == (signed.weight, signed.vsize)
    assert verify_penalty(signed, PARAMS, CONTEST)


def test_revocation_secrets_of_the_vectors() -> None:
    """The secret of state 5 gives the revocation secret and its tweaked form."""
    vector = VECTORS["revocation_A_5"]
    root = contest_output(PARAMS, KEY).merkle_root

    assert vector["secret"] == commitment_secret(SECRETS[Side.A].seed, 5).hex()
    assert vector["revocation_priv"] == SECRET.hex()
    assert vector["tweaked_priv"] == keys.tweak_secret(SECRET, root).hex()


@pytest.mark.parametrize("rung", VECTORS["ladder_A_5"], ids=lambda rung: str(rung["fee"]))
def test_rungs_of_the_ladder(rung: dict[str, Any]) -> None:
    """Every rung of the ladder is the penalty with its fee and hash type."""
    signature, hash_type = rung["sig65"][:128], int(rung["sig65"][128:], 16)

    assert signature == _signed(rung["fee"], hash_type).inputs[0].witness[0][:64].hex()


@pytest.mark.parametrize(("sweep", "size"), [(SWEEP[Side.B], 111), (P2WPKH, 99)])
def test_sizes_are_known_before_signing(sweep: bytes, size: int) -> None:
    """The fee can be computed from the sweep script alone."""
    assert (size, size) == (penalty_vsize(PARAMS, sweep), -(-penalty_weight(PARAMS, sweep) // 4))


def test_the_highest_fee_leaves_dust() -> None:
    """A fee up to V minus dust is possible, one satoshi more is refused."""
    most = max_penalty_fee(PARAMS, SWEEP[Side.B])
    tx = build_penalty(PARAMS, COMMIT.txid, most, SWEEP[Side.B])

    assert 330 == tx.outputs[0].value
    with pytest.raises(InvalidState, match="outside"):
        build_penalty(PARAMS, COMMIT.txid, most + 1, SWEEP[Side.B])
    with pytest.raises(InvalidState, match="outside"):
        build_penalty(PARAMS, COMMIT.txid, -1, SWEEP[Side.B])


@pytest.mark.parametrize("sweep", [raw("51024e73"), b"", b"\x76\xa9\x14" + bytes(20) + b"\x88\xac"])
def test_penalties_pay_no_keyless_or_legacy_script(sweep: bytes) -> None:
    """The money goes to a witness program of the client."""
    with pytest.raises(InvalidState, match="sweep"):
        build_penalty(PARAMS, COMMIT.txid, 1000, sweep)


def test_a_secret_of_another_state_is_refused() -> None:
    """The secret of state 4 does not punish state 5."""
    other = revocation_secret(SECRETS[Side.B].rev, commitment_secret(SECRETS[Side.A].seed, 4))

    with pytest.raises(InvalidSecret):
        sign_penalty(PARAMS, build_penalty(PARAMS, COMMIT.txid, 1000, SWEEP[Side.B]), KEY, other, ZERO)


@pytest.mark.parametrize(
    "tx",
    [
        _signed().with_witness(0, ()),
        _signed().with_witness(0, (bytes(64),)),
        _signed().with_witness(0, (_signed().inputs[0].witness[0] + b"\x02",)),
        _signed().with_witness(0, (_signed().inputs[0].witness[0] + b"\x01",)),
        _signed().with_witness(0, (_signed().inputs[0].witness[0], b"\x50")),
        build_penalty(PARAMS, COMMIT.txid, 999, SWEEP[Side.B]).with_witness(0, _signed().inputs[0].witness),
        Transaction(2, _signed().inputs, _signed().outputs, 0),
        Transaction(3, _signed().inputs, _signed().outputs, 1),
        Transaction(3, _signed().inputs, _signed().outputs * 2, 0),
        COMMIT,
    ],
    ids=["bare", "zeros", "none", "all", "annex", "fee", "version", "lock", "outputs", "commitment"],
)
def test_altered_penalties_do_not_verify(tx: Transaction) -> None:
    """Whatever differs from the signed penalty is not a valid one."""
    assert not verify_penalty(tx, PARAMS, CONTEST)


def test_penalties_have_one_input_one_output_and_version_3() -> None:
    """The shape never changes: version 3, replaceable, output 0 of the commitment, no lock."""
    tx = _signed()

    assert (3, 0, 1, 1) == (tx.version, tx.lock_time, len(tx.inputs), len(tx.outputs))
    assert (0xFFFFFFFD, COMMIT.txid, 0) == (
        tx.inputs[0].sequence,
        tx.inputs[0].outpoint[:32],
        outpoint_vout(tx.inputs[0].outpoint),
    )
