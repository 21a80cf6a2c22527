"""Honest closes: which settlement to send and from when."""

from __future__ import annotations

import msgspec

from domain.channel import Channel, Spend, StateRecord
from domain.contract.settlement import complete_settlement
from domain.contract.state import state_transactions
from domain.deadlines import settle_valid_from
from domain.events import (
    AlertKind,
    BroadcastOutcome,
    Payload,
    SettleBroadcast,
    SettlePrepared,
    Via,
)
from domain.spending import clear_alert, raise_alert
from domain.status import HONEST_KINDS
from domain.transaction import Transaction
from domain.units import Side


class ReadySettlement(msgspec.Struct, frozen=True):
    """A complete settlement of an honest close; mempools accept it once the tip is `valid_from` - 1."""

    commit_txid: bytes
    side: Side
    sequence: int
    tx: Transaction
    fee: int
    valid_from: int


def ready_settlement(channel: Channel, close: Spend) -> ReadySettlement | None:
    """The settlement of a confirmed honest close, or None if the state's content is not stored here."""
    content = _content(channel, close)
    if content is None or close.block is None or close.side is None or close.sequence is None:
        return None
    params, (record, points) = channel.params, content
    built = state_transactions(params, record.read_header(), record.read_conditions(), points)
    signatures = (
        (record.sigs_a.settle_a, record.sigs_b.settle_a)
        if close.side is Side.A
        else (record.sigs_a.settle_b, record.sigs_b.settle_b)
    )
    unsigned = built.settlements[close.side]
    tx = complete_settlement(params, unsigned, built.revocation_keys[close.side], *signatures)
    return ReadySettlement(
        close.txid,
        close.side,
        close.sequence,
        tx,
        params.contest_value - sum(out.value for out in unsigned.outputs),
        settle_valid_from(close.block.height, params.challenge_period),
    )


def is_revoked_since(channel: Channel, close: Spend) -> bool:
    """Whether the counterparty's secret of this close is known by now: to settle it would pay the cheater.

    The pass that calls it a breach may still be to come, for example while a block cannot be read.
    """
    if close.side is not channel.counterparty or close.sequence is None:
        return False
    return close.sequence <= channel.highest_revoked


def has_settlement(channel: Channel, close: Spend) -> bool:
    """Whether `ready_settlement` could build one; costs nothing."""
    return close.block is not None and _content(channel, close) is not None


def _content(channel: Channel, close: Spend) -> tuple[StateRecord, tuple[bytes, bytes]] | None:
    """What a settlement is built from: the stored state and the points of both sides."""
    if close.kind not in HONEST_KINDS or close.sequence is None:
        return None
    record = channel.state(close.sequence)
    point_a, point_b = (channel.point(side, close.sequence) for side in Side)
    return None if record is None or point_a is None or point_b is None else (record, (point_a, point_b))


def settlement_missing(channel: Channel, close: Spend, tip: int, now: int) -> list[Payload]:
    """An honest close of a state whose signatures were never uploaded: the owner's party must settle."""
    return raise_alert(channel, AlertKind.SETTLEMENT_UNAVAILABLE, close.txid, close.sequence, tip, now)


def settle_prepared(channel: Channel, plan: ReadySettlement, now: int) -> list[Payload]:
    """The intent, durable before the node is called; nothing if this very settlement was prepared before."""
    known = channel.settlement_of(plan.commit_txid)
    if known is not None and known.txid == plan.tx.txid and known.valid_from == plan.valid_from:
        return []
    return [
        SettlePrepared(
            recorded_at=now,
            commit_txid=plan.commit_txid,
            side=plan.side,
            sequence=plan.sequence,
            txid=plan.tx.txid,
            raw=plan.tx.serialize(),
            fee=plan.fee,
            valid_from=plan.valid_from,
            child=None,
        )
    ]


def settle_answered(
    channel: Channel, plan: ReadySettlement, outcome: BroadcastOutcome, tip: int, now: int
) -> list[Payload]:
    """The node holds the settlement (recorded once per txid), or will not take it as it is: a person must look.

    Its fee was fixed when the state was signed. Only a child can raise it, and its outputs belong to the parties.
    """
    known, alert = channel.settlement_of(plan.commit_txid), AlertKind.SETTLEMENT_UNAVAILABLE
    if known is None:
        return []
    if outcome in (BroadcastOutcome.BELOW_MINIMUM, BroadcastOutcome.REJECTED):
        return raise_alert(channel, alert, plan.commit_txid, plan.sequence, tip, now)
    if outcome not in (BroadcastOutcome.ACCEPTED, BroadcastOutcome.ALREADY_KNOWN):
        return []
    ended = clear_alert(channel, alert, tip, now)
    if known.accepted:
        return ended
    sent = SettleBroadcast(recorded_at=now, txid=known.txid, outcome=outcome, via=Via.RAW, height=tip)
    return [sent, *ended]
