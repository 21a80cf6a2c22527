"""Profile 1: constants, scripts, hidden numbers and states of the vectors, byte for byte."""

from typing import Any

import msgspec
import pytest

from domain.chain import chain_hash, display, parse_outpoint
from domain.contract.commitment import decode_number, obscure
from domain.contract.conditions import encode_conditions
from domain.contract.params import ANCHOR_SAT, ParamsPolicy, check_params, profile_for
from domain.contract.primitives import push_number
from domain.contract.scripts import contest_descriptor, funding_descriptor, funding_output, htlc_descriptor, htlc_output
from domain.contract.segwit_scripts import contest_output
from domain.contract.settlement import settle_outputs, settlement_fee
from domain.contract.state import (
    PreviousState,
    StateSignatures,
    build_header,
    check_state,
    sign_state,
    verify_state_signatures,
)
from domain.errors import InvalidParams, InvalidSignature, InvalidState
from domain.units import Side
from tests.contract_vectors.load import PARAMS, SECRETS, ZERO, conditions_of, points, raw
from tests.contract_vectors.segwit import SEGWIT, VECTORS, segwit_header

CHANNEL, FUNDING = VECTORS["channel"], VECTORS["funding"]
STATES = range(7)


def test_channel_params_of_the_vectors() -> None:
    """The 516 bytes, their fields and everything that follows from them."""
    fields = ("version", "profile", "capacity", "T", "static_feerate", "anchor_sat", "reserve_sat", "flags")
    found = (1, SEGWIT.profile, SEGWIT.capacity, SEGWIT.challenge_period, SEGWIT.static_feerate, ANCHOR_SAT)

    assert tuple(CHANNEL[name] for name in fields) == (*found, SEGWIT.reserve_sat, SEGWIT.flags)
    assert CHANNEL["channel_params"] == SEGWIT.encode().hex()
    assert CHANNEL["chain_hash"] == SEGWIT.chain_hash.hex() == chain_hash(CHANNEL["network"]).hex()
    assert parse_outpoint(CHANNEL["funding_outpoint"]) == SEGWIT.funding_outpoint
    assert (CHANNEL["channel_id"], CHANNEL["proposal_id"]) == (SEGWIT.channel_id.hex(), SEGWIT.proposal_id.hex())
    assert CHANNEL["mask48"] == f"{SEGWIT.mask48:012x}"
    assert (CHANNEL["F_c"], CHANNEL["contest_value"]) == (SEGWIT.commitment_fee, SEGWIT.contest_value)


def test_the_keys_are_those_of_profile_0() -> None:
    """Only the profile byte differs from the channel of profile 0."""
    assert PARAMS == msgspec.structs.replace(SEGWIT, profile=0)


def test_funding_output_of_the_vectors() -> None:
    """The funding output has the script, program and descriptor of the vectors, whichever form is asked for."""
    output = VECTORS["funding"]["spk"], VECTORS["funding"]["witness_script"]
    found = funding_output(SEGWIT)

    assert output == (found.spk.hex(), found.script.hex())  # type: ignore[attr-defined]
    assert 71 == len(raw(FUNDING["witness_script"]))
    assert [FUNDING["descriptor"]] * 2 == [funding_descriptor(SEGWIT), funding_descriptor(SEGWIT, musig=False)]


@pytest.mark.parametrize("name", ["commit_A_5", "commit_B_5", "commit_A_0", "commit_A_6"])
def test_contest_outputs_of_the_vectors(name: str) -> None:
    """Contest outputs have the script and program of the vectors."""
    output = contest_output(SEGWIT, raw(VECTORS[name]["R"]))

    assert (VECTORS[name]["witness_script"], VECTORS[name]["contest_spk"]) == (output.script.hex(), output.spk.hex())


@pytest.mark.parametrize("case", VECTORS["T_encodings"], ids=lambda case: str(case["T"]))
def test_f14_contest_scripts_for_all_widths_of_the_challenge_period(case: dict[str, Any]) -> None:
    """F14: the challenge period is pushed minimally, so W_C has 111 to 114 bytes."""
    params = msgspec.structs.replace(SEGWIT, challenge_period=case["T"])
    script = contest_output(params, raw(VECTORS["commit_A_5"]["R"])).script

    assert (case["push"], case["length"]) == (push_number(case["T"]).hex(), len(script))
    assert script.endswith(raw(case["push"]) + b"\xb2\x68")


def test_descriptors_are_the_miniscripts_of_the_annex() -> None:
    """Contest and HTLC descriptors name keys, T, hash and expiry; a node derives the same scripts from them."""
    key, case = raw(VECTORS["commit_A_5"]["R"]), VECTORS["htlc"][0]
    low, high = sorted(f"02{block.settle.hex()}" for block in (SEGWIT.keys_a, SEGWIT.keys_b))
    receiver, offerer = SEGWIT.keys_b.htlc.hex(), SEGWIT.keys_a.htlc.hex()
    htlc = f"andor(pk({receiver}),hash160({case['ripemd160_of_hash']}),and_v(v:pk({offerer}),after({case['expiry']})))"

    assert f"wsh(or_d(pk({key.hex()}),and_v(v:multi(2,{low},{high}),older(144))))" == contest_descriptor(SEGWIT, key)
    assert f"wsh({htlc})" == htlc_descriptor(SEGWIT, Side.A, raw(case["payment_hash"]), case["expiry"])


@pytest.mark.parametrize(("expiry", "size"), [(128, 104), (32_767, 104), (32_768, 105), (2**23 - 1, 105)])
def test_htlc_scripts_grow_with_the_expiry(expiry: int, size: int) -> None:
    """W_H has 104 or 105 bytes for the heights of this century."""
    output = htlc_output(SEGWIT, Side.A, ZERO, expiry)

    assert size == len(output.script)  # type: ignore[attr-defined]


@pytest.mark.parametrize("expiry", [0, 500_000_000])
def test_htlcs_expire_at_heights(expiry: int) -> None:
    """Zero and values that mean a time are no expiry."""
    with pytest.raises(InvalidState):
        htlc_output(SEGWIT, Side.A, ZERO, expiry)


@pytest.mark.parametrize("vector", VECTORS["obscure"], ids=lambda vector: str(vector["n"]))
def test_f13_obscured_numbers_round_trip(vector: dict[str, Any]) -> None:
    """F13: numbers at the borders give the fields of the vectors and are read back."""
    fields = (int(vector["nSequence"], 16), int(vector["nLockTime"], 16))

    assert fields == obscure(SEGWIT, vector["n"])
    assert vector["n"] == decode_number(SEGWIT, *fields)


@pytest.mark.parametrize("sequence", STATES)
def test_states_of_the_vectors(sequence: int) -> None:
    """Header, hash, records, txids, outputs and fee of every state; each follows the one before."""
    vector = VECTORS["states"][sequence]
    conditions, balances = conditions_of(vector), (vector["balance_A"], vector["balance_B"])
    previous = PreviousState.of(segwit_header(sequence - 1)) if sequence else None
    before = previous.state_hash if previous else ZERO
    data = raw(vector["state_data"])
    header = build_header(SEGWIT, sequence, balances, conditions, data, before, ZERO, *points(sequence))

    assert (vector["seq"], vector["state_header"]) == (header.seq, header.encode().hex())
    assert vector["state_hash"] == header.state_hash.hex()
    assert "".join(entry["record"] for entry in vector["conds"]) == encode_conditions(conditions).hex()
    assert [vector[f"commit_txid_{side.name}"] for side in Side] == [display(header.commit_txid(s)) for s in Side]
    assert [vector[f"settle_txid_{side.name}"] for side in Side] == [display(header.settle_txid(s)) for s in Side]
    outputs = settle_outputs(SEGWIT, *balances, conditions)
    assert vector["settle_outputs"] == [[output.value, output.spk.hex()] for output in outputs]
    assert vector["F_s"] == settlement_fee(SEGWIT, *balances, conditions)
    check_state(SEGWIT, header, conditions, data, previous)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("sequence", STATES)
def test_signatures_of_the_vectors(sequence: int, side: Side) -> None:
    """All four signatures of a side are reproduced and accepted, 64 bytes each."""
    vector = VECTORS["states"][sequence]
    header, conditions, pair = segwit_header(sequence), conditions_of(vector), points(sequence)
    expected = vector["signatures"][side.name]
    signatures = sign_state(SEGWIT, header, conditions, side, SECRETS[side], pair, ZERO)

    assert "".join(expected[name] for name in ("state", "settle_A", "settle_B", "commit_peer")) == (
        signatures.encode().hex()
    )
    verify_state_signatures(SEGWIT, header, conditions, side, signatures, pair)


@pytest.mark.parametrize("name", ["state", "settle_A", "settle_B", "commit_peer"])
@pytest.mark.parametrize("side", list(Side))
def test_f08_a_wrong_signature_is_named(side: Side, name: str) -> None:
    """F08: each of the four signatures is checked, and the refusal says which one fails."""
    header, conditions, pair = segwit_header(6), conditions_of(VECTORS["states"][6]), points(6)
    good = sign_state(SEGWIT, header, conditions, side, SECRETS[side], pair, ZERO)
    wrong = msgspec.structs.replace(good, **{name.lower(): bytes(63) + b"\x01"})

    with pytest.raises(InvalidSignature, match=f"signature {name} of {side.name}"):
        verify_state_signatures(SEGWIT, header, conditions, side, wrong, pair)


def test_signatures_of_profile_0_do_not_count() -> None:
    """BIP-340 signatures over the taproot transactions of the same amounts are refused."""
    header, pair = segwit_header(5), points(5)
    taproot = build_header(PARAMS, 5, header.balances, [], b"", ZERO, ZERO, *pair)
    signatures = sign_state(PARAMS, taproot, [], Side.A, SECRETS[Side.A], pair, ZERO)

    with pytest.raises(InvalidSignature):
        verify_state_signatures(SEGWIT, header, [], Side.A, StateSignatures.decode(signatures.encode()), pair)


@pytest.mark.parametrize(("flags", "message"), [(1, "rescue_leaf"), (3, "rescue_leaf"), (4, "presigned"), (8, "bits")])
def test_only_the_state_hash_may_be_flagged(flags: int, message: str) -> None:
    """Of the flags profile 1 knows onchain_state alone."""
    check_params(msgspec.structs.replace(SEGWIT, flags=2), ParamsPolicy(SEGWIT.chain_hash))
    with pytest.raises(InvalidParams, match=message):
        check_params(msgspec.structs.replace(SEGWIT, flags=flags), ParamsPolicy(SEGWIT.chain_hash))


@pytest.mark.parametrize(("enabled", "accepted", "refused"), [(True, PARAMS, SEGWIT), (False, SEGWIT, PARAMS)])
def test_the_setting_chooses_the_profile_of_new_channels(enabled: bool, accepted: Any, refused: Any) -> None:
    """taproot_enabled takes channels of one profile and refuses the other with the way out; no setting takes both."""
    policy = ParamsPolicy(PARAMS.chain_hash, profile=profile_for(enabled))

    check_params(accepted, policy)
    check_params(refused, ParamsPolicy(PARAMS.chain_hash))
    with pytest.raises(InvalidParams, match="taproot_enabled chooses"):
        check_params(refused, policy)
