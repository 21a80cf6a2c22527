"""Taproot signature messages: BIP-341 figures and every sighash of the vectors."""

from typing import Any

import pytest

from domain.contract.keys import sign_schnorr
from domain.contract.sighash import segwit_sighash, taproot_sighash
from domain.errors import MalformedInput
from domain.transaction import Transaction, TxIn, TxOut
from tests.contract_vectors.load import ZERO, load, raw

WALLET = load("bip341")
TX = Transaction.parse(raw(WALLET["unsigned_tx"]))
SPENT = [TxOut(value, raw(spk)) for value, spk in WALLET["spent"]]


@pytest.mark.parametrize("vector", WALLET["inputs"], ids=lambda vector: f"type {vector['hash_type']:#04x}")
def test_bip341_key_path_spending(vector: dict[str, Any]) -> None:
    """All seven hash types give the published message and witness."""
    message = taproot_sighash(TX, vector["index"], SPENT, vector["hash_type"])
    signature = sign_schnorr(raw(vector["tweaked"]), message, ZERO)

    assert vector["sighash"] == message.hex()
    assert vector["witness"][:128] == signature.hex()


@pytest.mark.parametrize("hash_type", [0x04, 0x80, 0x84, 0x41, 0xC1, 0xFF])
def test_hash_types_outside_bip341_are_refused(hash_type: int) -> None:
    """Reserved and foreign hash types have no message."""
    with pytest.raises(MalformedInput, match="hash type"):
        taproot_sighash(TX, 0, SPENT, hash_type)


@pytest.mark.parametrize(("index", "spent"), [(9, SPENT), (-1, SPENT), (0, SPENT[:-1])])
def test_all_spent_outputs_are_needed(index: int, spent: list[TxOut]) -> None:
    """The message covers every spent output, so none may be missing."""
    with pytest.raises(MalformedInput, match="spent output"):
        taproot_sighash(TX, index, spent)


def test_single_needs_an_output_of_the_same_number() -> None:
    """SIGHASH_SINGLE without a matching output is invalid in taproot."""
    with pytest.raises(MalformedInput, match="output number 2"):
        taproot_sighash(TX, 2, SPENT, 0x03)


def test_key_path_and_script_path_sign_different_messages() -> None:
    """A leaf hash changes the message."""
    assert taproot_sighash(TX, 0, SPENT) != taproot_sighash(TX, 0, SPENT, leaf_hash=ZERO)


@pytest.mark.parametrize("hash_type", [0x00, 0x02, 0x03, 0x82, 0x83, 0x101])
def test_segwit_signatures_cover_all_outputs(hash_type: int) -> None:
    """Other types than ALL and ALL|ANYONECANPAY are refused; the allowed ones are in the vectors of profile 1."""
    tx = Transaction(2, (TxIn(bytes(36), 0),), (TxOut(1, b"\x51"),), 0)

    with pytest.raises(MalformedInput, match="hash type"):
        segwit_sighash(tx, 0, b"\x51", 1, hash_type)
    with pytest.raises(MalformedInput, match="existing input"):
        segwit_sighash(tx, 1, b"\x51", 1)
