"""Settlement transactions: the exact amounts, bytes and weights."""

from typing import Any

import msgspec
import pytest

from domain.chain import display
from domain.contract import keys
from domain.contract.commitment import contest_key
from domain.contract.conditions import Condition
from domain.contract.settlement import (
    build_settlement,
    complete_settlement,
    condition_vouts,
    overhead,
    plan_settlement,
    settle_outputs,
    settlement_fee,
    settlement_sighash,
)
from domain.errors import InvalidState
from domain.transaction import Transaction, TxOut
from domain.units import Side
from tests.contract_vectors.load import (
    PARAMS,
    SECRETS,
    ZERO,
    conditions_of,
    header_of,
    load,
    points,
    raw,
    state_vector,
)

VECTORS = load("settlements")
P2WPKH = b"\x00\x14" + bytes(20)
HTLC = Condition(0, 1, 900_000, 10_000, ZERO)


def _complete(name: str) -> Transaction:
    """The settlement of the vectors, built and signed here."""
    _, side_name, number = name.split("_")
    side, header = Side[side_name], header_of(int(number))
    outputs = settle_outputs(PARAMS, *header.balances, conditions_of(state_vector(header.seq)))
    tx = build_settlement(PARAMS, header.commit_txid(side), outputs)
    key = contest_key(PARAMS, side, points(header.seq)[side])
    message = settlement_sighash(PARAMS, tx, key)
    assert VECTORS[name]["sighash"] == message.hex()
    signatures = [keys.sign_schnorr(SECRETS[signer].settle, message, ZERO) for signer in Side]
    return complete_settlement(PARAMS, tx, key, *signatures)


@pytest.mark.parametrize("name", ["settle_A_5", "settle_B_5", "settle_A_6"])
def test_settlements_of_the_vectors(name: str) -> None:
    """Built and signed again, a settlement has the bytes, txid, fee and weight of the vectors."""
    vector, tx = VECTORS[name], _complete(name)

    assert vector["tx"] == tx.serialize().hex()
    assert vector["txid"] == display(tx.txid)
    assert (vector["weight"], vector["vsize"]) == (tx.weight, tx.vsize)
    assert vector["actual_fee"] == PARAMS.contest_value - sum(output.value for output in tx.outputs)


def test_weight_of_a_settlement_with_two_balances() -> None:
    """Two P2TR balances and no condition weigh 840 WU, 210 vB."""
    tx = _complete("settle_A_5")

    assert (840, 210) == (tx.weight, tx.vsize)


@pytest.mark.parametrize("sequence", range(7))
def test_outputs_and_fees_of_the_vectors(sequence: int) -> None:
    """All seven states have the outputs and the fee of the vectors."""
    vector = state_vector(sequence)
    conditions, balances = conditions_of(vector), (vector["balance_A"], vector["balance_B"])
    outputs = settle_outputs(PARAMS, *balances, conditions)

    assert vector["settle_outputs"] == [[output.value, output.spk.hex()] for output in outputs]
    assert vector["F_s"] == settlement_fee(PARAMS, *balances, conditions)


def test_conditions_are_mapped_to_their_outputs() -> None:
    """State 6 has two live HTLCs at outputs 2 and 3; the third is trimmed and absent."""
    vector = state_vector(6)
    plan = plan_settlement(PARAMS, 450_000, 299_671, conditions_of(vector))

    assert {(0, 1): 2, (1, 2): 3} == plan.condition_vouts
    assert plan.condition_vouts == condition_vouts(PARAMS, 450_000, 299_671, conditions_of(vector))
    assert 329 == plan.trimmed_sat


@pytest.mark.parametrize("case", VECTORS["trimming"], ids=lambda case: f"{case['balance_A']}/{case['balance_B']}")
def test_trimming(case: dict[str, Any]) -> None:
    """Balances below dust are left out and become fee."""
    params = msgspec.structs.replace(PARAMS, capacity=case["capacity"])
    plan = plan_settlement(params, case["balance_A"], case["balance_B"])

    assert case["outputs"] == [[output.value, output.spk.hex()] for output in plan.outputs]
    assert (case["F_c"], case["F_s"]) == (params.commitment_fee, plan.fee)
    assert case["contest_value"] == params.contest_value
    assert case["actual_fee"] == params.contest_value - sum(output.value for output in plan.outputs)


def test_default_overhead() -> None:
    """A pays 1,232 sat by default: two anchors of 240, 332 and 420."""
    assert 1232 == overhead(PARAMS, settlement_fee(PARAMS, 600_000, 400_000))


def test_the_rescue_leaf_costs_32_weight_units() -> None:
    """With flag rescue_leaf the fee of two balances is that of the vectors, and so is the weight."""
    vector = load("variants")["rescue_leaf_variant"]
    params = msgspec.structs.replace(PARAMS, flags=vector["flags"])
    key = raw(load("commitments")["commit_A_5"]["R"])
    tx = build_settlement(params, ZERO, settle_outputs(params, 600_000, 400_000))

    assert vector["F_s_two_balances"] == settlement_fee(params, 600_000, 400_000)
    assert 872 == complete_settlement(params, tx, key, bytes(64), bytes(64)).weight


@pytest.mark.parametrize("period", [1, 16, 17, 127, 128, 144, 32_767, 32_768, 65_535])
@pytest.mark.parametrize("payout", [PARAMS.keys_a.payout, P2WPKH], ids=["P2TR", "P2WPKH"])
@pytest.mark.parametrize("number", [0, 1, 60, 255])
def test_the_fee_is_that_of_the_real_size(period: int, payout: bytes, number: int) -> None:
    """The planned size is the real one for every width of T, payout and number of outputs."""
    block = msgspec.structs.replace(PARAMS.keys_a, payout=payout)
    params = msgspec.structs.replace(PARAMS, keys_a=block, challenge_period=period)
    conditions = [msgspec.structs.replace(HTLC, id=i, amount=400) for i in range(number)]
    plan = plan_settlement(params, 600_000, 400_000 - 400 * number, conditions)
    tx = build_settlement(params, ZERO, plan.outputs)

    complete = complete_settlement(params, tx, raw(load("commitments")["commit_A_5"]["R"]), bytes(64), bytes(64))

    assert plan.vsize == complete.vsize


def test_an_opener_that_cannot_pay_the_overhead_is_refused() -> None:
    """One satoshi below the overhead there is no settlement, at the overhead there is one."""
    plan = plan_settlement(PARAMS, 1232, 998_768)

    assert [998_768, 240] == [output.value for output in plan.outputs]
    with pytest.raises(InvalidState, match="overhead of 1232"):
        plan_settlement(PARAMS, 1231, 998_769)


def test_a_state_hash_is_carried_exactly_by_the_flag() -> None:
    """A hash without the flag, and the flag without a hash, are refused."""
    flagged = msgspec.structs.replace(PARAMS, flags=2)

    with pytest.raises(InvalidState, match="onchain_state"):
        settle_outputs(PARAMS, 600_000, 400_000, (), ZERO)
    with pytest.raises(InvalidState, match="onchain_state"):
        settle_outputs(flagged, 600_000, 400_000)
    assert TxOut(0, b"\x6a\x20" + ZERO) == settle_outputs(flagged, 600_000, 400_000, (), ZERO)[2]


def test_settlements_wait_for_the_challenge_period() -> None:
    """The input's relative lock is T, in blocks, and version 3 makes it effective."""
    tx = build_settlement(PARAMS, ZERO, settle_outputs(PARAMS, 600_000, 400_000))

    assert (3, 0, 144) == (tx.version, tx.lock_time, tx.inputs[0].sequence)
