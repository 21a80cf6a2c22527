"""Proofs of a newer state and counter-proofs."""

import pytest

from domain.contract.proofs import (
    CounterOutcome,
    ProofContext,
    Verdict,
    encode_counter_proof,
    encode_evidence,
    encode_evidence_proof,
    encode_secret_proof,
    evaluate_counter_proof,
    evidence_of,
    verify_proof,
)
from domain.errors import MalformedInput
from domain.transaction import Transaction
from domain.units import Side
from tests.contract_vectors.load import PARAMS, SWEEP, header_of, load, raw, state_vector

PROOFS, COUNTERS = load("proofs")["proofs"], load("proofs")["counter_proofs"]
BY_NAME = {entry["name"]: raw(entry["proof"]) for entry in PROOFS}
COMMIT_5 = Transaction.parse(raw(load("commitments")["commit_A_5"]["tx"]))
COMMIT_6 = Transaction.parse(raw(load("commitments")["commit_A_6"]["tx"]))
CONTEXT = ProofContext(COMMIT_5, SWEEP[Side.B])
COUNTER = raw(COUNTERS[1]["counter"])


def _evidence(sequence: int) -> bytes:
    signatures = state_vector(sequence)["signatures"]
    return encode_evidence(header_of(sequence), raw(signatures["A"]["state"]), raw(signatures["B"]["state"]))


@pytest.mark.parametrize("entry", PROOFS, ids=lambda entry: entry["name"])
def test_verdicts_of_the_vectors(entry: dict[str, str]) -> None:
    """All 24 proofs get the verdict and reason of the vectors."""
    assert entry["length"] == len(raw(entry["proof"]))
    assert entry["verdict"] == str(verify_proof(PARAMS, raw(entry["proof"]), CONTEXT))


@pytest.mark.parametrize("entry", COUNTERS, ids=lambda entry: entry["name"])
def test_counter_proof_outcomes_of_the_vectors(entry: dict[str, str]) -> None:
    """All four counter-proofs get the outcome of the vectors."""
    outcome = evaluate_counter_proof(PARAMS, raw(entry["proof"]), raw(entry["counter"]), CONTEXT)

    assert entry["outcome"] == outcome


def test_proofs_are_written_as_in_the_vectors() -> None:
    """The encoders give the bytes of the vectors."""
    channel, secret = PARAMS.channel_id, raw(load("penalties")["revocation_A_5"]["secret"])
    header_only = encode_evidence_proof(channel, 5, Side.A, COMMIT_5.txid, _evidence(6))

    assert BY_NAME["kind0"] == encode_secret_proof(channel, 5, Side.A, COMMIT_5.txid, secret)
    assert BY_NAME["kind3_header_only"] == header_only
    assert COUNTER == encode_counter_proof(channel, COMMIT_5.txid, 5, COUNTER[76:-1])
    assert header_of(6) == evidence_of(header_only)


def test_a_secret_proof_needs_no_context() -> None:
    """Knowledge of the secret and the published txid is enough."""
    assert Verdict.VALID_ENFORCEABLE == verify_proof(PARAMS, BY_NAME["kind0"], ProofContext()).verdict


def test_a_ladder_is_bound_to_the_published_transaction() -> None:
    """Without the transaction, or with another one, a ladder proves nothing."""
    missing = verify_proof(PARAMS, BY_NAME["kind1"], ProofContext(None, SWEEP[Side.B]))
    other = verify_proof(PARAMS, BY_NAME["kind1"], ProofContext(COMMIT_6, SWEEP[Side.B]))

    assert ["INVALID(TXID_MISMATCH)"] * 2 == [str(missing), str(other)]


def test_a_ladder_is_bound_to_the_sweep_script() -> None:
    """Signatures for another destination do not verify, and no destination is an error of the caller."""
    elsewhere = verify_proof(PARAMS, BY_NAME["kind1"], ProofContext(COMMIT_5, SWEEP[Side.A]))

    assert "INVALID(BAD_SIG)" == str(elsewhere)
    with pytest.raises(MalformedInput, match="sweep"):
        verify_proof(PARAMS, BY_NAME["kind1"], ProofContext(COMMIT_5))


@pytest.mark.parametrize("rungs", [0, 17, 255])
def test_a_ladder_has_1_to_16_rungs(rungs: int) -> None:
    """Other numbers of rungs are a wrong length, whatever follows."""
    proof = BY_NAME["kind1"][:78] + bytes((rungs,)) + bytes(69 * rungs)

    assert "INVALID(BAD_LENGTH)" == str(verify_proof(PARAMS, proof, CONTEXT))


def test_a_ladder_without_its_count_has_a_wrong_length() -> None:
    """78 bytes of kind 1 end before the number of rungs."""
    assert "INVALID(BAD_LENGTH)" == str(verify_proof(PARAMS, BY_NAME["kind1"][:78], CONTEXT))


def test_fees_of_a_ladder_leave_dust() -> None:
    """A rung above V minus dust could never be built."""
    body = bytes((1,)) + (999_099).to_bytes(4, "little") + bytes(64) + b"\x00"

    assert "INVALID(LADDER_FEE)" == str(verify_proof(PARAMS, BY_NAME["kind1"][:78] + body, CONTEXT))


def test_single_rungs_need_a_policy() -> None:
    """SINGLE|ANYONECANPAY is refused by default and judged by its signature where it is allowed."""
    body = bytes((1,)) + (336).to_bytes(4, "little") + bytes(64) + b"\x83"
    proof = BY_NAME["kind1"][:78] + body
    allowed = ProofContext(COMMIT_5, SWEEP[Side.B], allow_single=True)

    assert "INVALID(BAD_SIGHASH)" == str(verify_proof(PARAMS, proof, CONTEXT))
    assert "INVALID(BAD_SIG)" == str(verify_proof(PARAMS, proof, allowed))


@pytest.mark.parametrize(
    "counter",
    [
        COUNTER[:-1],
        COUNTER + b"\x00",
        COUNTER[:-1] + b"\x01",
        b"CPR2" + COUNTER[4:],
        COUNTER[:4] + bytes(32) + COUNTER[36:],
        COUNTER[:36] + bytes(32) + COUNTER[68:],
        COUNTER[:68] + (4).to_bytes(8, "little") + COUNTER[76:],
        COUNTER[:76] + b"XXXX" + COUNTER[80:],
    ],
    ids=["short", "long", "n_later", "magic", "channel", "txid", "sequence", "header"],
)
def test_damaged_counter_proofs_are_invalid(counter: bytes) -> None:
    """A counter-proof of a wrong form or about something else leaves the challenge as it is."""
    outcome = evaluate_counter_proof(PARAMS, BY_NAME["kind3_header_only"], counter, CONTEXT)

    assert CounterOutcome.COUNTER_INVALID == outcome


def test_an_older_state_does_not_refute() -> None:
    """A counter-proof with a state below the published one is invalid."""
    counter = encode_counter_proof(PARAMS.channel_id, COMMIT_5.txid, 5, _evidence(4))

    outcome = evaluate_counter_proof(PARAMS, BY_NAME["kind3_header_only"], counter, CONTEXT)

    assert CounterOutcome.COUNTER_INVALID == outcome


def test_an_equal_state_that_was_not_published_does_not_refute() -> None:
    """Showing the challenger's own state again changes nothing."""
    counter = encode_counter_proof(PARAMS.channel_id, COMMIT_5.txid, 5, _evidence(6))

    outcome = evaluate_counter_proof(PARAMS, BY_NAME["kind3_header_only"], counter, CONTEXT)

    assert CounterOutcome.COUNTER_INVALID == outcome


@pytest.mark.parametrize("proof", [BY_NAME["kind3_header_only"][:77], BY_NAME["secret_of_seq_4"], BY_NAME["kind9"]])
def test_invalid_challenges_are_refuted(proof: bytes) -> None:
    """A valid counter-proof refutes a challenge that proves nothing, even one too short to read."""
    assert CounterOutcome.REFUTED == evaluate_counter_proof(PARAMS, proof, COUNTER, CONTEXT)


def test_short_proofs_carry_no_evidence() -> None:
    """A proof without evidence part has no newer state."""
    assert evidence_of(BY_NAME["kind0"]) is None
