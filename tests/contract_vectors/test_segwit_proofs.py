"""Profile 1: proofs, counter-proofs, uploads and receipts of the vectors."""

import pytest

from domain.contract import keys
from domain.contract.proofs import ProofContext, evaluate_counter_proof, verify_proof
from domain.contract.revocation import NO_SECRETS, commitment_secret
from domain.contract.uploads import KeyedRegistration, KeyedUpdate, receipt_for, receipt_hash, upload_hash
from domain.errors import MalformedInput
from domain.transaction import Transaction
from domain.units import Side
from tests.contract_vectors.load import SECRETS, SWEEP, ZERO, points, raw
from tests.contract_vectors.segwit import SEGWIT, VECTORS

COMMIT_5 = Transaction.parse(raw(VECTORS["commit_A_5"]["tx"]))
KEY = raw(VECTORS["commit_A_5"]["R"])
CONTEXT = ProofContext(COMMIT_5, SWEEP[Side.B], revocation_key=KEY)
LADDER = next(raw(entry["proof"]) for entry in VECTORS["proofs"] if entry["name"] == "kind1")


@pytest.mark.parametrize("entry", VECTORS["proofs"], ids=lambda entry: entry["name"])
def test_verdicts_of_the_vectors(entry: dict[str, str]) -> None:
    """All 24 proofs get the verdict and reason of the vectors."""
    assert entry["length"] == len(raw(entry["proof"]))
    assert entry["verdict"] == str(verify_proof(SEGWIT, raw(entry["proof"]), CONTEXT))


@pytest.mark.parametrize("entry", VECTORS["counter_proofs"], ids=lambda entry: entry["name"])
def test_counter_proof_outcomes_of_the_vectors(entry: dict[str, str]) -> None:
    """All four counter-proofs get the outcome of the vectors."""
    outcome = evaluate_counter_proof(SEGWIT, raw(entry["proof"]), raw(entry["counter"]), CONTEXT)

    assert entry["outcome"] == outcome


def test_a_ladder_is_judged_with_the_revocation_key() -> None:
    """Without R nothing can be judged; another R than that of the published script proves nothing."""
    other = ProofContext(COMMIT_5, SWEEP[Side.B], revocation_key=raw(VECTORS["commit_A_6"]["R"]))

    assert "INVALID(TXID_MISMATCH)" == str(verify_proof(SEGWIT, LADDER, other))
    with pytest.raises(MalformedInput, match="revocation key R"):
        verify_proof(SEGWIT, LADDER, ProofContext(COMMIT_5, SWEEP[Side.B]))


@pytest.mark.parametrize("hash_type", [0x00, 0x02, 0x03, 0x82, 0x83])
def test_rungs_sign_all_outputs(hash_type: int) -> None:
    """Taproot's default type does not exist here, and a policy that admits SINGLE changes nothing."""
    body = bytes((1,)) + (426).to_bytes(4, "little") + bytes(64) + bytes((hash_type,))
    allowed = ProofContext(COMMIT_5, SWEEP[Side.B], allow_single=True, revocation_key=KEY)

    assert "INVALID(BAD_SIGHASH)" == str(verify_proof(SEGWIT, LADDER[:78] + body, allowed))


def test_uploads_of_the_vectors() -> None:
    """Registration and update of mode K read to B's keys against A and write to the same bytes."""
    register, update = raw(VECTORS["mode_K"]["KRG1"]), raw(VECTORS["mode_K"]["KUP1_seq5"])
    first = (points(0)[0], points(1)[0])
    registration = KeyedRegistration(SEGWIT, Side.A, SECRETS[Side.B].rev, SWEEP[Side.B], -1, first, NO_SECRETS)
    revealed = KeyedUpdate(SEGWIT.channel_id, 5, commitment_secret(SECRETS[Side.A].seed, 5), points(7)[0])

    assert (registration, register) == (KeyedRegistration.decode(register), registration.encode())
    assert (revealed, update) == (KeyedUpdate.decode(update), revealed.encode())
    assert VECTORS["mode_K"]["lengths"] == [len(register), len(update)]


def test_receipt_of_the_vectors() -> None:
    """Receipts and uploads are signed as in profile 0, by BIP-340."""
    vector, update = VECTORS["receipt"], raw(VECTORS["mode_K"]["KUP1_seq5"])
    tower = raw(vector["tower_sk"])
    body = receipt_for(raw(vector["tower_id"]), SEGWIT.channel_id, 5, update, 123_456).encode()

    assert vector["tower_id"] == keys.public_key(tower)[1:].hex()
    assert (vector["body"], vector["length"]) == (body.hex(), len(body))
    assert vector["hash"] == receipt_hash(body).hex()
    assert vector["sig"] == keys.sign_schnorr(tower, receipt_hash(body), ZERO).hex()
    assert vector["upload_sig_B"] == keys.sign_schnorr(SECRETS[Side.B].auth, upload_hash(update), ZERO).hex()
