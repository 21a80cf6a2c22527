"""Condition records: HTLCs and outputs given by descriptor (protocol 3.5, 4.1)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from enum import IntEnum

import msgspec

from domain.contract.hashes import tagged_hash
from domain.contract.params import P2A_SPK, ChannelParams, is_witness_program
from domain.contract.scripts import MAX_EXPIRY, dust_limit, htlc_output
from domain.errors import InvalidState, MalformedInput
from domain.units import Side

RECORD_SIZE = 64
MAX_DESCRIPTOR = 512

ConditionKey = tuple[int, int]
"""(type, id), unique in a state; records and outputs are ordered by it."""


class ConditionType(IntEnum):
    """What a condition pays: an HTLC in one of two directions, or a descriptor's script."""

    HTLC_A_TO_B = 0
    HTLC_B_TO_A = 1
    DESCRIPTOR = 2


class Condition(msgspec.Struct, frozen=True):
    """One conditional output. `amount` in satoshi, `expiry` a height (0 for descriptors), `hash` 32 bytes.

    A descriptor condition carries its descriptor string and the script that a descriptor engine derived from
    it; both travel beside the 64-byte record, which holds the descriptor's hash only. This package has no
    engine: without `spk` such a condition is refused.
    """

    type: int
    id: int
    expiry: int
    amount: int
    hash: bytes
    descriptor: str | None = None
    spk: bytes | None = None

    @property
    def key(self) -> ConditionKey:
        """(type, id)."""
        return self.type, self.id

    @property
    def is_htlc(self) -> bool:
        """Whether this is an HTLC, in either direction."""
        return self.type != ConditionType.DESCRIPTOR

    @property
    def offerer(self) -> Side:
        """Who offers the HTLC (A for type 0, B for type 1)."""
        return Side.A if self.type == ConditionType.HTLC_A_TO_B else Side.B

    def encode(self) -> bytes:
        """The 64-byte record."""
        try:
            head = bytes((self.type, 0)) + self.id.to_bytes(2, "little") + self.expiry.to_bytes(4, "little")
            record = head + self.amount.to_bytes(8, "little") + self.hash + bytes(16)
        except (OverflowError, ValueError):
            raise MalformedInput("a field of a condition does not fit its record") from None
        if len(record) != RECORD_SIZE:
            raise MalformedInput("the hash of a condition has 32 bytes")
        return record

    @classmethod
    def decode(cls, record: bytes) -> Condition:
        """Read 64 bytes; refuses reserved bytes that are not zero and values out of range."""
        if len(record) != RECORD_SIZE:
            raise MalformedInput(f"a condition record has {RECORD_SIZE} bytes, got {len(record)}")
        if record[1] or any(record[48:]):
            raise MalformedInput("reserved bytes of a condition record are not zero")
        condition = cls(
            type=record[0],
            id=int.from_bytes(record[2:4], "little"),
            expiry=int.from_bytes(record[4:8], "little"),
            amount=int.from_bytes(record[8:16], "little"),
            hash=record[16:48],
        )
        check_condition(condition)
        return condition


def encode_conditions(conditions: Iterable[Condition]) -> bytes:
    """Records in ascending (type, id), 64 bytes each."""
    return b"".join(condition.encode() for condition in in_order(conditions))


def decode_conditions(raw: bytes) -> tuple[Condition, ...]:
    """Read n × 64 bytes; refuses records out of order or twice."""
    if len(raw) % RECORD_SIZE:
        raise MalformedInput(f"condition records have {RECORD_SIZE} bytes each, got {len(raw)} bytes")
    starts = range(0, len(raw), RECORD_SIZE)
    conditions = tuple(Condition.decode(raw[start : start + RECORD_SIZE]) for start in starts)
    keys = [condition.key for condition in conditions]
    if any(later <= earlier for earlier, later in itertools.pairwise(keys)):
        raise MalformedInput("condition records must ascend by (type, id) without repetition")
    return conditions


def in_order(conditions: Iterable[Condition]) -> list[Condition]:
    """The conditions in ascending (type, id)."""
    return sorted(conditions, key=lambda condition: condition.key)


def cond_root(conditions: Sequence[Condition]) -> bytes:
    """Commitment to the records, 32 bytes; zeros if there is none."""
    return tagged_hash("SCT1/conds", encode_conditions(conditions)) if conditions else bytes(32)


def descriptor_hash(descriptor: str) -> bytes:
    """The `hash` of a descriptor condition, 32 bytes; ASCII of at most 512 characters, no checksum."""
    if not descriptor.isascii() or not 0 < len(descriptor) <= MAX_DESCRIPTOR or "#" in descriptor:
        raise InvalidState(f"a descriptor condition needs 1 … {MAX_DESCRIPTOR} ASCII characters without checksum")
    return tagged_hash("SCT1/cond-desc", descriptor.encode("ascii"))


def check_condition(condition: Condition) -> None:
    """Raise `InvalidState` for a type, expiry or amount out of range."""
    label = f"condition {condition.type}/{condition.id}"
    if condition.type not in (0, 1, 2):
        raise InvalidState(f"{label}: the type must be 0, 1 or 2")
    if condition.amount < 1:
        raise InvalidState(f"{label}: the amount must be at least 1 sat, got {condition.amount}")
    if condition.is_htlc and not 1 <= condition.expiry < MAX_EXPIRY:
        raise InvalidState(f"{label}: an HTLC expires at a height from 1 to {MAX_EXPIRY - 1}")
    if not condition.is_htlc and condition.expiry != 0:
        raise InvalidState(f"{label}: a descriptor condition has expiry 0, got {condition.expiry}")


def condition_spk(params: ChannelParams, condition: Condition) -> bytes:
    """Script (scriptPubKey) of the conditional output; `InvalidState` for a descriptor that nobody resolved."""
    if condition.is_htlc:
        return htlc_output(params, condition.offerer, condition.hash, condition.expiry).spk
    if condition.spk is None or condition.descriptor is None:
        raise InvalidState(
            f"condition {condition.type}/{condition.id}: descriptor outputs need the descriptor and its script, "
            "resolved by a descriptor engine; none was given"
        )
    if descriptor_hash(condition.descriptor) != condition.hash:
        raise InvalidState(f"condition {condition.type}/{condition.id}: the hash is not that of the descriptor")
    if not is_witness_program(condition.spk) or condition.spk == P2A_SPK:
        raise InvalidState(
            f"condition {condition.type}/{condition.id}: the descriptor's script is not a witness program"
        )
    return condition.spk


def is_trimmed(params: ChannelParams, condition: Condition) -> bool:
    """Whether the amount is below dust, so that the condition has no output."""
    return condition.amount < dust_limit(condition_spk(params, condition))
