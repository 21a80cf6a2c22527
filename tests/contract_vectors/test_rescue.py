"""Joint settlements by the rescue leaf."""

import msgspec
import pytest

from domain.contract import keys
from domain.contract.rescue import RESCUE_WEIGHT, build_rescue, complete_rescue, rescue_sighash
from domain.contract.sighash import taproot_sighash
from domain.contract.taproot_scripts import contest_leaves, contest_output
from domain.contract.taproot_tree import tap_leaf_hash
from domain.errors import InvalidParams, InvalidState
from domain.transaction import TxOut
from domain.units import Side
from tests.contract_vectors.load import PARAMS, SECRETS, ZERO, load, raw

RESCUE = msgspec.structs.replace(PARAMS, flags=1)
KEY = raw(load("commitments")["commit_A_5"]["R"])
OUTPUTS = (TxOut(599_000, PARAMS.keys_a.payout), TxOut(400_000, PARAMS.keys_b.payout))


def test_a_joint_settlement_spends_the_rescue_leaf() -> None:
    """Both settle keys sign leaf_R; version 3, no relative lock, 816 WU with two P2TR outputs."""
    tx = build_rescue(RESCUE, ZERO, OUTPUTS)
    message = rescue_sighash(RESCUE, tx, KEY)
    sig_a, sig_b = (keys.sign_schnorr(SECRETS[side].settle, message, ZERO) for side in Side)
    complete = complete_rescue(RESCUE, tx, KEY, sig_a, sig_b)
    output = contest_output(RESCUE, KEY)
    spent = (TxOut(RESCUE.contest_value, output.spk),)
    witness = complete.inputs[0].witness

    assert (3, 0xFFFFFFFD) == (complete.version, complete.inputs[0].sequence)
    assert (RESCUE_WEIGHT, 816) == (complete.weight, complete.weight)
    assert message == taproot_sighash(tx, 0, spent, leaf_hash=tap_leaf_hash(contest_leaves(RESCUE)[1]))
    assert load("channel")["leaf_R"] == witness[2].hex()
    assert load("variants")["rescue_leaf_variant"]["control_block_leaf_R"] == witness[3].hex()


def test_the_witness_follows_the_order_of_the_keys() -> None:
    """The signature for the lower key lies on top of the stack, so it comes second."""
    tx = complete_rescue(RESCUE, build_rescue(RESCUE, ZERO, OUTPUTS), KEY, b"a" * 64, b"b" * 64)
    low_first = sorted([(PARAMS.keys_a.settle, b"a" * 64), (PARAMS.keys_b.settle, b"b" * 64)])

    assert (low_first[1][1], low_first[0][1]) == tx.inputs[0].witness[:2]


def test_channels_without_the_flag_have_no_joint_settlement() -> None:
    """Without flag rescue_leaf there is nothing to sign."""
    with pytest.raises(InvalidParams, match="no rescue leaf"):
        build_rescue(PARAMS, ZERO, OUTPUTS)


@pytest.mark.parametrize("outputs", [(), (TxOut(329, PARAMS.keys_a.payout),), (TxOut(999_429, PARAMS.keys_a.payout),)])
def test_impossible_amounts_are_refused(outputs: tuple[TxOut, ...]) -> None:
    """No outputs, dust, and more than the contest output are refused."""
    with pytest.raises(InvalidState):
        build_rescue(RESCUE, ZERO, outputs)
