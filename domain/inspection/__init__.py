"""What a transaction is to a channel, and whether every part of it is as the protocol wants it (protocol 6.2, 7.2).

Pure: the channel and the transaction in, findings out. Whether a node would take it is asked elsewhere.
"""

from __future__ import annotations

from domain.chain import OutPoint, outpoint_txid
from domain.channel import Channel, Spend
from domain.classifier import classify
from domain.contract.penalty import takes_by_revocation
from domain.events import SpendKind
from domain.inspection.claims import find_claim, inspect_claim
from domain.inspection.closes import inspect_commitment, inspect_cooperative
from domain.inspection.contest import inspect_penalty, inspect_settlement
from domain.inspection.findings import Finding, Inspection, TransactionKind
from domain.inspection.funding import inspect_funding
from domain.transaction import Transaction
from domain.units import Side

__all__ = ["Finding", "Inspection", "TransactionKind", "inspect_transaction"]


def inspect_transaction(channel: Channel, tx: Transaction, own_txid: bytes | None, tip: int) -> Inspection:
    """Classify a transaction and check it against its template.

    `own_txid` is the txid of the owner's commitment with the number that the transaction encodes, if it is stored;
    `tip` the height that time locks are judged at.
    """
    params = channel.params
    if tx.txid == params.funding_txid:
        return inspect_funding(params, tx)
    if any(txin.outpoint == params.funding_outpoint for txin in tx.inputs):
        verdict = classify(channel, tx, own_txid)
        if verdict.kind is SpendKind.COOP:
            return inspect_cooperative(params, tx, tip)
        return inspect_commitment(channel, tx, verdict)
    commitment = _spent_commitment(channel, tx)
    if commitment is not None:
        if takes_by_revocation(params, tx, commitment.contest):
            return inspect_penalty(channel, tx, commitment)
        return inspect_settlement(channel, tx, commitment, tip)
    claimed = find_claim(channel, tx)
    if claimed is not None:
        return inspect_claim(channel, tx, claimed, tip)
    spends = Finding("spends", ok=False, detail="it spends no output of this channel and is not its funding")
    return Inspection(TransactionKind.UNKNOWN, (spends,))


def _spent_commitment(channel: Channel, tx: Transaction) -> Spend | None:
    """The commitment whose contest output is spent: one that was seen, or one of the newest states."""
    parents: dict[bytes, OutPoint] = {outpoint_txid(txin.outpoint): txin.outpoint for txin in tx.inputs}
    seen = next((s for s in channel.spends if parents.get(s.txid) == s.contest), None)
    if seen is not None:
        return seen
    for record in reversed(channel.states):
        for side in Side:
            txid = record.read_header().commit_txid(side)
            kind = SpendKind.OWN_CLOSE if side is channel.own_side else SpendKind.PEER_CLOSE
            found = Spend(txid, kind, side, record.sequence, raw=None, in_mempool=False, block=None)
            if parents.get(txid) == found.contest:
                return found
    return None
