"""Findings, and the checks that several kinds of transactions share."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from domain.contract.scripts import ANCHOR, dust_limit
from domain.contract.settlement import MAX_VSIZE
from domain.transaction import Transaction, TxOut
from domain.units import Side


class TransactionKind(StrEnum):
    """What a transaction is to a channel."""

    FUNDING = "funding"
    COMMITMENT = "commitment"
    PENALTY = "penalty"
    SETTLEMENT = "settlement"
    CLAIM = "claim"
    COOPERATIVE_CLOSE = "cooperative-close"
    UNKNOWN = "unknown"


class Finding(msgspec.Struct, frozen=True):
    """One check: its name, whether it holds, and what was found."""

    name: str
    ok: bool
    detail: str


class Inspection(msgspec.Struct, frozen=True):
    """Kind and findings; side and number of the state, and whether it is revoked, where that is known.

    `fee` in satoshi, None where the value of an input is not known.
    """

    kind: TransactionKind
    findings: tuple[Finding, ...]
    side: Side | None = None
    sequence: int | None = None
    revoked: bool | None = None
    fee: int | None = None

    @property
    def is_valid(self) -> bool:
        """Whether it is a transaction of this channel and every check holds."""
        return self.kind is not TransactionKind.UNKNOWN and all(finding.ok for finding in self.findings)


def equals(name: str, wanted: object, found: object) -> Finding:
    """A field that has one right value."""
    detail = f"{found}" if wanted == found else f"{found}, expected {wanted}"
    return Finding(name, wanted == found, detail)


def holds(name: str, ok: bool, right: str, wrong: str) -> Finding:
    """A check that is told in two sentences."""
    return Finding(name, ok, right if ok else wrong)


def version(tx: Transaction, wanted: int) -> Finding:
    """nVersion."""
    return equals("version", wanted, tx.version)


def one_input(tx: Transaction) -> Finding:
    """Exactly one input without scriptSig."""
    ok = len(tx.inputs) == 1 and not tx.inputs[0].script_sig
    return holds("inputs", ok, "one, without scriptSig", f"{len(tx.inputs)}, expected one without scriptSig")


def sequence(tx: Transaction, wanted: int) -> Finding:
    """nSequence of the first input."""
    found = tx.inputs[0].sequence
    detail = f"{found:#010x}" if found == wanted else f"{found:#010x}, expected {wanted:#010x}"
    return Finding("sequence", found == wanted, detail)


def outputs(tx: Transaction, wanted: Sequence[TxOut]) -> Finding:
    """All outputs, in order."""
    wrong = [place for place, pair in enumerate(zip(tx.outputs, wanted, strict=False)) if pair[0] != pair[1]]
    if len(tx.outputs) != len(wanted):
        return Finding("outputs", ok=False, detail=f"{len(tx.outputs)} outputs, expected {len(wanted)}")
    if wrong:
        return Finding("outputs", ok=False, detail=f"output {wrong[0]} has another value or script than it should")
    return Finding("outputs", ok=True, detail=f"{len(wanted)} outputs with the agreed values and scripts")


def dust(tx: Transaction) -> Finding:
    """No output below its dust limit; a note without value and the anchor are none."""
    spendable = (out for out in tx.outputs if out != ANCHOR and not out.spk.startswith(b"\x6a"))
    low = next((out for out in spendable if out.value < dust_limit(out.spk)), None)
    wrong = "" if low is None else f"an output of {low.value} sat is below its limit of {dust_limit(low.spk)} sat"
    return holds("dust", low is None, "no output is below its limit", wrong)


def size(tx: Transaction, most_weight: int | None = None) -> Finding:
    """Weight, where the template has one, and the limit for version 3 (BIP-431)."""
    limit = MAX_VSIZE if tx.version == 3 else 100_000
    ok = tx.vsize <= limit and (most_weight is None or tx.weight <= most_weight)
    expected = f", expected at most {most_weight} WU and {limit} vB" if not ok else ""
    return Finding("weight", ok, f"{tx.weight} WU, {tx.vsize} vB{expected}")


def feerate(tx: Transaction, fee: int, least: int | None = None) -> Finding:
    """Fee and feerate; `least` is the fee (satoshi) that the template fixes."""
    rate = f"{fee} sat, {fee / tx.vsize:.2f} sat/vB"
    if fee < 0:
        return Finding("fee", ok=False, detail=f"the outputs hold {-fee} sat more than the inputs")
    if least is not None and fee < least:
        return Finding("fee", ok=False, detail=f"{rate}, expected at least {least} sat")
    return Finding("fee", ok=True, detail=rate)
