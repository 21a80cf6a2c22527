"""Spends of a contest output: penalties (protocol 3.6) and settlements (3.4)."""

from __future__ import annotations

from domain.channel import Channel, Spend
from domain.contract.commitment import contest_txout
from domain.contract.params import ChannelParams
from domain.contract.penalty import RBF_SEQUENCE, penalty_weight, verify_penalty
from domain.contract.settlement import settle_outputs
from domain.contract.state import onchain_state_hash
from domain.deadlines import settle_valid_from
from domain.events import SpendKind
from domain.inspection import findings as check
from domain.inspection.findings import Finding, Inspection, TransactionKind
from domain.joint import settle_signatures
from domain.transaction import Transaction

_STALE = (SpendKind.BREACH, SpendKind.SELF_BREACH)


def inspect_penalty(channel: Channel, tx: Transaction, commitment: Spend) -> Inspection:
    """One input, one output, version 3, signed with the revocation key of this commitment."""
    params, fee = channel.params, channel.params.contest_value - sum(out.value for out in tx.outputs)
    to_us = commitment.side is channel.counterparty
    pays = len(tx.outputs) == 1 and tx.outputs[0].spk == channel.sweep_spk
    found = [
        check.version(tx, 3),
        check.one_input(tx),
        check.sequence(tx, RBF_SEQUENCE),
        check.equals("locktime", 0, tx.lock_time),
        check.equals("outputs", 1, len(tx.outputs)),
    ]
    if to_us:
        found.append(check.holds("sweep", pays, "the registered sweep script", "not the registered sweep script"))
    found += [_penalty_signature(channel, tx, commitment), check.dust(tx), check.feerate(tx, fee)]
    # A rung of a ladder names its hash type: one byte more than the template.
    found.append(check.size(tx, penalty_weight(params, channel.sweep_spk) + 1 if pays else None))
    revoked = commitment.kind in _STALE
    wrong = f"state {commitment.sequence} is not known to be revoked"
    found.append(check.holds("revoked", revoked, f"state {commitment.sequence} is revoked", wrong))
    return Inspection(TransactionKind.PENALTY, tuple(found), commitment.side, commitment.sequence, revoked, fee)


def _penalty_signature(channel: Channel, tx: Transaction, commitment: Spend) -> Finding:
    spk = _contest_spk(channel, commitment)
    if spk is None:
        return Finding("signature", ok=False, detail="the contest script of this commitment is not known here")
    wrong = "it does not verify under the revocation key of this commitment"
    return check.holds("signature", verify_penalty(tx, channel.params, spk), "by the revocation key", wrong)


def _contest_spk(channel: Channel, commitment: Spend) -> bytes | None:
    if commitment.raw is not None:
        return Transaction.parse(commitment.raw).outputs[0].spk
    key = _revocation_key(channel, commitment)
    return None if key is None else contest_txout(channel.params, key).spk


def _revocation_key(channel: Channel, commitment: Spend) -> bytes | None:
    if commitment.side is None or commitment.sequence is None:
        return None
    return channel.revocation_key(commitment.side, commitment.sequence)


def inspect_settlement(channel: Channel, tx: Transaction, commitment: Spend, tip: int) -> Inspection:
    """The outputs of the state, both settle signatures, and the wait of the challenge period."""
    params, fee = channel.params, channel.params.contest_value - sum(out.value for out in tx.outputs)
    found = (
        check.version(tx, 3),
        check.one_input(tx),
        check.sequence(tx, params.challenge_period),
        check.equals("locktime", 0, tx.lock_time),
        _outputs(channel, tx, commitment),
        _settle_signatures(channel, tx, commitment),
        check.size(tx),
        check.dust(tx),
        check.feerate(tx, fee),
        _maturity(params, commitment, tip),
    )
    revoked = commitment.kind in _STALE
    return Inspection(TransactionKind.SETTLEMENT, found, commitment.side, commitment.sequence, revoked, fee)


def _outputs(channel: Channel, tx: Transaction, commitment: Spend) -> Finding:
    record = None if commitment.sequence is None else channel.state(commitment.sequence)
    if record is None:
        return Finding("outputs", ok=False, detail=f"the content of state {commitment.sequence} is not stored here")
    header = record.read_header()
    onchain = onchain_state_hash(header) if channel.params.has_onchain_state else None
    return check.outputs(tx, settle_outputs(channel.params, *header.balances, record.read_conditions(), onchain))


def _settle_signatures(channel: Channel, tx: Transaction, commitment: Spend) -> Finding:
    key = _revocation_key(channel, commitment)
    if key is None:
        return Finding("signatures", ok=False, detail="the revocation key of this commitment is not known here")
    ok = settle_signatures(channel.params, tx, key) is not None
    return check.holds(
        "signatures", ok, "both settle keys signed", "the witness does not hold valid signatures of both settle keys"
    )


def _maturity(params: ChannelParams, commitment: Spend, tip: int) -> Finding:
    """Not a fault: an early settlement is complete, it only has to wait."""
    if commitment.block is None:
        return Finding("maturity", ok=True, detail=f"valid {params.challenge_period} blocks after its commitment")
    first = settle_valid_from(commitment.block.height, params.challenge_period)
    waits = "" if tip + 1 >= first else f", {first - tip - 1} blocks to wait"
    return Finding("maturity", ok=True, detail=f"valid from block {first}{waits}")
