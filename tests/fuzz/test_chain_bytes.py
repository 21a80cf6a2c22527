"""What the node and strangers on the chain say: blocks, notifications, transactions, witnesses, invoices."""

from __future__ import annotations

from functools import cache

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.chain import make_outpoint
from domain.contract.conditions import Condition
from domain.contract.form import form_of
from domain.contract.htlc import extract_preimage
from domain.contract.params import ChannelParams
from domain.errors import DomainError, MalformedInput
from domain.joint import funding_signatures
from domain.transaction import Transaction, TxIn, TxOut, compact_size
from domain.units import MAX_MONEY
from tests.contract_vectors.load import PARAMS, load, raw
from tests.contract_vectors.segwit import SEGWIT, VECTORS
from tests.fuzz.mutations import changed, near, read_or_none
from watchtower.node.blocks import BlockUnparseable, scan_block, transaction_inputs
from watchtower.node.zmq import Bell, BellKind, ZmqDoorbell

COMMIT, SEGWIT_COMMIT = (
    Transaction.parse(raw(text)) for text in (load("commitments")["commit_A_5"]["tx"], VECTORS["commit_A_5"]["tx"])
)
CONTESTS = ((PARAMS, COMMIT.outputs[0].spk), (SEGWIT, SEGWIT_COMMIT.outputs[0].spk))
PREIMAGE = bytes(range(32))
WATCHED = {PARAMS.funding_outpoint, SEGWIT.funding_outpoint}
"""As in a tower: what spends these is told in full."""


@cache
def block() -> bytes:
    """A coinbase and both commitments."""
    coinbase = Transaction(1, (TxIn(make_outpoint(bytes(32), 0), 0, b"\x01\x02"),), (TxOut(50, b"\x6a"),), 0)
    every = (coinbase, COMMIT, SEGWIT_COMMIT)
    return bytes(range(80)) + compact_size(len(every)) + b"".join(each.serialize() for each in every)


def with_script_length(length: bytes) -> bytes:
    """The block with another length before the script of its coinbase, behind which a second input should stand."""
    at = 80 + 1 + 4
    return block()[:at] + b"\x02" + block()[at + 1 : at + 37] + length + block()[at + 38 :]


@given(st.deferred(lambda: near(block())))
@example(with_script_length(b"\xff" * 9))
@example(with_script_length(b"\xfe\xff\xff\xff\xff"))
def test_blocks_are_scanned_or_refused_as_a_whole(foreign: bytes) -> None:
    """Every hit is a transaction that the strict reader knows by the same id, or which it refuses with a type."""
    found = read_or_none(lambda each: scan_block(each, WATCHED), foreign, (BlockUnparseable,))

    hits = () if found is None else found.hits
    strict = [(hit, read_or_none(Transaction.parse, hit.raw)) for hit in hits]
    assert [] == [hit for hit, tx in strict if tx is not None and tx.txid != hit.txid]
    assert [] == [hit for hit in hits if not set(hit.outpoints) <= WATCHED]


@given(near(COMMIT.serialize(), SEGWIT_COMMIT.serialize(), COMMIT.serialize(witness=False)))
def test_the_quick_look_at_inputs_agrees_with_the_strict_one(foreign: bytes) -> None:
    """What the strict reader takes has the same outpoints in the quick one."""
    quick, strict = read_or_none(transaction_inputs, foreign), read_or_none(Transaction.parse, foreign)
    assert strict is None or quick == [txin.outpoint for txin in strict.inputs]


@given(
    st.sampled_from([b"rawtx", b"sequence", b"hashblock"]),
    near(COMMIT.serialize(), bytes(32) + b"A" + bytes(8), bytes(32) + b"R" + bytes(8), bytes(32)),
    near(bytes(4), b"\xff\xff\xff\xff"),
)
def test_notifications_ring_and_are_not_trusted(topic: bytes, body: bytes, number: bytes) -> None:
    """Always at least one ring; the bytes of a transaction only if it spends what is watched."""
    bells: list[Bell] = []
    endpoints = dict.fromkeys(("rawtx", "sequence", "hashblock"), "tcp://127.0.0.1:1")
    door = ZmqDoorbell(endpoints, bells.append, WATCHED.__contains__)

    door.take([topic, body, number])
    door.take([topic, body])

    spends = [bell for bell in bells if bell.kind is BellKind.TOUCHED]
    assert len(bells) >= 2
    assert all(topic == b"rawtx" and WATCHED & set(transaction_inputs(body)) for _ in spends)


Contest = tuple[ChannelParams, bytes]
Close = tuple[ChannelParams, Transaction]
stacks = st.lists(
    changed([*COMMIT.inputs[0].witness, *SEGWIT_COMMIT.inputs[0].witness, PREIMAGE, b""]), max_size=7
).map(tuple)


@given(stacks, st.sampled_from(CONTESTS))
def test_witnesses_of_a_contest_output_are_read_or_not(witness: tuple[bytes, ...], contest: Contest) -> None:
    """Neither profile's reader of penalties raises anything, and what it finds has the size of a signature."""
    params, spk = contest
    form = form_of(params)

    found = form.read_penalty(params, witness, spk)

    assert found is None or len(found.signature) == 64
    assert form.is_penalty_witness(witness) in (True, False)


@given(stacks)
def test_a_preimage_is_32_bytes_with_the_right_hash(witness: tuple[bytes, ...]) -> None:
    """Anything else in a witness teaches nothing."""
    payment_hash = Condition.decode(raw(load("states")["states"][6]["conds"][0]["record"])).hash
    found = extract_preimage(witness, payment_hash)
    assert found is None or len(found) == 32


@given(stacks, st.sampled_from([(PARAMS, COMMIT), (SEGWIT, SEGWIT_COMMIT)]))
def test_signatures_of_a_close_are_found_only_if_they_verify(witness: tuple[bytes, ...], close: Close) -> None:
    """A changed witness gives no signatures; the original gives its own two."""
    params, tx = close
    found = funding_signatures(params, tx.with_witness(0, witness))
    original = funding_signatures(params, tx)
    assert original is not None
    assert found in (None, original)
    assert found is None or witness == tx.inputs[0].witness


@pytest.mark.timeout(20)
@pytest.mark.parametrize("close", [(PARAMS, COMMIT), (SEGWIT, SEGWIT_COMMIT)], ids=["taproot", "segwit"])
def test_a_witness_full_of_signatures_costs_nothing(close: Close) -> None:
    """Every pair of 1,500 signatures would be two million verifications."""
    params, tx = close
    signature = tx.inputs[0].witness[1]
    stuffed = tx.with_witness(
        0, tuple(signature[:20] + bytes((n >> 8, n & 255)) + signature[22:] for n in range(1_500))
    )
    assert funding_signatures(params, stuffed) is None


@given(st.integers(0, 2**64 - 1), st.integers(1, 4))
def test_amounts_beyond_all_money_are_refused(value: int, outputs: int) -> None:
    """By output and in sum: no arithmetic further on meets more than 21 million bitcoin."""
    tx = msgspec.structs.replace(COMMIT, outputs=(TxOut(value, b"\x51"),) * outputs)
    found = read_or_none(Transaction.parse, tx.serialize())
    assert (found is not None) == (value * outputs <= MAX_MONEY)


def test_refusals_belong_to_the_tree() -> None:
    """Readers of the domain refuse with the domain's errors."""
    with pytest.raises(DomainError) as refusal:
        Transaction.parse(b"\x00" * 10)
    assert isinstance(refusal.value, MalformedInput)
