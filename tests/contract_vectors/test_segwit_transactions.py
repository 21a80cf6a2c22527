"""Profile 1: commitments, settlements, penalties, claims and closes of the vectors, byte for byte, and their sizes."""

from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from domain.contract import keys
from domain.contract.closing import (
    build_cooperative_close,
    close_weight,
    complete_close_by_leaf,
    is_cooperative_close,
    key_path_session,
    key_path_sighash,
    leaf_sighash,
    sign_close,
    verify_close,
)
from domain.contract.commitment import (
    build_commitment,
    build_commitment_to,
    commitment_number,
    commitment_sighash,
    complete_commitment,
    contest_key,
    is_commitment_template,
    sign_funding,
)
from domain.contract.hashes import ripemd160, sha256, tagged_hash
from domain.contract.htlc import (
    ClaimPath,
    build_htlc_success,
    build_htlc_timeout,
    claim_output,
    claim_sighash,
    claim_weight,
    claimant,
    complete_htlc_success,
    complete_htlc_timeout,
    extract_preimage,
    sign_htlc_claim,
)
from domain.contract.params import spk_field
from domain.contract.penalty import (
    build_penalty,
    complete_penalty,
    penalty_sighash,
    penalty_vsize,
    penalty_weight,
    sign_penalty,
    takes_by_revocation,
    verify_penalty,
)
from domain.contract.revocation import commitment_secret, revocation_secret
from domain.contract.settlement import (
    build_settlement,
    complete_settlement,
    condition_vouts,
    plan_settlement,
    settle_outputs,
    settlement_sighash,
    sign_settlement,
)
from domain.errors import InvalidParams, InvalidSecret, MalformedInput
from domain.transaction import Transaction
from domain.units import Side, vsize
from tests.contract_vectors.load import PARAMS, SECRETS, SWEEP, ZERO, conditions_of, internal, points, raw
from tests.contract_vectors.segwit import SEGWIT, VECTORS, segwit_header, shape

COMMIT = Transaction.parse(raw(VECTORS["commit_A_5"]["tx"]))
KEY, CONTEST = raw(VECTORS["commit_A_5"]["R"]), raw(VECTORS["commit_A_5"]["contest_spk"])
SECRET = raw(VECTORS["revocation_A_5"]["revocation_priv"])
P2WPKH = Transaction.parse(raw(VECTORS["penalty_A_5_p2wpkh"]["tx"])).outputs[0].spk
CLOSE = build_cooperative_close(SEGWIT, (600_000, 400_000), Side.A, 400)
CONDITIONS = {condition.key: condition for condition in conditions_of(VECTORS["states"][6])}
SETTLE_6 = internal(VECTORS["settle_A_6"]["txid"])


def _place(name: str) -> tuple[Side, int]:
    _, side, number = name.split("_")
    return Side[side], int(number)


def _shape_of(name: str) -> dict[str, object]:
    return {key: VECTORS[name][key] for key in shape(COMMIT)}


def _penalty(fee: int = 1000, hash_type: int | None = None, sweep: bytes = SWEEP[Side.B]) -> Transaction:
    return sign_penalty(SEGWIT, build_penalty(SEGWIT, COMMIT.txid, fee, sweep), KEY, SECRET, ZERO, hash_type)


@pytest.mark.parametrize("name", ["commit_A_5", "commit_B_5", "commit_A_0", "commit_A_6"])
def test_commitments_of_the_vectors(name: str) -> None:
    """A commitment is rebuilt from constants, number and point, and signed to the same bytes, at most 650 WU."""
    vector, (side, number) = VECTORS[name], _place(name)
    point = points(number)[side]
    tx = build_commitment(SEGWIT, side, number, point)
    complete = complete_commitment(SEGWIT, tx, *(sign_funding(SEGWIT, tx, SECRETS[s].fund, ZERO) for s in Side))

    assert (vector["point"], vector["R"]) == (point.hex(), contest_key(SEGWIT, side, point).hex())
    assert (int(vector["nSequence"], 16), int(vector["nLockTime"], 16)) == (tx.inputs[0].sequence, tx.lock_time)
    assert vector["sighash"] == commitment_sighash(SEGWIT, tx).hex()
    assert _shape_of(name) == shape(complete)
    assert vector["txid"] == shape(build_commitment_to(SEGWIT, number, raw(vector["contest_spk"])))["txid"]
    assert (True, number) == (is_commitment_template(complete, SEGWIT), commitment_number(SEGWIT, complete))
    assert 650 - 5 <= complete.weight <= 650


def test_commitments_of_the_other_profile_have_another_template() -> None:
    """Each profile recognizes its own kind of contest script only."""
    taproot = build_commitment(PARAMS, Side.A, 5, points(5)[0])

    assert (True, False) == (is_commitment_template(taproot, PARAMS), is_commitment_template(taproot, SEGWIT))
    assert (False, True) == (is_commitment_template(COMMIT, PARAMS), is_commitment_template(COMMIT, SEGWIT))


@pytest.mark.parametrize("name", ["settle_A_5", "settle_B_5", "settle_A_6"])
def test_settlements_of_the_vectors(name: str) -> None:
    """Built and signed again, a settlement has the bytes, fee and weight of the vectors."""
    vector, (side, number) = VECTORS[name], _place(name)
    header, key = segwit_header(number), contest_key(SEGWIT, side, points(number)[side])
    outputs = settle_outputs(SEGWIT, *header.balances, conditions_of(VECTORS["states"][number]))
    tx = build_settlement(SEGWIT, header.commit_txid(side), outputs)
    signatures = [sign_settlement(SEGWIT, tx, key, SECRETS[s].settle, ZERO) for s in Side]
    complete = complete_settlement(SEGWIT, tx, key, *signatures)

    assert vector["sighash"] == settlement_sighash(SEGWIT, tx, key).hex()
    assert _shape_of(name) == shape(complete)
    assert vector["actual_fee"] == SEGWIT.contest_value - sum(output.value for output in outputs)


@pytest.mark.parametrize("period", [1, 16, 17, 127, 128, 144, 32_767, 32_768, 65_535])
@pytest.mark.parametrize("number", [0, 1, 60, 255])
def test_fees_are_those_of_the_longest_signatures(period: int, number: int) -> None:
    """The planned size never lies below the real one, and above it by no more than three bytes per signature."""
    params = msgspec.structs.replace(SEGWIT, challenge_period=period)
    conditions = [msgspec.structs.replace(CONDITIONS[(0, 1)], id=i, amount=400) for i in range(number)]
    plan = plan_settlement(params, 600_000, 400_000 - 400 * number, conditions)
    tx = build_settlement(params, ZERO, plan.outputs)
    signatures = [sign_settlement(params, tx, KEY, SECRETS[s].settle, ZERO) for s in Side]
    complete = complete_settlement(params, tx, KEY, *signatures)

    assert complete.vsize <= plan.vsize <= vsize(complete.weight + 6)


def test_default_sizes_of_the_annex() -> None:
    """217 vB and 434 sat for two P2TR balances; 163 vB and 326 sat for the commitment."""
    plan = plan_settlement(SEGWIT, 600_000, 400_000)

    assert (217, 434) == (plan.vsize, plan.fee)
    assert (163, 326) == (SEGWIT.commitment_vsize, SEGWIT.commitment_fee)


def test_revocation_secrets_of_the_vectors() -> None:
    """The secret of state 5 gives r, which signs without parity rule and tweak."""
    revealed = commitment_secret(SECRETS[Side.A].seed, 5)

    assert VECTORS["revocation_A_5"]["secret"] == revealed.hex()
    assert SECRET == revocation_secret(SECRETS[Side.B].rev, revealed)
    assert KEY == keys.public_key(SECRET)


@pytest.mark.parametrize(
    ("name", "sweep"),
    [("penalty_A_5", SWEEP[Side.B]), ("penalty_A_5_acp", SWEEP[Side.B]), ("penalty_A_5_p2wpkh", P2WPKH)],
)
def test_penalties_of_the_vectors(name: str, sweep: bytes) -> None:
    """A penalty is signed to the bytes, sighash and weight of the vectors."""
    vector = VECTORS[name]
    signed = _penalty(vector["fee"], vector["sighash_type"], sweep)

    assert vector["sighash"] == penalty_sighash(SEGWIT, signed, CONTEST, vector["sighash_type"], KEY).hex()
    assert vector["signature64"] == (keys.from_der(signed.inputs[0].witness[0][:-1]) or b"").hex()
    assert _shape_of(name) == shape(signed)
    assert signed == complete_penalty(SEGWIT, signed, raw(vector["signature64"]), vector["sighash_type"], KEY)
    assert verify_penalty(signed, SEGWIT, CONTEST)


@pytest.mark.parametrize(("sweep", "weight", "size"), [(SWEEP[Side.B], 566, 142), (P2WPKH, 518, 130)])
def test_penalty_sizes_of_the_annex(sweep: bytes, weight: int, size: int) -> None:
    """142 vB to P2TR and 130 vB to P2WPKH, known before signing."""
    assert (weight, size) == (penalty_weight(SEGWIT, sweep), penalty_vsize(SEGWIT, sweep))
    assert weight - 3 <= _penalty(sweep=sweep).weight <= weight


@pytest.mark.parametrize(
    "tx",
    [
        _penalty().with_witness(0, ()),
        _penalty().with_witness(0, _penalty().inputs[0].witness[:1]),
        _penalty().with_witness(0, (b"", _penalty().inputs[0].witness[1])),
        _penalty().with_witness(0, (_penalty().inputs[0].witness[0][:-1] + b"\x02", _penalty().inputs[0].witness[1])),
        _penalty().with_witness(0, (_penalty().inputs[0].witness[0][:-1] + b"\x81", _penalty().inputs[0].witness[1])),
        _penalty().with_witness(0, (_penalty().inputs[0].witness[0], _penalty().inputs[0].witness[1][:-1] + b"\x69")),
        _penalty(999).with_witness(0, _penalty().inputs[0].witness),
        COMMIT,
    ],
    ids=["bare", "no script", "no signature", "none", "other type", "other script", "fee", "commitment"],
)
def test_altered_penalties_do_not_verify(tx: Transaction) -> None:
    """Whatever differs from the signed penalty is not a valid one."""
    assert not verify_penalty(tx, SEGWIT, CONTEST)


def test_penalties_of_another_contest_output_do_not_verify() -> None:
    """The revealed script must be that of the punished output."""
    assert not verify_penalty(_penalty(), SEGWIT, raw(VECTORS["commit_A_6"]["contest_spk"]))


@pytest.mark.parametrize("hash_type", [0x00, 0x02, 0x03, 0x83])
def test_penalties_are_signed_for_all_outputs(hash_type: int) -> None:
    """Only ALL and ALL|ANYONECANPAY exist in profile 1."""
    with pytest.raises(MalformedInput, match="hash type"):
        _penalty(hash_type=hash_type)


def test_penalties_need_the_revocation_key() -> None:
    """The script of the contest output is not in its hash: R must be known, and be the right one."""
    tx = build_penalty(SEGWIT, COMMIT.txid, 1000, SWEEP[Side.B])

    with pytest.raises(MalformedInput, match="revocation key R"):
        penalty_sighash(SEGWIT, tx, CONTEST)
    with pytest.raises(MalformedInput, match="revocation key R"):
        complete_penalty(SEGWIT, tx, bytes(63) + b"\x01", 1)
    with pytest.raises(MalformedInput, match="not that of"):
        penalty_sighash(SEGWIT, tx, raw(VECTORS["commit_A_6"]["contest_spk"]), revocation_key=KEY)
    with pytest.raises(InvalidSecret):
        sign_penalty(SEGWIT, tx, KEY, SECRETS[Side.B].rev, ZERO)


def test_penalties_and_settlements_are_told_apart_by_their_witness() -> None:
    """Two items are the revocation key's way, five are that of both settle keys."""
    contest = COMMIT.txid + bytes(4)
    settlement = Transaction.parse(raw(VECTORS["settle_A_5"]["tx"]))

    assert takes_by_revocation(SEGWIT, _penalty(), contest)
    assert not takes_by_revocation(SEGWIT, settlement, contest)
    assert not takes_by_revocation(SEGWIT, _penalty(), bytes(36))


@pytest.mark.parametrize("rung", VECTORS["ladder_A_5"], ids=lambda rung: str(rung["fee"]))
def test_rungs_of_the_ladder(rung: dict[str, Any]) -> None:
    """Every rung of the ladder is the penalty with its fee and hash type."""
    witness = _penalty(rung["fee"], int(rung["sig65"][128:], 16)).inputs[0].witness[0]

    assert rung["sig65"] == (keys.from_der(witness[:-1]) or b"").hex() + witness[-1:].hex()


def test_records_for_other_towers_are_made_of_the_same_signatures() -> None:
    """Record P and kit S of the vectors hold txid, R or W_C, and the rungs; the blob opens with the txid alone."""
    record, sealed, size = VECTORS["mode_P_record"], VECTORS["mode_S_blob"], len(VECTORS["ladder_A_5"])
    rungs = b"".join(rung["fee"].to_bytes(4, "little") + raw(rung["sig65"]) for rung in VECTORS["ladder_A_5"])
    script = _penalty().inputs[0].witness[1]
    kit = b"\x01\x02" + size.to_bytes(2, "little") + spk_field(SWEEP[Side.B]) + rungs + bytes((len(script),)) + script
    hint, salt = tagged_hash("SCT1/blob-hint", COMMIT.txid)[:16], raw(sealed["salt"])
    key = tagged_hash("SCT1/blob-key", COMMIT.txid + salt)
    aad = b"SCT1\x01" + hint

    assert record["record"] == (COMMIT.txid + KEY + bytes((size,)) + rungs).hex()
    assert record["length"] == len(raw(record["record"])) == 411
    assert raw(record["PUP1"]) == b"PUP1" + SEGWIT.channel_id + (5).to_bytes(8, "little") + b"\x00" + raw(
        record["record"]
    )
    assert (sealed["kit_used"], sealed["kit"]) == (len(kit), kit.ljust(512, b"\x00").hex())
    assert (sealed["hint"], sealed["key"], sealed["aad"]) == (hint.hex(), key.hex(), aad.hex())
    box = ChaCha20Poly1305(key).encrypt(bytes(12), kit.ljust(512, b"\x00"), aad)
    assert (sealed["blob"], sealed["length"]) == ((hint + salt + box).hex(), 560)


@pytest.mark.parametrize("case", VECTORS["htlc"], ids=["A to B", "B to A"])
def test_htlc_outputs_of_the_vectors(case: dict[str, Any]) -> None:
    """The HTLC of state 6 has the script, hash and output number of the vectors."""
    condition = CONDITIONS[(case["type"], case["id"])]
    output = claim_output(SEGWIT, condition)
    vouts = condition_vouts(SEGWIT, 450_000, 299_671, tuple(CONDITIONS.values()))

    assert (case["spk"], case["witness_script"]) == (output.spk.hex(), output.script.hex())  # type: ignore[attr-defined]
    assert (case["payment_hash"], case["expiry"]) == (condition.hash.hex(), condition.expiry)
    assert case["payment_hash"] == sha256(raw(case["preimage"])).hex()
    assert case["ripemd160_of_hash"] == ripemd160(condition.hash).hex()
    assert case["settle_A_6_vout"] == vouts[condition.key]


@pytest.mark.parametrize("case", VECTORS["htlc"], ids=["A to B", "B to A"])
def test_success_claims_of_the_vectors(case: dict[str, Any]) -> None:
    """The receiver's claim has the bytes, sighash and 591 WU of the vectors, and shows the preimage."""
    condition, vector = CONDITIONS[(case["type"], case["id"])], case["success"]
    paid = Transaction.parse(raw(vector["tx"])).outputs[0]
    fee = condition.amount - paid.value
    tx = build_htlc_success(SEGWIT, condition, SETTLE_6, case["settle_A_6_vout"], fee, paid.spk)
    secret = SECRETS[claimant(condition, ClaimPath.SUCCESS)].htlc
    signature = sign_htlc_claim(SEGWIT, condition, tx, ClaimPath.SUCCESS, secret, ZERO)
    complete = complete_htlc_success(SEGWIT, condition, tx, signature, raw(case["preimage"]))

    assert vector == {"sighash": claim_sighash(SEGWIT, condition, tx, ClaimPath.SUCCESS).hex(), **shape(complete)}
    assert raw(case["preimage"]) == extract_preimage(complete.inputs[0].witness, condition.hash)
    assert complete.weight <= claim_weight(SEGWIT, condition, ClaimPath.SUCCESS, paid.spk) == 591


@pytest.mark.parametrize("case", VECTORS["htlc"], ids=["A to B", "B to A"])
def test_timeout_claims_of_the_vectors(case: dict[str, Any]) -> None:
    """The offerer's refund has the bytes, lock time, sighash and 559 WU of the vectors."""
    condition, vector = CONDITIONS[(case["type"], case["id"])], case["timeout"]
    paid = Transaction.parse(raw(vector["tx"])).outputs[0]
    fee = condition.amount - paid.value
    tx = build_htlc_timeout(SEGWIT, condition, SETTLE_6, case["settle_A_6_vout"], fee, paid.spk)
    secret = SECRETS[claimant(condition, ClaimPath.TIMEOUT)].htlc
    signature = sign_htlc_claim(SEGWIT, condition, tx, ClaimPath.TIMEOUT, secret, ZERO)
    complete = complete_htlc_timeout(SEGWIT, condition, tx, signature)

    assert vector == {"sighash": claim_sighash(SEGWIT, condition, tx, ClaimPath.TIMEOUT).hex(), **shape(complete)}
    assert extract_preimage(complete.inputs[0].witness, condition.hash) is None
    assert complete.weight <= claim_weight(SEGWIT, condition, ClaimPath.TIMEOUT, paid.spk) == 559


def test_claim_sizes_of_profile_0() -> None:
    """The same function gives 605 and 550 WU with taproot."""
    condition, spk = CONDITIONS[(0, 1)], PARAMS.keys_a.payout

    assert [605, 550] == [claim_weight(PARAMS, condition, path, spk) for path in ClaimPath]


def test_cooperative_close_of_the_vectors() -> None:
    """The close is built and signed by both to the bytes of the vectors, at most 770 WU."""
    vector = VECTORS["coop_close"]
    signatures = [sign_close(SEGWIT, CLOSE, SECRETS[side].fund, ZERO) for side in Side]
    complete = complete_close_by_leaf(SEGWIT, CLOSE, *signatures)

    assert [(600_000, 400_000), "A", 400] == [tuple(vector["final_balances"]), vector["closer"], vector["fee"]]
    assert vector["sighash"] == leaf_sighash(SEGWIT, CLOSE).hex()
    assert _shape_of("coop_close") == shape(complete)
    assert vector["decoded_n_prime"] == commitment_number(SEGWIT, complete)
    assert complete.weight <= close_weight(SEGWIT, CLOSE) == 770
    assert is_cooperative_close(complete, SEGWIT)
    assert [True, False] == [verify_close(SEGWIT, CLOSE, side, signatures[0]) for side in Side]


def test_there_is_no_key_path_to_close_by() -> None:
    """MuSig2 is refused with the form that works."""
    with pytest.raises(InvalidParams, match="signature of each party"):
        key_path_session(SEGWIT, CLOSE, SECRETS[Side.A].fund, bytes(31) + b"\x01")
    with pytest.raises(InvalidParams, match="no key path"):
        key_path_sighash(SEGWIT, CLOSE)
