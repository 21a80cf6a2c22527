"""Bitcoin transactions as values: a strict codec, ids and weights.

Parsing accepts exactly what Bitcoin consensus accepts in serialized form (BIP-144): canonical compact sizes,
no superfluous witness, no trailing bytes. It does not judge scripts, amounts beyond their range, or policy.
"""

from __future__ import annotations

import msgspec

from domain.chain import OutPoint, Txid, double_sha256
from domain.errors import MalformedInput
from domain.once import once
from domain.units import MAX_MONEY
from domain.units import vsize as vsize_of_weight

MAX_WEIGHT = 4_000_000
"""Weight limit of a block; no transaction can be above it (Bitcoin consensus)."""


class TxIn(msgspec.Struct, frozen=True):
    """One input: 36-byte outpoint, nSequence, scriptSig and witness stack."""

    outpoint: OutPoint
    sequence: int
    script_sig: bytes = b""
    witness: tuple[bytes, ...] = ()


class TxOut(msgspec.Struct, frozen=True):
    """One output: value in satoshi and scriptPubKey."""

    value: int
    spk: bytes

    def serialize(self) -> bytes:
        """The output as it stands in a transaction."""
        return self.value.to_bytes(8, "little") + compact_size(len(self.spk)) + self.spk


class Transaction(msgspec.Struct, frozen=True, dict=True):
    """A transaction; `txid`, `weight` and `outputs_raw` are computed once and kept."""

    version: int
    inputs: tuple[TxIn, ...]
    outputs: tuple[TxOut, ...]
    lock_time: int

    @classmethod
    def parse(cls, raw: bytes) -> Transaction:
        """Read a complete transaction; raises `MalformedInput` on anything but exactly one."""
        if len(raw) > MAX_WEIGHT:
            raise MalformedInput(f"a transaction of {len(raw)} bytes exceeds the weight limit of a block")
        return _Reader(raw).transaction()

    def serialize(self, witness: bool = True) -> bytes:
        """Network serialization; without `witness` the form that the txid commits to."""
        segwit = witness and any(txin.witness for txin in self.inputs)
        parts = [self.version.to_bytes(4, "little"), b"\x00\x01" if segwit else b""]
        parts.append(compact_size(len(self.inputs)))
        for txin in self.inputs:
            parts += (txin.outpoint, compact_size(len(txin.script_sig)), txin.script_sig)
            parts.append(txin.sequence.to_bytes(4, "little"))
        parts += (compact_size(len(self.outputs)), self.outputs_raw)
        if segwit:
            parts += [_serialize_stack(txin.witness) for txin in self.inputs]
        parts.append(self.lock_time.to_bytes(4, "little"))
        return b"".join(parts)

    @once
    def outputs_raw(self) -> bytes:
        """All outputs as they stand in the transaction: what a txid and most signatures cover."""
        return b"".join([txout.serialize() for txout in self.outputs])

    @once
    def txid(self) -> Txid:
        """Transaction id, internal byte order; does not depend on witnesses."""
        return Txid(double_sha256(self.serialize(witness=False)))

    @once
    def weight(self) -> int:
        """Weight in WU (BIP-141)."""
        return 3 * len(self.serialize(witness=False)) + len(self.serialize())

    @property
    def vsize(self) -> int:
        """Virtual size in vB, rounded up."""
        return vsize_of_weight(self.weight)

    def with_witness(self, index: int, witness: tuple[bytes, ...]) -> Transaction:
        """The same transaction with the witness of one input replaced."""
        if not 0 <= index < len(self.inputs):
            raise MalformedInput(f"input {index} does not exist; the transaction has {len(self.inputs)}")
        changed = msgspec.structs.replace(self.inputs[index], witness=witness)
        inputs = (*self.inputs[:index], changed, *self.inputs[index + 1 :])
        return Transaction(self.version, inputs, self.outputs, self.lock_time)


def compact_size(number: int) -> bytes:
    """Bitcoin's variable-length integer (1, 3, 5 or 9 bytes)."""
    if number < 0xFD:
        return number.to_bytes(1, "little")
    if number <= 0xFFFF:
        return b"\xfd" + number.to_bytes(2, "little")
    if number <= 0xFFFFFFFF:
        return b"\xfe" + number.to_bytes(4, "little")
    return b"\xff" + number.to_bytes(8, "little")


def read_compact_size(raw: bytes, position: int) -> tuple[int, int]:
    """Value at `position` and the position after it; refuses longer forms than needed."""
    if position >= len(raw):
        raise MalformedInput("a compact size is missing: the bytes end too early")
    first = raw[position]
    if first < 0xFD:
        return first, position + 1
    width = 2 << (first - 0xFD)
    end = position + 1 + width
    if end > len(raw):
        raise MalformedInput("a compact size is cut off")
    number = int.from_bytes(raw[position + 1 : end], "little")
    if len(compact_size(number)) != 1 + width:
        raise MalformedInput("a compact size is not in its shortest form")
    return number, end


def _serialize_stack(stack: tuple[bytes, ...]) -> bytes:
    return compact_size(len(stack)) + b"".join(compact_size(len(item)) + item for item in stack)


class _Reader:
    """Position in a serialized transaction; every step checks that the bytes are there."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._position = 0

    def transaction(self) -> Transaction:
        version = self._integer(4)
        segwit = self._raw[4:6] == b"\x00\x01"
        if segwit:
            self._position += 2
        inputs = tuple(self._input() for _ in range(self._count(41, "inputs")))
        outputs = tuple(self._output() for _ in range(self._count(9, "outputs")))
        stacks = [self._stack() for _ in inputs] if segwit else []
        lock_time = self._integer(4)
        if self._position != len(self._raw):
            raise MalformedInput(f"{len(self._raw) - self._position} bytes follow the transaction")
        if not inputs or not outputs:
            raise MalformedInput("a transaction has at least one input and one output")
        if segwit and not any(stacks):
            raise MalformedInput("the transaction is marked as segwit but has no witness")
        if segwit:
            pairs = zip(inputs, stacks, strict=True)
            inputs = tuple(msgspec.structs.replace(txin, witness=stack) for txin, stack in pairs)
        tx = Transaction(version, inputs, outputs, lock_time)
        _check_limits(tx)
        return tx

    def _take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._raw):
            raise MalformedInput("the transaction is cut off")
        taken = self._raw[self._position : end]
        self._position = end
        return taken

    def _integer(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _count(self, smallest: int, what: str) -> int:
        number, self._position = read_compact_size(self._raw, self._position)
        if number * smallest > len(self._raw) - self._position:
            raise MalformedInput(f"the transaction announces {number} {what}, more than its bytes can hold")
        return number

    def _bytes(self) -> bytes:
        return self._take(self._count(1, "script bytes"))

    def _input(self) -> TxIn:
        outpoint, script_sig = OutPoint(self._take(36)), self._bytes()
        return TxIn(outpoint, self._integer(4), script_sig)

    def _output(self) -> TxOut:
        value = self._integer(8)
        if value > MAX_MONEY:
            raise MalformedInput(f"an output of {value} sat is more than all bitcoin")
        return TxOut(value, self._bytes())

    def _stack(self) -> tuple[bytes, ...]:
        return tuple(self._bytes() for _ in range(self._count(1, "witness items")))


def _check_limits(tx: Transaction) -> None:
    if tx.weight > MAX_WEIGHT:
        raise MalformedInput(f"a weight of {tx.weight} WU exceeds the limit of a block")
    if sum(txout.value for txout in tx.outputs) > MAX_MONEY:
        raise MalformedInput("the outputs add up to more than all bitcoin")
    if len({txin.outpoint for txin in tx.inputs}) != len(tx.inputs):
        raise MalformedInput("the transaction spends an outpoint twice")
