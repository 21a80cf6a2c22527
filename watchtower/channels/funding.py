"""`get_funding_status`: where the funding output stands (protocol 6.2)."""

from __future__ import annotations

from typing import Literal

from domain.channel import Channel, Spend
from domain.events import SpendKind
from domain.status import COMMITMENT_KINDS
from watchtower.channels.context import Context
from watchtower.channels.info import side_name
from watchtower.ports import NodeError
from watchtower.wire.api import FundingBody, SpentByBody
from watchtower.wire.hexes import BlockHashHex, Hex32, TxidHex

FundingStatus = Literal["UNSEEN", "MEMPOOL", "CONFIRMED", "DOUBLE_SPENT", "SPENT_BY"]


def get_funding(context: Context, stream: str) -> FundingBody:
    """Spends and double spends as the log knows them; an unspent output is asked for at the node.

    If the node does not answer, the log answers alone: it is at most as old as the last pass. `confirmed` always
    speaks of the log: when it is true, updates are accepted.
    """
    channel = context.channels.load(stream)
    if channel.double_spend is not None:
        return _body(context, channel, "DOUBLE_SPENT", 0, double_spent_by=channel.double_spend.txid)
    spend = channel.present_spend
    if spend is not None:
        return _body(
            context, channel, "SPENT_BY", channel.funding_depth(context.tip_height()), spent_by=_spent_by(spend)
        )
    try:
        return _ask_node(context, channel)
    except NodeError:
        return _from_log(context, channel)


def _ask_node(context: Context, channel: Channel) -> FundingBody:
    outpoint = channel.params.funding_outpoint
    unspent = context.node.utxos([outpoint], include_mempool=True)[0]
    if unspent is not None:
        return _body(context, channel, "CONFIRMED" if unspent.confirmations else "MEMPOOL", unspent.confirmations)
    spender = context.node.mempool_spenders([outpoint]).get(outpoint)
    if spender is not None:
        spent_by = SpentByBody(kind="UNKNOWN", txid=TxidHex(spender))
        return _body(context, channel, "SPENT_BY", channel.funding_depth(context.tip_height()), spent_by=spent_by)
    return _from_log(context, channel)


def _from_log(context: Context, channel: Channel) -> FundingBody:
    confirmations = channel.funding_depth(context.tip_height())
    if confirmations:
        return _body(context, channel, "CONFIRMED", confirmations)
    return _body(context, channel, "MEMPOOL" if channel.funding_seen else "UNSEEN", 0)


def _body(
    context: Context,
    channel: Channel,
    status: FundingStatus,
    confirmations: int,
    *,
    double_spent_by: bytes | None = None,
    spent_by: SpentByBody | None = None,
) -> FundingBody:
    params, block = channel.params, channel.funding_block
    return FundingBody(
        channel_id=Hex32(params.channel_id),
        status=status,
        confirmed=channel.funding_depth(context.tip_height()) >= context.policy.confirmations,
        confirmations=confirmations,
        funding_txid=TxidHex(params.funding_txid),
        funding_vout=params.funding_vout,
        funding_height=block.height if block else None,
        double_spent_by=TxidHex(double_spent_by) if double_spent_by else None,
        spent_by=spent_by,
    )


def _spent_by(spend: Spend) -> SpentByBody:
    kind: Literal["COOP", "COMMIT", "UNKNOWN"] = "UNKNOWN"
    if spend.kind is SpendKind.COOP:
        kind = "COOP"
    elif spend.kind in COMMITMENT_KINDS:
        kind = "COMMIT"
    revoked = spend.kind in (SpendKind.BREACH, SpendKind.SELF_BREACH) if kind == "COMMIT" else None
    return SpentByBody(
        kind=kind,
        txid=TxidHex(spend.txid),
        party=side_name(spend.side) if spend.side is not None else None,
        sequence=spend.sequence,
        revoked=revoked,
        height=spend.block.height if spend.block else None,
        block_hash=BlockHashHex(spend.block.hash) if spend.block else None,
    )
