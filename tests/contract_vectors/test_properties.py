"""Properties that hold for all inputs: codecs, refusals, amounts, penalties."""

from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.contract import keys
from domain.contract.commitment import build_commitment, decode_number, is_commitment_template, obscure
from domain.contract.conditions import Condition, decode_conditions, encode_conditions
from domain.contract.params import ChannelParams, read_spk_field, spk_field
from domain.contract.penalty import build_penalty, max_penalty_fee, penalty_weight, sign_penalty, verify_penalty
from domain.contract.proofs import ProofContext, evaluate_counter_proof, verify_proof
from domain.contract.revocation import (
    NO_SECRETS,
    commitment_secret,
    derive_secret,
    index_of,
    insert_secret,
    revocation_public,
    revocation_secret,
)
from domain.contract.scripts import dust_limit
from domain.contract.settlement import overhead, plan_settlement
from domain.contract.state import StateHeader, StateSignatures
from domain.contract.uploads import KeyedRegistration, KeyedUpdate, ReceiptBody
from domain.errors import DomainError, InvalidState
from domain.transaction import Transaction, TxIn, TxOut, compact_size, read_compact_size
from domain.units import MAX_MONEY, MAX_SEQUENCE, Side
from tests.contract_vectors.load import PARAMS, SECRETS, SWEEP, ZERO, header_of, load, raw
from tests.contract_vectors.segwit import SEGWIT, VECTORS

COMMIT = raw(load("commitments")["commit_A_5"]["tx"])
PROOF = raw(load("proofs")["proofs"][1]["proof"])
REGISTER = raw(load("uploads")["mode_K"]["KRG1"])
CONTEXT = ProofContext(Transaction.parse(COMMIT), SWEEP[Side.B])

SEGWIT_PROOF = raw(VECTORS["proofs"][2]["proof"])
SEGWIT_PENALTY = raw(VECTORS["penalty_A_5"]["tx"])
SEGWIT_CONTEST = raw(VECTORS["commit_A_5"]["contest_spk"])
SEGWIT_CONTEXT = ProofContext(
    Transaction.parse(raw(VECTORS["commit_A_5"]["tx"])),
    SWEEP[Side.B],
    revocation_key=raw(VECTORS["commit_A_5"]["R"]),
)

profiles = st.sampled_from([PARAMS, SEGWIT])
hashes = st.binary(min_size=32, max_size=32)
sequences = st.integers(0, MAX_SEQUENCE)
u64 = st.integers(0, 2**64 - 1)
spks = st.sampled_from([PARAMS.keys_a.payout, b"\x00\x14" + bytes(20), b"\x52\x28" + bytes(40)])
inputs = st.builds(
    TxIn,
    outpoint=st.binary(min_size=36, max_size=36),
    sequence=st.integers(0, 2**32 - 1),
    script_sig=st.binary(max_size=300),
    witness=st.lists(st.binary(max_size=300), max_size=3).map(tuple),
)
outputs = st.builds(TxOut, value=st.integers(0, MAX_MONEY // 4), spk=st.binary(max_size=300))
transactions = st.builds(
    Transaction,
    version=st.integers(0, 2**32 - 1),
    inputs=st.lists(inputs, min_size=1, max_size=3, unique_by=lambda txin: txin.outpoint).map(tuple),
    outputs=st.lists(outputs, min_size=1, max_size=3).map(tuple),
    lock_time=st.integers(0, 2**32 - 1),
)
htlcs = st.builds(
    Condition,
    type=st.integers(0, 1),
    id=st.integers(0, 2**16 - 1),
    expiry=st.integers(1, 499_999_999),
    amount=st.integers(1, 2000),
    hash=hashes,
)
condition_lists = st.lists(htlcs, max_size=8, unique_by=lambda condition: condition.key)
headers = st.builds(
    StateHeader,
    n_cond=st.integers(0, 2**16 - 1),
    channel_id=hashes,
    seq=sequences,
    balance_a=u64,
    balance_b=u64,
    cond_root=hashes,
    state_data_hash=hashes,
    commit_txid_a=hashes,
    commit_txid_b=hashes,
    settle_txid_a=hashes,
    settle_txid_b=hashes,
    prev_state_hash=hashes,
    app_id=hashes,
)
DECODERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "transaction": (Transaction.parse, COMMIT),
    "params": (ChannelParams.decode, PARAMS.encode()),
    "header": (StateHeader.decode, header_of(6).encode()),
    "conditions": (decode_conditions, raw(load("states")["states"][6]["conds"][0]["record"]) * 2),
    "signatures": (StateSignatures.decode, bytes(256)),
    "registration": (KeyedRegistration.decode, REGISTER),
    "update": (KeyedUpdate.decode, raw(load("uploads")["mode_K"]["KUP1_seq5"])),
    "receipt": (ReceiptBody.decode, raw(load("uploads")["receipt"]["body"])),
    "script field": (read_spk_field, spk_field(b"\x51\x02\xff\xff")),
    "proof": (lambda proof: verify_proof(PARAMS, proof, CONTEXT), PROOF),
    "proof of profile 1": (lambda proof: verify_proof(SEGWIT, proof, SEGWIT_CONTEXT), SEGWIT_PROOF),
    "penalty of profile 1": (lambda tx: verify_penalty(Transaction.parse(tx), SEGWIT, SEGWIT_CONTEST), SEGWIT_PENALTY),
    "counter-proof": (lambda counter: evaluate_counter_proof(PARAMS, PROOF[:-1], counter, CONTEXT), bytes(525)),
}


@given(transactions)
def test_transactions_round_trip(tx: Transaction) -> None:
    """Whatever can be written reads back to the same value and bytes."""
    assert tx == Transaction.parse(tx.serialize())
    assert tx.serialize() == Transaction.parse(tx.serialize()).serialize()


@given(u64)
def test_compact_sizes_round_trip(number: int) -> None:
    """Every 64-bit number has exactly one form."""
    assert (number, len(compact_size(number))) == read_compact_size(compact_size(number), 0)


@given(headers)
def test_headers_round_trip(header: StateHeader) -> None:
    """Headers read back to themselves."""
    assert header == StateHeader.decode(header.encode())


@given(condition_lists)
def test_conditions_round_trip_in_order(conditions: list[Condition]) -> None:
    """Records read back in ascending order, whatever order they were given in."""
    assert tuple(sorted(conditions, key=lambda condition: condition.key)) == decode_conditions(
        encode_conditions(conditions)
    )


@given(
    hashes,
    st.integers(0, 2**32 - 2),
    st.integers(10_000, 2**63),
    st.integers(1, 65_535),
    st.integers(1000, 50_000),
    st.sampled_from([(PARAMS, 0), (PARAMS, 1), (PARAMS, 2), (PARAMS, 3), (SEGWIT, 0), (SEGWIT, 2)]),
)
def test_params_round_trip(
    txid: bytes, vout: int, capacity: int, period: int, feerate: int, kind: tuple[ChannelParams, int]
) -> None:
    """Channel constants read back to themselves, and to the same names."""
    changes = {"funding_txid": txid, "funding_vout": vout, "capacity": capacity, "challenge_period": period}
    params = msgspec.structs.replace(kind[0], **changes, static_feerate=feerate, flags=kind[1])
    decoded = ChannelParams.decode(params.encode())

    assert params == decoded
    assert (params.channel_id, params.proposal_id) == (decoded.channel_id, decoded.proposal_id)


@pytest.mark.parametrize("name", list(DECODERS))
@given(garbage=st.binary(max_size=600))
def test_garbage_is_refused_with_a_typed_error(name: str, garbage: bytes) -> None:
    """Random bytes never raise anything but a refusal of the domain."""
    decode, _ = DECODERS[name]

    with suppress(DomainError):
        decode(garbage)


@pytest.mark.parametrize("name", list(DECODERS))
@given(position=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.integers(0, 3))
def test_damaged_bytes_are_refused_with_a_typed_error(name: str, position: int, byte: int, cut: int) -> None:
    """Valid bytes with one of them changed, and perhaps the end missing, never raise anything else either."""
    decode, valid = DECODERS[name]
    place = position % len(valid)
    damaged = valid[:place] + bytes((byte,)) + valid[place + 1 : len(valid) - cut]

    with suppress(DomainError):
        decode(damaged)


@given(sequences)
@example(0)
@example(2**24 - 1)
@example(2**24)
@example(MAX_SEQUENCE)
def test_f13_hidden_numbers_round_trip(sequence: int) -> None:
    """F13: every state number survives hiding."""
    assert sequence == decode_number(PARAMS, *obscure(PARAMS, sequence))


@given(st.integers(1, 200), st.binary(min_size=32, max_size=32))
@settings(max_examples=15)
def test_stores_derive_all_secrets_and_no_later_one(states: int, seed: bytes) -> None:
    """After n states all n secrets are known, the next one is not, and the store stays small."""
    buckets = NO_SECRETS
    for sequence in range(states):
        buckets = insert_secret(buckets, commitment_secret(seed, sequence), index_of(sequence))

    assert [commitment_secret(seed, n) for n in range(states)] == [
        derive_secret(buckets, index_of(n)) for n in range(states)
    ]
    assert derive_secret(buckets, index_of(states)) is None
    assert len(buckets) <= states.bit_length() + 1


@given(
    st.integers(0, 10_000),
    st.sampled_from([(PARAMS, 0), (PARAMS, 1), (SEGWIT, 0)]),
    st.integers(0, 900_000),
    st.integers(1, 65_535),
    spks,
)
@settings(max_examples=60)
def test_every_penalty_has_one_input_one_output_and_a_fixed_weight(
    sequence: int, kind: tuple[ChannelParams, int], fee: int, period: int, sweep: bytes
) -> None:
    """Whatever profile, state, challenge period and flags: one input, one output, and the weight known before."""
    params = msgspec.structs.replace(kind[0], flags=kind[1], challenge_period=period)
    secret = commitment_secret(SECRETS[Side.A].seed, sequence)
    punishing = revocation_secret(SECRETS[Side.B].rev, secret)
    commit = build_commitment(params, Side.A, sequence, keys.public_key(secret))
    key = revocation_public(params.keys_b.rev, keys.public_key(secret))

    tx = sign_penalty(params, build_penalty(params, commit.txid, fee, sweep), key, punishing, ZERO)

    assert is_commitment_template(commit, params)
    assert (1, 1) == (len(tx.inputs), len(tx.outputs))
    assert penalty_weight(params, sweep) - 4 * params.profile <= tx.weight <= penalty_weight(params, sweep)
    assert verify_penalty(tx, params, commit.outputs[0].spk)


@given(profiles, st.integers(-10, 10**7), spks)
def test_penalties_never_pay_less_than_dust(params: ChannelParams, fee: int, sweep: bytes) -> None:
    """A fee is either within its bounds and leaves dust, or refused."""
    possible = 0 <= fee <= max_penalty_fee(params, sweep)

    assert possible == (not _refused(lambda: build_penalty(params, ZERO, fee, sweep)))


@given(
    condition_lists,
    st.integers(0, 900_000),
    st.integers(1000, 50_000),
    st.sampled_from([(PARAMS, 0), (PARAMS, 1), (SEGWIT, 0)]),
)
def test_settlements_spend_exactly_the_contest_value(
    conditions: list[Condition], balance_b: int, feerate: int, kind: tuple[ChannelParams, int]
) -> None:
    """No output is dust, and what is left of V for the fee is at least the agreed one."""
    params = msgspec.structs.replace(kind[0], static_feerate=feerate, flags=kind[1])
    balance_a = params.capacity - balance_b - sum(condition.amount for condition in conditions)
    plan = plan_settlement(params, balance_a, balance_b, conditions)

    assert all(output.value >= dust_limit(output.spk) for output in plan.outputs)
    assert params.contest_value - sum(output.value for output in plan.outputs) >= plan.fee


@given(profiles, condition_lists, st.integers(0, 900_000), st.integers(1000, 50_000))
def test_the_overhead_decides_what_is_affordable(
    profile: ChannelParams, conditions: list[Condition], balance_b: int, feerate: int
) -> None:
    """At exactly the overhead A has a state, one satoshi below it has none."""
    params = msgspec.structs.replace(profile, static_feerate=feerate)
    needed = overhead(params, plan_settlement(params, 100_000, balance_b, conditions).fee)

    assert not _refused(lambda: plan_settlement(params, needed, balance_b, conditions))
    assert _refused(lambda: plan_settlement(params, needed - 1, balance_b, conditions))


@given(st.integers(1, keys.ORDER - 1), hashes)
def test_ecdsa_signatures_have_one_form_each(number: int, message: bytes) -> None:
    """A signature verifies in 64 bytes, has DER of at most 71 bytes, reads back, and its negated s is refused."""
    secret = number.to_bytes(32, "big")
    signature, public = keys.sign_ecdsa(secret, message), keys.public_key(secret)
    high = (keys.ORDER - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")

    assert keys.verify_ecdsa(public, message, signature)
    assert not keys.verify_ecdsa(public, message, signature[:32] + high)
    assert signature == keys.from_der(keys.to_der(signature))
    assert len(keys.to_der(signature)) <= 71
    assert 2 == keys.public_key(keys.even_secret(secret))[0]
    assert public[1:] == keys.public_key(keys.even_secret(secret))[1:]


def _refused(build: Callable[[], object]) -> bool:
    try:
        build()
    except InvalidState:
        return True
    return False
