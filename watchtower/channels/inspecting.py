"""`validate_transaction`: what a transaction is to the tower's channels, and whether every part of it is right."""

from __future__ import annotations

from domain.chain import display, make_outpoint
from domain.channel import Channel
from domain.classifier import encoded_number
from domain.errors import MalformedInput, UnknownTransaction
from domain.inspection import Finding, Inspection, TransactionKind, inspect_transaction
from domain.transaction import Transaction
from projections.watch_index import TABLE as WATCHED
from projections.watch_index import Role
from watchtower.channels.context import Context
from watchtower.channels.finding import find_stream
from watchtower.channels.info import side_name
from watchtower.channels.ownership import require_owner
from watchtower.ports import NodeError
from watchtower.wire.disputes import FindingBody, ValidateBody, ValidateRequest
from watchtower.wire.hexes import Hex32, TxidHex

MOST_PLACES = 1_000
"""Inputs and outputs that are looked up; a transaction of a channel has fewer, a batch that funds many has too."""


def validate(context: Context, request: ValidateRequest, owner: bytes | None = None) -> ValidateBody:
    """Check a transaction; `owner` (x-only auth key) is a party that asks and sees its own channels only.

    Raises `UnknownTransaction` for a txid whose bytes neither the log nor the node has.
    """
    if (request.txid is None) == (request.raw is None):
        raise MalformedInput("give either txid or raw")
    named = None if request.channel_id is None else _named(context, request.channel_id, owner)
    tx = Transaction.parse(bytes(request.raw)) if request.raw is not None else _found(context, request, named, owner)
    channel = named or _channel_of(context, tx, owner)
    if channel is None:
        unknown = Finding("spends", ok=False, detail="no channel here is funded or spent by it; name its channel")
        inspection = Inspection(TransactionKind.UNKNOWN, (unknown,))
    else:
        own = context.channels.own_commitment_txid(channel, encoded_number(channel.params, tx))
        inspection = inspect_transaction(channel, tx, own, context.tip_height())
    findings = [*inspection.findings, *([_node_finding(context, tx)] if request.ask_node else [])]
    return ValidateBody(
        txid=TxidHex(tx.txid),
        kind=inspection.kind.value,
        valid=inspection.kind is not TransactionKind.UNKNOWN and all(each.ok for each in findings),
        channel_id=None if channel is None else Hex32(channel.params.channel_id),
        party=None if inspection.side is None else side_name(inspection.side),
        sequence=inspection.sequence,
        revoked=inspection.revoked,
        fee=inspection.fee,
        weight=tx.weight,
        vsize=tx.vsize,
        findings=tuple(FindingBody(check=each.name, ok=each.ok, detail=each.detail) for each in findings),
    )


def _named(context: Context, name: str, owner: bytes | None) -> Channel:
    if owner is not None:
        require_owner(context, name, owner)
    return context.channels.load(find_stream(context, name))


def _channel_of(context: Context, tx: Transaction, owner: bytes | None) -> Channel | None:
    """The first channel that watches an input of it, or is funded by one of its outputs."""
    spent = [bytes(txin.outpoint) for txin in tx.inputs[:MOST_PLACES]]
    made = [bytes(make_outpoint(tx.txid, vout)) for vout in range(len(tx.outputs[:MOST_PLACES]))]
    for outpoint in spent + made:
        for row in context.views.find(WATCHED, "outpoint", outpoint):
            channel = context.channels.load(WATCHED.read(row).stream)
            if owner is None or channel.client_key == owner:
                return channel
    return None


def _found(context: Context, request: ValidateRequest, named: Channel | None, owner: bytes | None) -> Transaction:
    """The bytes of a txid: from the channel's log, else from the node."""
    assert request.txid is not None  # the caller checked
    txid = bytes(request.txid)
    channel = named or _made_by(context, txid, owner)
    raw = None if channel is None else _from_log(channel, txid)
    raw = raw or context.node.transaction(txid)
    if raw is None:
        raise UnknownTransaction(
            f"{display(txid)} is neither in the node's mempool nor known here; give its bytes"
            + ("" if named else ", or the channel if it is in a block already")
        )
    return Transaction.parse(raw)


def _made_by(context: Context, txid: bytes, owner: bytes | None) -> Channel | None:
    """The channel that watches an output of this transaction: one in a block is known by its id as well."""
    for row in context.views.page(WATCHED, (txid,), MOST_PLACES):
        watched = WATCHED.read(row)
        if not watched.outpoint.startswith(txid):
            return None
        if watched.role == Role.FUNDING_INPUT:
            continue
        channel = context.channels.load(watched.stream)
        if owner is None or channel.client_key == owner:
            return channel
    return None


def _from_log(channel: Channel, txid: bytes) -> bytes | None:
    known = [(s.txid, s.raw) for s in channel.spends]
    known += [(b.txid, b.raw) for b in channel.bids] + [(s.txid, s.raw) for s in channel.settlements]
    known += [(c.txid, c.raw) for c in channel.closings] + [(channel.params.funding_txid, channel.funding_tx)]
    return next((raw for each, raw in known if each == txid and raw is not None), None)


def _node_finding(context: Context, tx: Transaction) -> Finding:
    """What the node would say now; a refusal is a finding, no answer is told as one that does not hold."""
    try:
        answer = context.node.test_accept(tx.serialize())
    except NodeError:
        return Finding("node", ok=False, detail="the node could not be asked")
    return Finding("node", answer.in_mempool, "the node would take it" if answer.in_mempool else answer.text[:200])
