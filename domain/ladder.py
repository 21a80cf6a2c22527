"""Penalties that were signed before (protocol 6.3 kind 1): one signature per fee, smallest first.

Whoever shows a ladder keeps the revocation secret to himself; the tower chooses the rung and can change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from domain.contract.params import ChannelParams
from domain.contract.penalty import build_penalty, complete_penalty
from domain.contract.proofs import HEAD_SIZE, KIND_LADDER, MAX_RUNGS, PROOF_MAGIC, RUNG_SIZE
from domain.contract.sighash import ANYONECANPAY, SIGHASH_DEFAULT
from domain.errors import MalformedInput
from domain.transaction import Transaction
from domain.units import Side


class Rung(msgspec.Struct, frozen=True):
    """One signed penalty: fee in satoshi, signature (64 bytes) and its hash type."""

    fee: int
    signature: bytes
    hash_type: int = SIGHASH_DEFAULT


def encode_ladder_proof(
    channel_id: bytes, accused_seq: int, accused: Side, published_txid: bytes, rungs: Sequence[Rung]
) -> bytes:
    """Proof of kind 1 without evidence, 79 + 69·k bytes; `MalformedInput` for more than 16 rungs or none."""
    if not 1 <= len(rungs) <= MAX_RUNGS or any(len(rung.signature) != 64 for rung in rungs):
        raise MalformedInput(f"a ladder has 1 to {MAX_RUNGS} rungs with signatures of 64 bytes")
    head = PROOF_MAGIC + bytes((KIND_LADDER,)) + channel_id + accused_seq.to_bytes(8, "little")
    entries = (r.fee.to_bytes(4, "little") + r.signature + bytes((r.hash_type,)) for r in rungs)
    return head + bytes((accused,)) + published_txid + bytes((len(rungs),)) + b"".join(entries)


def read_rungs(proof: bytes) -> tuple[Rung, ...]:
    """The rungs of a proof of kind 1 that `verify_proof` accepted."""
    first = HEAD_SIZE + 1
    starts = range(first, first + RUNG_SIZE * proof[HEAD_SIZE], RUNG_SIZE)
    return tuple(
        Rung(int.from_bytes(proof[at : at + 4], "little"), proof[at + 4 : at + 68], proof[at + 68]) for at in starts
    )


def rung_for(rungs: Sequence[Rung], fee: int, lowest: int = 0, highest: int | None = None) -> int:
    """Place of the cheapest rung that pays at least `fee`, or of the highest one.

    A rung that signs everything goes before one that others can add to. A rung above `highest` waits as long as the
    one below it pays at least `lowest`; there is always an answer.
    """
    plain = [place for place, rung in enumerate(rungs) if not rung.hash_type & ANYONECANPAY]
    others = [place for place in range(len(rungs)) if place not in plain]
    top = max(range(len(rungs)), key=lambda place: rungs[place].fee)
    chosen = next((place for place in [*plain, *others] if rungs[place].fee >= fee), top)
    if highest is None or rungs[chosen].fee <= highest:
        return chosen
    below = [place for place in (plain or others) if lowest <= rungs[place].fee <= highest]
    return below[-1] if below else chosen


def rung_penalty(
    params: ChannelParams, commit_txid: bytes, sweep_spk: bytes, rung: Rung, revocation_key: bytes | None = None
) -> Transaction:
    """The complete penalty of a rung; profile 1 needs R (33 bytes)."""
    unsigned = build_penalty(params, commit_txid, rung.fee, sweep_spk)
    return complete_penalty(params, unsigned, rung.signature, rung.hash_type, revocation_key)
