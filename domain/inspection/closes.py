"""Spends of the funding output: commitments (protocol 3.2) and the cooperative close (3.7)."""

from __future__ import annotations

from domain.channel import Channel
from domain.classifier import Verdict
from domain.contract.commitment import build_commitment, commitment_number, is_commitment_template, obscure
from domain.contract.form import form_of
from domain.contract.params import ChannelParams
from domain.contract.penalty import RBF_SEQUENCE
from domain.contract.scripts import ANCHOR, MAX_EXPIRY
from domain.events import SpendKind
from domain.inspection import findings as check
from domain.inspection.findings import Finding, Inspection, TransactionKind
from domain.joint import funding_signatures, key_path_signature
from domain.transaction import Transaction
from domain.units import MAX_SEQUENCE, Side


def inspect_commitment(channel: Channel, tx: Transaction, verdict: Verdict) -> Inspection:
    """A version-3 spend of the funding output; anything that has not even its shape is unknown."""
    params = channel.params
    if not is_commitment_template(tx, params):
        return Inspection(TransactionKind.UNKNOWN, _shape(channel, tx))
    number = commitment_number(params, tx)
    fee = params.capacity - sum(out.value for out in tx.outputs)
    findings = (
        *_shape(channel, tx),
        _script(channel, tx, verdict, number),
        _signatures(params, tx),
        check.size(tx, _weight(params, tx)),
        check.dust(tx),
        check.feerate(tx, fee, params.commitment_fee),
    )
    revoked = None
    if verdict.side is not None:
        revoked = verdict.kind in (SpendKind.BREACH, SpendKind.SELF_BREACH)
    return Inspection(TransactionKind.COMMITMENT, findings, verdict.side, number, revoked, fee)


def _shape(channel: Channel, tx: Transaction) -> tuple[Finding, ...]:
    """What every commitment of the channel has, whoever made it and for whatever state."""
    params = channel.params
    number = commitment_number(params, tx)
    in_range = 0 <= number <= MAX_SEQUENCE
    n_sequence, lock_time = obscure(params, number) if in_range else (0, 0)
    value = tx.outputs[0].value
    last = tx.outputs[-1]
    return (
        check.version(tx, 3),
        check.one_input(tx),
        check.holds("state-number", in_range, f"{number}", f"{number} is no state number"),
        check.sequence(tx, n_sequence),
        check.equals("locktime", f"{lock_time:#010x}", f"{tx.lock_time:#010x}"),
        check.equals("outputs", 2, len(tx.outputs)),
        check.equals("contest-value", params.contest_value, value),
        check.holds("anchor", last == ANCHOR, "P2A with 240 sat", "the last output is not the anchor of 240 sat"),
    )


def _script(channel: Channel, tx: Transaction, verdict: Verdict, number: int) -> Finding:
    """The contest script is that of one side's point; without the point nobody can tell."""
    if verdict.side is not None:
        return Finding("contest-script", ok=True, detail=f"that of {verdict.side.name} for state {number}")
    known = [side for side in Side if channel.revocation_key(side, number) is not None]
    if not known:
        return Finding("contest-script", ok=False, detail=f"the points of state {number} are not known here")
    points = [channel.point(side, number) for side in known]
    rebuilt = [
        build_commitment(channel.params, side, number, point)
        for side, point in zip(known, points, strict=True)
        if point is not None
    ]
    ok = any(each.txid == tx.txid for each in rebuilt)
    names = " and ".join(side.name for side in known)
    return check.holds(
        "contest-script", ok, f"that of state {number}", f"not that of {names} for state {number}, which is known here"
    )


def _signatures(params: ChannelParams, tx: Transaction) -> Finding:
    if funding_signatures(params, tx) is not None:
        return Finding("signatures", ok=True, detail="both funding keys signed, by script")
    if key_path_signature(params, tx) is not None:
        return Finding("signatures", ok=True, detail="both funding keys signed, by key path")
    detail = "the witness does not hold valid signatures of both funding keys"
    return Finding("signatures", ok=False, detail=detail if tx.inputs[0].witness else "there is no witness")


def _weight(params: ChannelParams, tx: Transaction) -> int:
    """The most that this transaction may weigh with both signatures."""
    marker = 2
    return 4 * len(tx.serialize(witness=False)) + marker + form_of(params).funding_witness_weight()


def inspect_cooperative(params: ChannelParams, tx: Transaction, tip: int) -> Inspection:
    """A version-2 spend that pays nobody but the two payouts."""
    fee = params.capacity - sum(out.value for out in tx.outputs)
    payouts = [params.keys(side).payout for side in Side]
    order = [payouts.index(out.spk) for out in tx.outputs if out.spk in payouts]
    sorted_once = order == sorted(set(order)) and len(order) == len(tx.outputs)
    height = tx.lock_time < MAX_EXPIRY
    findings = (
        check.version(tx, 2),
        check.one_input(tx),
        check.sequence(tx, RBF_SEQUENCE),
        check.holds("locktime", height, _at(tx, tip), f"{tx.lock_time} is not a height"),
        check.holds(
            "outputs", sorted_once, "the payouts of A and B, each at most once", "others than the payouts of A and B"
        ),
        _signatures(params, tx),
        check.size(tx, _weight(params, tx)),
        check.dust(tx),
        check.feerate(tx, fee),
    )
    return Inspection(TransactionKind.COOPERATIVE_CLOSE, findings, fee=fee)


def _at(tx: Transaction, tip: int) -> str:
    return f"{tx.lock_time}" if tx.lock_time <= tip else f"{tx.lock_time}, final above that height; the tip is {tip}"
