"""Foreign bytes at the doors of disputes: whatever they are, the answer is a typed refusal or a finding."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from domain.contract.proofs import encode_counter_proof, encode_evidence, encode_evidence_proof, encode_secret_proof
from domain.disputing import ShowProof, decide_answer, decide_challenge
from domain.errors import DomainError
from domain.inspection import inspect_transaction
from domain.publishing import decide_close
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import Side
from tests.support.scenes import NOW, Scene, funding_of

PEER = Side.B


@cache
def scene() -> Scene:
    """A's tower with states 0 to 2; B published state 4, and A's client showed evidence."""
    story = Scene().opened(updates=2)
    story.seen(story.commitment(PEER, 4))
    command = ShowProof(NOW, 4, proofs()[1], story.commitment(PEER, 4), 200)
    story.then(decide_challenge(story.channel, command))
    return story


@cache
def proofs() -> tuple[bytes, bytes]:
    """A secret and a newer state against B's commitment 4."""
    story = Scene()
    txid, state = story.commitment(PEER, 4).txid, story.state(5)
    shown = encode_evidence(state.header, state.sigs_a.state, state.sigs_b.state)
    secret = encode_secret_proof(story.params.channel_id, 4, PEER, txid, story.secret(PEER, 4))
    return secret, encode_evidence_proof(story.params.channel_id, 4, PEER, txid, shown)


@cache
def counter() -> bytes:
    """A counter-proof to that evidence."""
    return encode_counter_proof(scene().params.channel_id, scene().commitment(PEER, 4).txid, 4, proofs()[1][-448:])


@cache
def transactions() -> tuple[Transaction, ...]:
    """One of each kind."""
    story = scene()
    return (
        funding_of(story.params),
        story.commitment(PEER, 1),
        story.commitment(Side.A, 2),
        story.settlement(PEER, 2),
        story.penalty(PEER, 1),
        story.coop_close(),
    )


def damaged(raw: bytes) -> st.SearchStrategy[bytes]:
    """Bytes replaced, cut off, added; or the original."""
    place = st.integers(0, len(raw) - 1)
    flipped = st.builds(lambda at, byte: raw[:at] + bytes((byte,)) + raw[at + 1 :], place, st.integers(0, 255))
    cut = st.builds(lambda at: raw[:at], place)
    longer = st.builds(lambda tail: raw + tail, st.binary(max_size=500))
    return st.one_of(st.just(raw), flipped, cut, longer)


@given(st.one_of(st.binary(max_size=2_100), *(damaged(proof) for proof in proofs())), st.integers(0, 2**48))
def test_proofs_are_refused_with_a_type_or_stored(proof: bytes, sequence: int) -> None:
    """Only an intact proof of the published state is ever stored."""
    events = []
    with suppress(DomainError):
        events = decide_challenge(scene().channel, ShowProof(NOW, sequence, proof, scene().commitment(PEER, 4), 200))

    assert not events or (sequence, proof[:4]) == (4, b"PNS1")


@given(st.one_of(st.binary(max_size=600), damaged(counter())))
def test_counter_proofs_are_refused_with_a_type_or_weighed(raw: bytes) -> None:
    """Only bytes of the right form get an outcome."""
    weighed = False
    with suppress(DomainError):
        decide_answer(scene().channel, raw, 200, NOW)
        weighed = True

    assert not weighed or (525, b"CPR1") == (len(raw), raw[:4])


outpoints = st.sampled_from([txin.outpoint for tx in transactions() for txin in tx.inputs])
inputs = st.builds(
    TxIn,
    outpoints,
    st.integers(0, 2**32 - 1),
    st.binary(max_size=3),
    st.one_of(
        st.sampled_from([txin.witness for tx in transactions() for txin in tx.inputs]),
        st.lists(st.binary(max_size=70), max_size=5).map(tuple),
    ),
)
outputs = st.one_of(
    st.sampled_from([out for tx in transactions() for out in tx.outputs]),
    st.builds(TxOut, st.integers(0, 2**50), st.binary(max_size=45)),
)


@given(
    st.sampled_from([0, 1, 2, 3, 2**32 - 1]),
    st.lists(inputs, min_size=1, max_size=3),
    st.lists(outputs, min_size=1, max_size=4),
    st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([tx.lock_time for tx in transactions()])),
)
def test_every_transaction_gets_findings(version: int, ins: list[TxIn], outs: list[TxOut], lock_time: int) -> None:
    """However it is put together, each check says what it found, and as a cooperative close it is refused."""
    tx = Transaction(version, tuple(ins), tuple(outs), lock_time)
    found = inspect_transaction(scene().channel, tx, None, 200)
    accepted = None
    with suppress(DomainError):
        accepted = decide_close(scene().channel, tx, scene().channel.balances, NOW)

    assert found.findings
    assert all(finding.detail for finding in found.findings)
    assert accepted is None or tx.outputs == scene().coop_close(sum_fee(tx)).outputs


def sum_fee(tx: Transaction) -> int:
    """What a close of the whole capacity leaves to the miners."""
    return scene().params.capacity - sum(out.value for out in tx.outputs)


@given(st.sampled_from(range(6)), st.data())
def test_damaged_transactions_get_findings(which: int, data: st.DataObject) -> None:
    """One changed byte of a real transaction: not readable, or findings;  the original always gets its own."""
    original = transactions()[which]
    raw = data.draw(damaged(original.serialize()))
    tx = None
    with suppress(DomainError):
        tx = Transaction.parse(raw)
    found = None if tx is None else inspect_transaction(scene().channel, tx, None, 200)
    known = inspect_transaction(scene().channel, original, None, 200)

    assert found is None or found.findings
    assert raw != original.serialize() or found == known
