"""Cooperative closes by leaf and by key path."""

import pytest

from domain.chain import display
from domain.contract import keys
from domain.contract.closing import (
    KEY_PATH_WEIGHT,
    build_cooperative_close,
    close_weight,
    complete_close_by_key_path,
    complete_close_by_leaf,
    is_cooperative_close,
    key_path_sighash,
    leaf_sighash,
)
from domain.contract.musig import MusigSession
from domain.contract.taproot_scripts import funding_output
from domain.errors import InvalidState
from domain.transaction import Transaction, TxOut
from domain.units import Side
from tests.contract_vectors.load import PARAMS, SECRETS, ZERO, load, raw

VECTOR = load("closing")["coop_close"]
BALANCES = (600_000, 400_000)
CLOSE = build_cooperative_close(PARAMS, BALANCES, Side.A, 400)


def test_close_of_the_vectors_by_leaf() -> None:
    """The close is built and signed by both to the bytes of the vectors, 784 WU."""
    message = leaf_sighash(PARAMS, CLOSE)
    signatures = [keys.sign_schnorr(SECRETS[side].fund, message, ZERO) for side in Side]
    complete = complete_close_by_leaf(PARAMS, CLOSE, *signatures)

    assert (VECTOR["sighash_leaf"], VECTOR["sighash_keypath"]) == (message.hex(), key_path_sighash(PARAMS, CLOSE).hex())
    assert (VECTOR["tx"], VECTOR["txid"]) == (complete.serialize().hex(), display(complete.txid))
    assert (784, 784, 196) == (complete.weight, VECTOR["weight"], complete.vsize)
    assert 784 == close_weight(PARAMS, CLOSE)


def test_close_by_key_path() -> None:
    """Two MuSig2 partial signatures spend the funding output by its key path, 616 WU, same txid."""
    output, message = funding_output(PARAMS), key_path_sighash(PARAMS, CLOSE)
    publics = (PARAMS.keys_a.fund, PARAMS.keys_b.fund)
    sessions = [
        MusigSession(SECRETS[side].fund, publics, bytes((side + 1,)) * 32, output.merkle_root, message) for side in Side
    ]
    nonces = [session.public_nonce for session in sessions]
    signature = sessions[0].aggregate([session.partial_sign(nonces) for session in sessions])
    complete = complete_close_by_key_path(CLOSE, signature)

    assert keys.verify_schnorr(output.output_key, message, signature)
    assert (KEY_PATH_WEIGHT, 154) == (complete.weight, complete.vsize)
    assert VECTOR["txid"] == display(complete.txid)


def test_the_closer_pays_the_fee() -> None:
    """The fee is taken from the closer alone."""
    by_b = build_cooperative_close(PARAMS, BALANCES, Side.B, 400, lock_time=850_000)

    assert [600_000, 399_600] == [output.value for output in by_b.outputs]
    assert (2, 850_000, 0xFFFFFFFD) == (by_b.version, by_b.lock_time, by_b.inputs[0].sequence)


@pytest.mark.parametrize(
    ("balances", "fee", "values"),
    [((999_671, 329), 400, [999_271]), ((999_670, 330), 400, [999_270, 330]), ((729, 999_271), 400, [999_271])],
)
def test_outputs_below_dust_are_omitted(balances: tuple[int, int], fee: int, values: list[int]) -> None:
    """A payout below its dust limit becomes fee, also when the closing fee makes it so."""
    assert values == [output.value for output in build_cooperative_close(PARAMS, balances, Side.A, fee).outputs]


@pytest.mark.parametrize(
    ("balances", "closer", "fee", "lock_time", "message"),
    [
        ((600_000, 400_001), Side.A, 400, 0, "capacity"),
        ((-1, 1_000_001), Side.B, 400, 0, "capacity"),
        ((300, 999_700), Side.A, 301, 0, "fee of 301"),
        (BALANCES, Side.A, -1, 0, "fee of -1"),
        (BALANCES, Side.A, 400, 500_000_000, "lock time"),
        ((1_000_000, 0), Side.A, 999_700, 0, "without outputs"),
    ],
)
def test_impossible_closes_are_refused(
    balances: tuple[int, int], closer: Side, fee: int, lock_time: int, message: str
) -> None:
    """Wrong sums, fees that the closer cannot pay and locks that are no height are refused."""
    with pytest.raises(InvalidState, match=message):
        build_cooperative_close(PARAMS, balances, closer, fee, lock_time)


def test_the_template_recognizes_closes() -> None:
    """A version-2 spend of the funding output to the payouts only is a close, in any amounts."""
    one_sided = build_cooperative_close(PARAMS, (1_000_000, 0), Side.A, 5000)

    assert is_cooperative_close(Transaction.parse(raw(VECTOR["tx"])), PARAMS)
    assert is_cooperative_close(one_sided, PARAMS)


@pytest.mark.parametrize(
    "tx",
    [
        Transaction(3, CLOSE.inputs, CLOSE.outputs, 0),
        Transaction(2, CLOSE.inputs, (*CLOSE.outputs, TxOut(1000, b"\x51\x20" + bytes(32))), 0),
        Transaction.parse(raw(load("commitments")["commit_A_5"]["tx"])),
        Transaction(2, Transaction.parse(raw(load("settlements")["settle_A_5"]["tx"])).inputs, CLOSE.outputs, 0),
    ],
    ids=["version 3", "stranger", "commitment", "other input"],
)
def test_the_template_refuses_everything_else(tx: Transaction) -> None:
    """Commitments, foreign outputs and foreign inputs are not a close."""
    assert not is_cooperative_close(tx, PARAMS)
