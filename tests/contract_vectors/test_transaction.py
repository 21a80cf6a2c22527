"""The transaction codec: round trips, strictness, ids and weights."""

from typing import Any

import msgspec
import pytest

from domain.chain import display
from domain.errors import MalformedInput
from domain.transaction import Transaction, compact_size, read_compact_size
from tests.contract_vectors.load import load, raw

FILES = ("commitments", "settlements", "penalties", "closing")
COMPLETE = [entry for name in FILES for entry in load(name).values() if isinstance(entry, dict) and "tx" in entry]
COMPLETE += [claim[path] for claim in load("htlc")["htlc"] for path in ("success", "timeout")]
COMMIT = raw(load("commitments")["commit_A_5"]["tx"])
BARE = raw(load("commitments")["commit_A_5"]["tx_nowitness"])


@pytest.mark.parametrize("vector", COMPLETE, ids=lambda vector: vector["txid"][:8])
def test_complete_transactions_of_the_vectors(vector: dict[str, Any]) -> None:
    """Every transaction reads back to its bytes, txid, weight, size and witness."""
    tx = Transaction.parse(raw(vector["tx"]))

    assert vector["tx"] == tx.serialize().hex()
    assert vector["tx_nowitness"] == tx.serialize(witness=False).hex()
    assert vector["txid"] == display(tx.txid)
    assert (vector["weight"], vector["vsize"]) == (tx.weight, tx.vsize)
    assert vector["witness"] == [item.hex() for item in tx.inputs[0].witness]


def test_a_witness_can_be_added_and_does_not_change_the_txid() -> None:
    """The stripped transaction with its witness is the complete one."""
    complete = Transaction.parse(COMMIT)
    stripped = Transaction.parse(BARE)

    assert complete == stripped.with_witness(0, complete.inputs[0].witness)
    assert complete.txid == stripped.txid


def test_foreign_transactions_with_script_sig_are_read() -> None:
    """A transaction of other people, with nine inputs and a scriptSig, keeps its bytes."""
    unsigned = Transaction.parse(raw(load("bip341")["unsigned_tx"]))
    third = msgspec.structs.replace(unsigned.inputs[2], script_sig=b"\x51\x51")
    inputs = (*unsigned.inputs[:2], third, *unsigned.inputs[3:])
    spent = msgspec.structs.replace(unsigned, inputs=inputs).with_witness(8, (b"", b"\x01" * 300))

    assert spent == Transaction.parse(spent.serialize())
    assert b"\x51\x51" == Transaction.parse(spent.serialize()).inputs[2].script_sig


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        (0, "00"),
        (252, "fc"),
        (253, "fdfd00"),
        (65_535, "fdffff"),
        (65_536, "fe00000100"),
        (2**32 - 1, "feffffffff"),
        (2**32, "ff0000000001000000"),
    ],
)
def test_compact_sizes(number: int, encoded: str) -> None:
    """Compact sizes take the shortest of their four forms and read back."""
    assert raw(encoded) == compact_size(number)
    assert (number, len(raw(encoded))) == read_compact_size(raw(encoded), 0)


@pytest.mark.parametrize("encoded", ["", "fd", "fdfc00", "fe0000", "feffff0000", "ffffffffff00000000"])
def test_compact_sizes_that_are_cut_off_or_too_long_are_refused(encoded: str) -> None:
    """A compact size in a longer form than needed has two encodings and is refused."""
    with pytest.raises(MalformedInput):
        read_compact_size(raw(encoded), 0)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        COMMIT[:-1],
        COMMIT + b"\x00",
        BARE[:4] + b"\x00" + BARE[5:],
        BARE[:4] + b"\x00\x01" + BARE[4:-4] + b"\x00" + BARE[-4:],
        BARE[:47] + b"\xff" * 8 + BARE[55:],
        BARE[:4] + b"\x02" + BARE[5:46] + BARE[5:],
        BARE[:4] + b"\xfe\xff\xff\xff\x7f" + BARE[5:],
        bytes(4_000_001),
    ],
    ids=["empty", "cut", "trailing", "no input", "no witness", "value", "twice", "count", "huge"],
)
def test_damaged_transactions_are_refused(damaged: bytes) -> None:
    """Whatever is not exactly one well-formed transaction gives a typed error."""
    with pytest.raises(MalformedInput):
        Transaction.parse(damaged)


def test_a_witness_for_a_missing_input_is_refused() -> None:
    """There is no input 1 in a commitment."""
    with pytest.raises(MalformedInput):
        Transaction.parse(COMMIT).with_witness(1, ())
