"""Claims on HTLC outputs."""

from typing import Any

import pytest

from domain.chain import display
from domain.contract.conditions import Condition, ConditionType
from domain.contract.htlc import (
    ClaimPath,
    build_htlc_success,
    build_htlc_timeout,
    claim_sighash,
    claimant,
    complete_htlc_success,
    complete_htlc_timeout,
    extract_preimage,
    sign_htlc_claim,
)
from domain.errors import InvalidSecret, InvalidState
from domain.transaction import Transaction
from domain.units import Side
from tests.contract_vectors.load import PARAMS, SECRETS, ZERO, conditions_of, header_of, load, raw, state_vector

CASES = load("htlc")["htlc"]
CONDITIONS = {condition.key: condition for condition in conditions_of(state_vector(6))}
SETTLE = header_of(6).settle_txid_a
FIRST = CONDITIONS[(0, 1)]
PREIMAGE = raw(CASES[0]["preimage"])
PAYOUT = PARAMS.keys_b.payout


def _condition(case: dict[str, Any]) -> Condition:
    return CONDITIONS[(case["type"], case["id"])]


def _destination(case: dict[str, Any], path: str) -> tuple[int, bytes]:
    output = Transaction.parse(raw(case[path]["tx"])).outputs[0]
    return _condition(case).amount - output.value, output.spk


@pytest.mark.parametrize("case", CASES, ids=["A to B", "B to A"])
def test_success_claims_of_the_vectors(case: dict[str, Any]) -> None:
    """The receiver's claim has the bytes, sighash and 605 WU of the vectors."""
    condition, vector = _condition(case), case["success"]
    tx = build_htlc_success(PARAMS, condition, SETTLE, case["settle_A_6_vout"], *_destination(case, "success"))
    signer = SECRETS[claimant(condition, ClaimPath.SUCCESS)]
    signature = sign_htlc_claim(PARAMS, condition, tx, ClaimPath.SUCCESS, signer.htlc, ZERO)
    complete = complete_htlc_success(PARAMS, condition, tx, signature, raw(case["preimage"]))

    assert vector["sighash"] == claim_sighash(PARAMS, condition, tx, ClaimPath.SUCCESS).hex()
    assert (vector["tx"], vector["txid"]) == (complete.serialize().hex(), display(complete.txid))
    assert (605, 152) == (complete.weight, complete.vsize)


@pytest.mark.parametrize("case", CASES, ids=["A to B", "B to A"])
def test_timeout_claims_of_the_vectors(case: dict[str, Any]) -> None:
    """The offerer's claim has the bytes, lock time, sighash and 550 WU of the vectors."""
    condition, vector = _condition(case), case["timeout"]
    tx = build_htlc_timeout(PARAMS, condition, SETTLE, case["settle_A_6_vout"], *_destination(case, "timeout"))
    signer = SECRETS[claimant(condition, ClaimPath.TIMEOUT)]
    signature = sign_htlc_claim(PARAMS, condition, tx, ClaimPath.TIMEOUT, signer.htlc, ZERO)
    complete = complete_htlc_timeout(PARAMS, condition, tx, signature)

    assert vector["sighash"] == claim_sighash(PARAMS, condition, tx, ClaimPath.TIMEOUT).hex()
    assert (vector["tx"], vector["txid"]) == (complete.serialize().hex(), display(complete.txid))
    assert (550, 138, condition.expiry) == (complete.weight, complete.vsize, complete.lock_time)


def test_the_right_side_claims() -> None:
    """An HTLC from A to B is claimed by B with the preimage and by A after the expiry, and vice versa."""
    second = CONDITIONS[(1, 2)]

    assert (Side.B, Side.A) == (claimant(FIRST, ClaimPath.SUCCESS), claimant(FIRST, ClaimPath.TIMEOUT))
    assert (Side.A, Side.B) == (claimant(second, ClaimPath.SUCCESS), claimant(second, ClaimPath.TIMEOUT))


@pytest.mark.parametrize("case", CASES, ids=["A to B", "B to A"])
def test_preimages_are_extracted_from_success_witnesses(case: dict[str, Any]) -> None:
    """A success claim reveals its preimage, a timeout claim reveals none."""
    success = Transaction.parse(raw(case["success"]["tx"])).inputs[0].witness
    timeout = Transaction.parse(raw(case["timeout"]["tx"])).inputs[0].witness

    assert raw(case["preimage"]) == extract_preimage(success, raw(case["payment_hash"]))
    assert extract_preimage(timeout, raw(case["payment_hash"])) is None


@pytest.mark.parametrize("preimage", [bytes(32), PREIMAGE[:31], PREIMAGE + b"\x00"])
def test_wrong_preimages_are_refused(preimage: bytes) -> None:
    """A preimage of a wrong value or length completes nothing."""
    tx = build_htlc_success(PARAMS, FIRST, SETTLE, 2, 3000, PAYOUT)

    with pytest.raises(InvalidSecret):
        complete_htlc_success(PARAMS, FIRST, tx, bytes(64), preimage)


@pytest.mark.parametrize("fee", [-1, 149_671])
def test_claims_keep_their_output_above_dust(fee: int) -> None:
    """A negative fee or one that leaves less than dust is refused."""
    with pytest.raises(InvalidState, match="claim fee"):
        build_htlc_success(PARAMS, FIRST, SETTLE, 2, fee, PAYOUT)


def test_claims_may_have_version_2_once_the_settlement_is_confirmed() -> None:
    """The version is the caller's choice; it is 3 by default."""
    assert 3 == build_htlc_success(PARAMS, FIRST, SETTLE, 2, 3000, PAYOUT).version
    assert 2 == build_htlc_timeout(PARAMS, FIRST, SETTLE, 2, 3000, PAYOUT, version=2).version


def test_descriptor_conditions_have_no_claim_here() -> None:
    """Only the owner of a descriptor knows how to spend it."""
    condition = Condition(ConditionType.DESCRIPTOR, 1, 0, 150_000, ZERO)

    with pytest.raises(InvalidState, match="descriptor"):
        build_htlc_success(PARAMS, condition, SETTLE, 2, 3000, PAYOUT)
