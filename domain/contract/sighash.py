"""The message that a signature signs: taproot (BIP-341, BIP-342, without annex) and segwit v0 (BIP-143)."""

from __future__ import annotations

from collections.abc import Sequence

from domain.contract.hashes import sha256, tagged_hash
from domain.errors import MalformedInput
from domain.transaction import Transaction, TxOut, compact_size

SIGHASH_DEFAULT = 0x00
SIGHASH_ALL = 0x01
SIGHASH_NONE = 0x02
SIGHASH_SINGLE = 0x03
ANYONECANPAY = 0x80

_VALID_TYPES = frozenset((0x00, 0x01, 0x02, 0x03, 0x81, 0x82, 0x83))
_SEGWIT_TYPES = frozenset((SIGHASH_ALL, SIGHASH_ALL | ANYONECANPAY))
_NO_SEPARATOR = b"\xff\xff\xff\xff"
_NO_HASH = bytes(32)


def taproot_sighash(
    tx: Transaction,
    index: int,
    spent: Sequence[TxOut],
    hash_type: int = SIGHASH_DEFAULT,
    leaf_hash: bytes | None = None,
) -> bytes:
    """Hash (32 bytes) that input `index` signs; `spent` are the outputs spent by all inputs, in order.

    With `leaf_hash` (32 bytes) the script path without OP_CODESEPARATOR, else the key path. Raises
    `MalformedInput` for hash types that BIP-341 calls invalid.
    """
    _check_request(tx, index, spent, hash_type)
    parts = [b"\x00", bytes((hash_type,)), tx.version.to_bytes(4, "little"), tx.lock_time.to_bytes(4, "little")]
    if not hash_type & ANYONECANPAY:
        parts += _all_inputs(tx, spent)
    if hash_type & 3 not in (SIGHASH_NONE, SIGHASH_SINGLE):
        parts.append(sha256(tx.outputs_raw))
    parts.append(b"\x00" if leaf_hash is None else b"\x02")
    if hash_type & ANYONECANPAY:
        txin, txout = tx.inputs[index], spent[index]
        parts += (txin.outpoint, txout.serialize(), txin.sequence.to_bytes(4, "little"))
    else:
        parts.append(index.to_bytes(4, "little"))
    if hash_type & 3 == SIGHASH_SINGLE:
        parts.append(sha256(tx.outputs[index].serialize()))
    if leaf_hash is not None:
        parts += (leaf_hash, b"\x00", _NO_SEPARATOR)
    return tagged_hash("TapSighash", b"".join(parts))


def _all_inputs(tx: Transaction, spent: Sequence[TxOut]) -> tuple[bytes, bytes, bytes, bytes]:
    return (
        sha256(b"".join(txin.outpoint for txin in tx.inputs)),
        sha256(b"".join(txout.value.to_bytes(8, "little") for txout in spent)),
        sha256(b"".join(compact_size(len(txout.spk)) + txout.spk for txout in spent)),
        sha256(_sequences(tx)),
    )


def _check_request(tx: Transaction, index: int, spent: Sequence[TxOut], hash_type: int) -> None:
    if hash_type not in _VALID_TYPES:
        raise MalformedInput(f"hash type {hash_type:#04x} is not allowed in taproot signatures")
    if not 0 <= index < len(tx.inputs) or len(spent) != len(tx.inputs):
        raise MalformedInput("a sighash needs an existing input and the spent output of every input")
    if hash_type & 3 == SIGHASH_SINGLE and index >= len(tx.outputs):
        raise MalformedInput(f"SIGHASH_SINGLE needs an output number {index}, which the transaction lacks")


def segwit_sighash(tx: Transaction, index: int, script: bytes, amount: int, hash_type: int = SIGHASH_ALL) -> bytes:
    """Hash (32 bytes) that input `index` signs for a witness script without OP_CODESEPARATOR (BIP-143).

    `amount` is that of the spent output, in satoshi. This contract signs all outputs: `MalformedInput` for other types
    than ALL and ALL|ANYONECANPAY.
    """
    if hash_type not in _SEGWIT_TYPES:
        raise MalformedInput(f"hash type {hash_type:#04x} is not allowed in segwit v0 signatures of this contract")
    if not 0 <= index < len(tx.inputs):
        raise MalformedInput("a sighash needs an existing input")
    txin, anyone = tx.inputs[index], bool(hash_type & ANYONECANPAY)
    parts = (
        tx.version.to_bytes(4, "little"),
        _NO_HASH if anyone else _double(b"".join(each.outpoint for each in tx.inputs)),
        _NO_HASH if anyone else _double(_sequences(tx)),
        txin.outpoint + compact_size(len(script)) + script + amount.to_bytes(8, "little"),
        txin.sequence.to_bytes(4, "little"),
        _double(tx.outputs_raw),
        tx.lock_time.to_bytes(4, "little") + hash_type.to_bytes(4, "little"),
    )
    return _double(b"".join(parts))


def _sequences(tx: Transaction) -> bytes:
    return b"".join(txin.sequence.to_bytes(4, "little") for txin in tx.inputs)


def _double(message: bytes) -> bytes:
    return sha256(sha256(message))
