"""Binary forms of the protocol: a typed refusal, or a value that is written back to the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.chain import BlockHeader
from domain.contract.conditions import Condition, decode_conditions, encode_conditions
from domain.contract.params import ChannelParams, KeyBlock, read_spk_field, spk_field
from domain.contract.proofs import (
    ProofContext,
    ProofHead,
    Verdict,
    encode_counter_proof,
    evaluate_counter_proof,
    verify_proof,
)
from domain.contract.receipt_proofs import ReceiptAnswer
from domain.contract.receipts import LogReceipt, SignedReceipt
from domain.contract.state import StateHeader, StateSignatures
from domain.contract.uploads import KeyedRegistration, KeyedUpdate, ReceiptBody
from domain.errors import LogCorrupt, MalformedInput
from domain.events import decode_payload, encode_payload
from domain.joint import read_signature
from domain.transaction import Transaction, TxOut, compact_size, read_compact_size
from domain.units import MAX_MONEY, Side
from tests.contract_vectors.load import PARAMS, SWEEP, header_of, load, raw
from tests.contract_vectors.segwit import SEGWIT, VECTORS
from tests.fuzz.mutations import near, read_or_none
from tests.support.golden import GOLDEN_FILE

COMMITS = (raw(load("commitments")["commit_A_5"]["tx"]), raw(VECTORS["commit_A_5"]["tx"]))
PENALTIES = (raw(VECTORS["penalty_A_5"]["tx"]),)
RECORDS = [raw(each["record"]) for each in load("states")["states"][6]["conds"]]
UPLOADS = load("uploads")
OLD_RECEIPT = raw(UPLOADS["receipt"]["body"]) + bytes(64)
RECEIPT = raw(load("receipts")["body"]) + raw(load("receipts")["signature"])
PROOFS = [raw(each["proof"]) for each in (*load("proofs")["proofs"], *VECTORS["proofs"])]
EVIDENCE = header_of(6).encode() + bytes(128)
COUNTER = encode_counter_proof(PARAMS.channel_id, Transaction.parse(COMMITS[0]).txid, 5, EVIDENCE)
EVENTS = {topic: [raw(form) for form in forms] for topic, forms in json.loads(GOLDEN_FILE.read_text()).items()}
CONTEXTS = [
    (PARAMS, ProofContext(Transaction.parse(COMMITS[0]), SWEEP[Side.B])),
    (
        SEGWIT,
        ProofContext(Transaction.parse(COMMITS[1]), SWEEP[Side.B], revocation_key=raw(VECTORS["commit_A_5"]["R"])),
    ),
]

FORMS: dict[str, tuple[Callable[[bytes], Any], Callable[[Any], bytes], tuple[bytes, ...]]] = {
    "transaction": (Transaction.parse, Transaction.serialize, COMMITS + PENALTIES),
    "block header": (BlockHeader.parse, lambda header: header.raw, (bytes(range(80)),)),
    "channel constants": (ChannelParams.decode, ChannelParams.encode, (PARAMS.encode(), SEGWIT.encode())),
    "key block": (KeyBlock.decode, KeyBlock.encode, (PARAMS.keys_a.encode(), SEGWIT.keys_b.encode())),
    "state header": (StateHeader.decode, StateHeader.encode, (header_of(6).encode(),)),
    "condition": (Condition.decode, Condition.encode, tuple(RECORDS)),
    "conditions": (decode_conditions, encode_conditions, (b"".join(RECORDS), RECORDS[0], b"")),
    "signatures": (StateSignatures.decode, StateSignatures.encode, (bytes(256),)),
    "registration": (KeyedRegistration.decode, KeyedRegistration.encode, (raw(UPLOADS["mode_K"]["KRG1"]),)),
    "update": (KeyedUpdate.decode, KeyedUpdate.encode, (raw(UPLOADS["mode_K"]["KUP1_seq5"]),)),
    "receipt": (ReceiptBody.decode, ReceiptBody.encode, (raw(UPLOADS["receipt"]["body"]),)),
    "log receipt": (LogReceipt.decode, LogReceipt.encode, (raw(load("receipts")["body"]),)),
    "signed receipt": (
        SignedReceipt.decode,
        SignedReceipt.encode,
        (RECEIPT, raw(UPLOADS["receipt"]["body"]) + bytes(64)),
    ),
    "answer about a receipt": (ReceiptAnswer.decode, ReceiptAnswer.encode, (b"RCA1" + bytes(160),)),
    "script field": (read_spk_field, spk_field, (spk_field(PARAMS.keys_a.payout), spk_field(b"\x51\x02\xff\xff"))),
}
"""Reader, writer, valid bytes."""


@pytest.mark.parametrize("name", FORMS)
@given(data=st.data())
def test_a_form_is_refused_or_written_back(name: str, data: st.DataObject) -> None:
    """No exception but `DomainError`, and no second form of one value."""
    read, write, valid = FORMS[name]
    foreign = data.draw(near(*valid))

    found = read_or_none(read, foreign)

    assert found is None or foreign == write(found)


@pytest.mark.parametrize("name", FORMS)
def test_the_originals_are_read(name: str) -> None:
    """What the forms are changed from is valid: otherwise their tests would show little."""
    read, write, valid = FORMS[name]
    assert list(valid) == [write(read(each)) for each in valid]


@given(near(b"\xfd\xfd\x00", b"\xfe\x00\x00\x01\x00", b"\xff" + b"\x01" * 8, b"\xfc"))
def test_a_number_has_one_form(foreign: bytes) -> None:
    """A compact size is refused, or the bytes up to its end are its only form."""
    found = read_or_none(lambda each: read_compact_size(each, 0), foreign)
    assert found is None or foreign[: found[1]] == compact_size(found[0])


@pytest.mark.parametrize("count", [b"\xfe\xff\xff\xff\xff", b"\xff" * 9, b"\xfd\xff\xff"])
@pytest.mark.parametrize("place", ["inputs", "script", "outputs", "items"])
def test_an_enormous_count_is_refused_at_once(place: str, count: bytes) -> None:
    """A number of things that are not there costs neither time nor memory."""
    txin, txout = bytes(36) + b"\x00" + bytes(4), TxOut(MAX_MONEY, b"").serialize()
    bodies = {
        "inputs": count + txin,
        "script": b"\x01" + bytes(36) + count + bytes(4),
        "outputs": b"\x01" + txin + count + txout,
        "items": b"\x00\x01\x01" + txin + b"\x01" + txout + count,
    }

    with pytest.raises(MalformedInput):
        Transaction.parse(bytes(4) + bodies[place] + bytes(4))


@given(near(*PROOFS))
def test_proofs_are_judged(foreign: bytes) -> None:
    """Every byte string gets a verdict in both profiles; whatever has no head is invalid."""
    results = [verify_proof(params, foreign, context) for params, context in CONTEXTS]

    head = read_or_none(ProofHead.read, foreign)
    assert all((result.verdict is Verdict.INVALID) == (result.reason is not None) for result in results)
    assert head is not None or {Verdict.INVALID} == {result.verdict for result in results}


@given(near(COUNTER), st.sampled_from(PROOFS))
def test_counter_proofs_are_judged(counter: bytes, proof: bytes) -> None:
    """Weighing always ends with an outcome."""
    outcome = evaluate_counter_proof(PARAMS, proof, counter, CONTEXTS[0][1])
    assert str(outcome)


@given(near(raw(VECTORS["commit_A_5"]["tx"])[120:200], bytes(64)))
def test_signatures_of_a_witness_are_found_or_not(item: bytes) -> None:
    """64 bytes, or nothing: DER with any fault is nothing."""
    found = read_signature(item)
    assert found is None or len(found) == 64


@pytest.mark.parametrize("topic", EVENTS)
@settings(max_examples=max(20, settings().max_examples // 10))
@given(data=st.data())
def test_stored_events_are_refused_or_read(topic: str, data: st.DataObject) -> None:
    """A damaged log gives `LogCorrupt`, or an event that reads back to itself."""
    foreign = data.draw(near(*EVENTS[topic]))

    found = read_or_none(lambda each: decode_payload(topic, each), foreign, (LogCorrupt,))

    assert found is None or found == decode_payload(topic, encode_payload(found))


def test_deep_nesting_in_the_log_is_refused() -> None:
    """A tower of lists behind the last field ends in `LogCorrupt`."""
    fields = EVENTS["fu07"][0][1:]
    deep = b"\x91" * 200_000 + b"\xc0"

    with pytest.raises(LogCorrupt, match="cannot be decoded"):
        decode_payload("fu07", b"\x93" + fields + deep)
