"""Claims of conditional outputs (protocol 3.5): by preimage or after the expiry."""

from __future__ import annotations

import msgspec

from domain.chain import make_outpoint
from domain.channel import Channel
from domain.contract.conditions import Condition
from domain.contract.form import form_of
from domain.contract.htlc import (
    ClaimPath,
    claim_sighash,
    claimant,
    complete_htlc_success,
    complete_htlc_timeout,
    extract_preimage,
)
from domain.contract.params import ChannelParams
from domain.contract.penalty import RBF_SEQUENCE
from domain.contract.settlement import condition_vouts
from domain.contract.state import onchain_state_hash
from domain.inspection import findings as check
from domain.inspection.findings import Finding, Inspection, TransactionKind
from domain.joint import read_signature
from domain.transaction import Transaction
from domain.units import Side


class Claimed(msgspec.Struct, frozen=True):
    """The conditional output that a transaction spends, and in the settlement of which state and side it stands."""

    condition: Condition
    side: Side
    sequence: int
    place: int


def find_claim(channel: Channel, tx: Transaction) -> Claimed | None:
    """The first input that spends a conditional output of a stored state's settlement."""
    places = {txin.outpoint: place for place, txin in enumerate(tx.inputs)}
    for record in reversed(channel.states):
        if not record.conditions:
            continue
        header, conditions = record.read_header(), record.read_conditions()
        onchain = onchain_state_hash(header) if channel.params.has_onchain_state else None
        vouts = condition_vouts(channel.params, *header.balances, conditions, onchain)
        for side in Side:
            for condition in conditions:
                vout = vouts.get(condition.key)
                if vout is None:
                    continue
                place = places.get(make_outpoint(header.settle_txid(side), vout))
                if place is not None:
                    return Claimed(condition, side, record.sequence, place)
    return None


def inspect_claim(channel: Channel, tx: Transaction, claimed: Claimed, tip: int) -> Inspection:
    """Version, locks, witness and amounts. Of a claim with several inputs only this one is judged."""
    condition = claimed.condition
    fee = condition.amount - sum(out.value for out in tx.outputs) if len(tx.inputs) == 1 else None
    found = [
        check.holds("version", tx.version in (2, 3), f"{tx.version}", f"{tx.version}, expected 3, or 2 once settled"),
        check.sequence(tx, RBF_SEQUENCE),
        *_path(channel.params, tx, claimed, tip),
        check.dust(tx),
        check.size(tx),
    ]
    if fee is not None:
        found.append(check.feerate(tx, fee))
    return Inspection(TransactionKind.CLAIM, tuple(found), claimed.side, claimed.sequence, revoked=None, fee=fee)


def _path(params: ChannelParams, tx: Transaction, claimed: Claimed, tip: int) -> tuple[Finding, ...]:
    condition, witness = claimed.condition, tx.inputs[claimed.place].witness
    if not condition.is_htlc:
        return (Finding("witness", ok=True, detail="a descriptor output; its script is judged by nodes only"),)
    if len(tx.inputs) != 1:
        return (Finding("witness", ok=True, detail="several inputs; the amounts of the others are not known here"),)
    preimage = extract_preimage(witness, condition.hash)
    path = ClaimPath.TIMEOUT if preimage is None else ClaimPath.SUCCESS
    if preimage is None:
        lock = check.equals("locktime", condition.expiry, tx.lock_time)
        waits = "" if tip >= condition.expiry else f", the tip is {tip}"
        when = Finding("expiry", ok=True, detail=f"valid above height {condition.expiry}{waits}")
    else:
        lock = check.equals("locktime", 0, tx.lock_time)
        when = Finding("preimage", ok=True, detail="it hashes to the payment hash")
    who = claimant(condition, path)
    ok = _is_signed(params, tx, condition, path, preimage)
    wrong = f"the witness is not that of a claim by {who.name} on this path"
    return lock, when, check.holds("witness", ok, f"signed by {who.name}", wrong)


def _is_signed(
    params: ChannelParams, tx: Transaction, condition: Condition, path: ClaimPath, preimage: bytes | None
) -> bool:
    witness = tx.inputs[0].witness
    message = claim_sighash(params, condition, tx, path)
    public = params.keys(claimant(condition, path)).htlc
    for signature in filter(None, map(read_signature, witness)):
        if not form_of(params).verify(public, message, signature):
            continue
        if preimage is None:
            complete = complete_htlc_timeout(params, condition, tx, signature)
        else:
            complete = complete_htlc_success(params, condition, tx, signature, preimage)
        return complete.inputs[0].witness == witness
    return False
