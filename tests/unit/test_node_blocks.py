"""The block scanner against blocks made here, whose content is known."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.chain import BlockHeader, OutPoint, make_outpoint
from domain.errors import MalformedInput
from domain.transaction import Transaction, TxIn, TxOut, compact_size
from projections.watch_set import WatchSet
from watchtower.node.blocks import BlockUnparseable, Hit, follow_outputs, scan_block, transaction_inputs
from watchtower.ports import NodeError

HEADER = bytes(range(80))
SPK = b"\x51\x20" + bytes(32)


def tx(*outpoints: bytes, outputs: int = 1, witness: tuple[bytes, ...] = (b"w" * 64,), spk: bytes = SPK) -> Transaction:
    """A transaction that spends the outpoints."""
    inputs = tuple(TxIn(OutPoint(outpoint), 0, b"", witness) for outpoint in outpoints)
    return Transaction(2, inputs, tuple(TxOut(1000 + n, spk) for n in range(outputs)), 7)


def block(*transactions: Transaction) -> bytes:
    """A block with a coinbase and these transactions."""
    coinbase = Transaction(1, (TxIn(OutPoint(bytes(36)), 0, b"\x01\x02"),), (TxOut(50, b"\x6a"),), 0)
    every = (coinbase, *transactions)
    return HEADER + compact_size(len(every)) + b"".join(each.serialize() for each in every)


def outpoint(number: int) -> bytes:
    """A made-up outpoint."""
    return make_outpoint(number.to_bytes(32, "big"), number)


def spread(number: int) -> bytes:
    """A made-up outpoint whose first bytes are as different as those of real ones."""
    return make_outpoint(sha256(b"%d" % number).digest(), number)


def nothing_followed(_hit: Hit) -> tuple[bytes, ...]:
    """Follow no output."""
    return ()


def test_hit_has_place_bytes_and_txid() -> None:
    """A spend of a watched outpoint is found with everything that the classifier needs."""
    spender = tx(outpoint(5), outpoint(6), outputs=3)

    scan = scan_block(block(tx(outpoint(1)), spender), {outpoint(6): "channel"})

    assert (Hit(2, spender.txid, spender.serialize(), (OutPoint(outpoint(6)),), 3),) == scan.hits
    assert (3, 4) == (scan.tx_count, scan.input_count)
    assert BlockHeader.parse(HEADER) == scan.header


def test_all_matched_inputs_of_one_transaction_are_listed() -> None:
    """One transaction that spends two watched outpoints is one hit with both."""
    scan = scan_block(block(tx(outpoint(1), outpoint(2))), {outpoint(1), outpoint(2)})

    assert (outpoint(1), outpoint(2)) == scan.hits[0].outpoints


def test_transaction_without_witness_has_its_own_txid() -> None:
    """A legacy transaction's txid covers all of its bytes."""
    legacy = tx(outpoint(9), witness=())

    assert legacy.txid == scan_block(block(legacy), {outpoint(9)}).hits[0].txid


@given(st.lists(st.integers(0, 40), max_size=30), st.sets(st.integers(0, 40), max_size=10))
def test_the_sieve_of_the_watch_index_hides_no_hit(spent: list[int], known: set[int]) -> None:
    """With the sieve the scan finds exactly what it finds without one."""
    index = WatchSet((spread(number), "c", 1) for number in known)
    raw = block(*(tx(spread(number)) for number in spent))

    plain = scan_block(raw, index.outpoints, follow=nothing_followed)

    assert plain == scan_block(raw, index.outpoints, follow=nothing_followed, sieve=index.sieve)


def test_a_sieve_does_not_hide_what_is_watched_beside_the_index() -> None:
    """Conditional outputs and outputs of hits are in no sieve, and found all the same."""
    index = WatchSet([(spread(1), "c", 1)])
    breach = tx(spread(1))
    penalty, claim = tx(make_outpoint(breach.txid, 0)), tx(spread(2))

    followed = scan_block(block(breach, penalty), index.outpoints, sieve=index.sieve)
    beside = scan_block(block(claim), index.outpoints, also_watched=[spread(2)], sieve=index.sieve)

    assert [breach.txid, penalty.txid] == [hit.txid for hit in followed.hits]
    assert [claim.txid] == [hit.txid for hit in beside.hits]


def test_spender_of_a_hit_in_the_same_block_is_a_hit() -> None:
    """Breach, penalty and what spends the penalty may share a block."""
    breach = tx(outpoint(1), outputs=2)
    penalty = tx(make_outpoint(breach.txid, 0))
    last = tx(make_outpoint(penalty.txid, 0))

    scan = scan_block(block(breach, tx(outpoint(3)), penalty, last), {outpoint(1)})

    assert [breach.txid, penalty.txid, last.txid] == [hit.txid for hit in scan.hits]
    assert [1, 3, 4] == [hit.index for hit in scan.hits]


def test_follow_decides_what_is_watched_within_the_block() -> None:
    """Without following, only the watched outpoint itself makes a hit, and the watch index is not changed."""
    breach = tx(outpoint(1), outputs=2)
    watched = {outpoint(1)}

    scan = scan_block(block(breach, tx(make_outpoint(breach.txid, 0))), watched, follow=nothing_followed)

    assert [breach.txid] == [hit.txid for hit in scan.hits]
    assert {outpoint(1)} == watched


def test_follow_outputs_names_every_output() -> None:
    """Each output number of a hit becomes an outpoint."""
    hit = Hit(1, tx(outpoint(1)).txid, b"", (), 3)

    assert [make_outpoint(hit.txid, n) for n in range(3)] == list(follow_outputs(hit))


@pytest.mark.parametrize("others", [0, 30])
def test_wanted_script_is_found_where_it_is_paid(others: int) -> None:
    """A funding output is found by its script, whether few or many scripts are wanted."""
    wanted = b"\x51\x20" + b"\x07" * 32
    funding = tx(outpoint(1), spk=wanted)
    more = [b"\x51\x20" + bytes([n]) * 32 for n in range(100, 100 + others)]

    scan = scan_block(block(tx(outpoint(8)), funding, tx(outpoint(9))), (), [wanted, *more])

    assert [(2, funding.txid, 0, 1000, wanted)] == [(c.index, c.txid, c.vout, c.value, c.spk) for c in scan.created]
    assert funding.serialize() == scan.created[0].raw
    assert make_outpoint(funding.txid, 0) == scan.created[0].outpoint


def test_wanted_script_outside_of_an_output_is_no_find() -> None:
    """The same bytes in a witness are not an output."""
    wanted = b"\x51\x20" + b"\x07" * 32
    decoy = tx(outpoint(1), witness=(compact_size(len(wanted)) + wanted,))
    funding = tx(outpoint(2), spk=wanted, outputs=2)

    scan = scan_block(block(decoy, funding), (), [wanted])

    assert [(2, 0), (2, 1)] == [(created.index, created.vout) for created in scan.created]


def test_large_counts_and_scripts_are_read() -> None:
    """Counts and sizes above 252 have longer forms in every place."""
    large = Transaction(
        2,
        tuple(TxIn(OutPoint(outpoint(n)), 0, b"s" * 300, (b"w" * 70_000,) + (b"",) * 300) for n in range(300)),
        tuple(TxOut(1, b"o" * 400) for _ in range(300)),
        0,
    )

    scan = scan_block(block(large, tx(outpoint(1000))), {outpoint(299), outpoint(1000)})

    assert [1, 2] == [hit.index for hit in scan.hits]
    assert large.txid == scan.hits[0].txid


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0",
        lambda raw: raw[:79],
        lambda raw: raw[:80],
        lambda raw: raw[:100],
        lambda raw: raw[:80] + b"\xfd\x01\x00" + raw[81:],
        lambda raw: raw[:80] + b"\xff" * 9 + raw[81:],
        lambda raw: raw[:80] + bytes([raw[80] + 1]) + raw[81:],
        lambda raw: raw[:80] + bytes([raw[80] - 1]) + raw[81:],
        lambda raw: b"",
    ],
)
def test_damaged_block_is_refused_as_a_whole(damage) -> None:  # type: ignore[no-untyped-def]
    """A block that does not end exactly where it should gives no partial result."""
    raw = block(tx(outpoint(1)), tx(outpoint(2)))

    with pytest.raises(BlockUnparseable):
        scan_block(damage(raw), {outpoint(1)})


def test_block_without_inputs_or_outputs_is_refused() -> None:
    """A transaction without outputs cannot be in a block that a node accepted."""
    bare = b"\x02\0\0\0" + b"\x01" + bytes(36) + b"\0" + bytes(4) + b"\0" + bytes(4)

    with pytest.raises(BlockUnparseable, match="no outputs"):
        scan_block(HEADER + b"\x01" + bare, ())


def test_unparseable_is_an_error_of_the_node() -> None:
    """Nothing may be concluded from an unreadable block, as from any unusable answer."""
    assert issubclass(BlockUnparseable, NodeError)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_block_or_refused(garbage: bytes) -> None:
    """No input raises anything but the typed error."""
    try:
        scan = scan_block(HEADER + garbage, {bytes(36)})
    except BlockUnparseable:
        return
    assert scan.tx_count >= 0


@given(st.integers(0, 2**32))
def test_scan_agrees_with_the_strict_codec(seed: int) -> None:
    """Txids, bytes and counts equal those of the domain's transaction codec on random blocks."""
    rnd = random.Random(seed)
    every = [
        Transaction(
            rnd.choice((1, 2, 3)),
            tuple(
                TxIn(
                    OutPoint(rnd.randbytes(36)),
                    rnd.randrange(1 << 32),
                    rnd.randbytes(rnd.choice((0, 23, 107, 260))),
                    tuple(rnd.randbytes(rnd.choice((0, 33, 72, 254))) for _ in range(rnd.randrange(4))),
                )
                for _ in range(rnd.randrange(1, 4))
            ),
            tuple(
                TxOut(rnd.randrange(1 << 40), rnd.randbytes(rnd.choice((22, 34, 300))))
                for _ in range(rnd.randrange(1, 4))
            ),
            rnd.randrange(1 << 32),
        )
        for _ in range(rnd.randrange(1, 6))
    ]
    watched = {txin.outpoint for each in every for txin in each.inputs}

    scan = scan_block(block(*every), watched, follow=nothing_followed)

    assert [(each.txid, each.serialize()) for each in every] == [(hit.txid, hit.raw) for hit in scan.hits]
    assert 1 + len(watched) == scan.input_count


def test_inputs_of_a_transaction_are_listed() -> None:
    """The outpoints of a lone transaction, as ZMQ delivers it, with and without witness."""
    spent = [outpoint(1), outpoint(2)]

    assert spent == transaction_inputs(tx(*spent).serialize())
    assert spent == transaction_inputs(tx(*spent).serialize(witness=False))


@pytest.mark.parametrize("cut", [0, 3, 5, 6, 10, 40, 47, 80])
def test_cut_transaction_is_refused(cut: int) -> None:
    """A frame that ends within the inputs is malformed."""
    with pytest.raises(MalformedInput):
        transaction_inputs(tx(outpoint(1), outpoint(2)).serialize()[:cut])
