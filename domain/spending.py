"""Facts about the funding and contest outputs become events: seen, confirmed, replaced, disconnected, final.

Every function takes the channel as it is and a fact that the node established, and returns what is new.
Repeating a fact returns nothing, so a pass can be run again at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from domain.chain import BlockRef
from domain.channel import Channel, Spend, final_transaction
from domain.classifier import Verdict
from domain.contract.penalty import takes_by_revocation
from domain.deadlines import deadline, depth, is_final, is_soft_final
from domain.events import (
    MAX_RAW_TRANSACTION,
    AlertCleared,
    AlertKind,
    AlertRaised,
    BreachDetected,
    ChannelResolved,
    ClaimDisconnected,
    FundingBroadcast,
    FundingConfirmed,
    FundingDisconnected,
    FundingDoubleSpent,
    Payload,
    PenaltyConfirmed,
    PenaltyDisconnected,
    SettleConfirmed,
    SettleDisconnected,
    SoftFinal,
    Source,
    SpendConfirmed,
    SpendDisconnected,
    SpendKind,
    SpendReplaced,
    SpendSeen,
)
from domain.transaction import Transaction

ALERT_OF_KIND = {
    SpendKind.SELF_BREACH: AlertKind.SELF_BREACH,
    SpendKind.FUTURE_STATE: AlertKind.FUTURE_STATE,
    SpendKind.UNKNOWN_SPEND: AlertKind.UNKNOWN_SPEND,
}
"""Kinds of spends that the tower cannot answer itself: a person must look."""

ANSWER_ALERTS = {
    SpendKind.BREACH: (
        AlertKind.UNARMED_BREACH,
        AlertKind.UNECONOMICAL_TO_PUNISH,
        AlertKind.PENALTY_REFUSED,
        AlertKind.PENALTY_SKIPPED,
        AlertKind.LADDER_TOO_SHORT,
    ),
    SpendKind.OWN_CLOSE: (AlertKind.SETTLEMENT_UNAVAILABLE,),
    SpendKind.PEER_CLOSE: (AlertKind.SETTLEMENT_UNAVAILABLE,),
}
"""What the responder may complain about while a spend of this kind waits for its answer."""


def _keepable(raw: bytes | None) -> bytes | None:
    """Bytes for an event, or None if they are too many.

    Nodes relay up to 400,000 bytes, blocks hold more, and others may have made them: an event that cannot be
    decoded again would blind the tower for this channel.
    """
    return raw if raw is not None and len(raw) <= MAX_RAW_TRANSACTION else None


def funding_seen(channel: Channel, raw: bytes | None, source: Source, now: int) -> list[Payload]:
    """The funding transaction exists, in the mempool or in a block that leaves the chain.

    Its bytes name its inputs, so that a double spend is noticed; they are kept unless they are too many for an event.
    """
    kept = _keepable(raw)
    if channel.funding_seen and (kept is None or channel.funding_tx is not None):
        return []
    return [
        FundingBroadcast(
            recorded_at=now,
            outpoint=channel.params.funding_outpoint,
            channel_id=channel.params.channel_id,
            source=source,
            raw=kept,
        )
    ]


def funding_confirmed(channel: Channel, block: BlockRef, now: int) -> list[Payload]:
    """The funding output was created in this block."""
    if channel.funding_block == block:
        return []
    return [FundingConfirmed(recorded_at=now, outpoint=channel.params.funding_outpoint, block=block)]


def funding_double_spent(channel: Channel, conflict: bytes, block: BlockRef, now: int) -> list[Payload]:
    """Another transaction took an input of the funding transaction: the channel is void."""
    if channel.funding_block is not None or channel.double_spend is not None:
        return []
    return [
        FundingDoubleSpent(recorded_at=now, outpoint=channel.params.funding_outpoint, conflict=conflict, block=block)
    ]


def spend_seen(
    channel: Channel, tx: Transaction, raw: bytes, verdict: Verdict, source: Source, tip: int, now: int
) -> list[Payload]:
    """A spend of the funding outpoint is in the mempool now."""
    if channel.confirmed_spend is not None:
        return []
    known = channel.spend(tx.txid)
    if known is not None and known.in_mempool and known.kind is verdict.kind:
        return []
    events = _others_replaced(channel, tx.txid, verdict.kind, tip, now)
    events.append(
        SpendSeen(
            recorded_at=now,
            kind=verdict.kind,
            txid=tx.txid,
            side=verdict.side,
            sequence=verdict.sequence,
            raw=_keepable(raw),
            source=source,
            height=tip,
        )
    )
    return events + _consequences(channel, tx, verdict, source, None, tip, now)


def spend_gone(channel: Channel, txid: bytes, by: bytes | None, tip: int, now: int) -> list[Payload]:
    """An unconfirmed spend is no longer in the mempool and not in a block."""
    known = channel.spend(txid)
    if known is None or not known.in_mempool:
        return []
    gone = SpendReplaced(recorded_at=now, txid=txid, by=by, height=tip)
    return [gone, *_alerts_ended(channel, [known], None, tip, now)]


def spend_confirmed(
    channel: Channel, tx: Transaction, raw: bytes | None, verdict: Verdict, block: BlockRef, source: Source, now: int
) -> list[Payload]:
    """A spend of the funding outpoint is in this block; rivals in the mempool are void.

    `raw` is None where only the txid was found, by computing it.
    """
    known = channel.spend(tx.txid)
    if known is not None and known.block == block:
        return []
    events = _others_replaced(channel, tx.txid, verdict.kind, block.height, now)
    events.append(
        SpendConfirmed(
            recorded_at=now,
            kind=verdict.kind,
            txid=tx.txid,
            side=verdict.side,
            sequence=verdict.sequence,
            block=block,
            raw=_keepable(raw) if known is None or known.raw is None else None,
        )
    )
    return events + _consequences(channel, tx, verdict, source, block, block.height, now)


def reclassified(
    channel: Channel, spend: Spend, tx: Transaction, verdict: Verdict, tip: int, now: int
) -> list[Payload]:
    """What was learned later changed what a spend is.

    A secret turns an honest close into a breach (protocol 7.2, late release); if that close is settled already, the
    settlement was one of a stale state: the channel is lost. The missing states turn one of an unknown number into
    the counterparty's close.
    """
    if verdict.kind is SpendKind.PEER_CLOSE and spend.kind in _UNEXPLAINED:
        return _recognized(channel, spend, verdict, tip, now)
    if verdict.kind is not SpendKind.BREACH or spend.kind is SpendKind.BREACH:
        return []
    ended = _alerts_ended(channel, [spend], verdict.kind, tip, now)
    breach = _consequences(channel, tx, verdict, Source.UPLOAD, spend.block, tip, now)
    end = channel.contest_spend(spend.txid)
    if end is None or end.is_penalty:
        return ended + breach
    judged = msgspec.structs.replace(spend, side=verdict.side, sequence=verdict.sequence)
    return ended + breach + _settled(channel, judged, end.txid, end.block, now, revoked=True)


_UNEXPLAINED = frozenset({SpendKind.FUTURE_STATE, SpendKind.UNKNOWN_SPEND})


def _recognized(channel: Channel, spend: Spend, verdict: Verdict, tip: int, now: int) -> list[Payload]:
    """The same spend in the same place under its right name, and the end of the alert about it."""
    ended = _alerts_ended(channel, [spend], verdict.kind, tip, now)
    if spend.block is not None:
        return [
            SpendConfirmed(
                recorded_at=now,
                kind=verdict.kind,
                txid=spend.txid,
                side=verdict.side,
                sequence=verdict.sequence,
                block=spend.block,
                raw=None,
            ),
            *ended,
        ]
    return [
        SpendSeen(
            recorded_at=now,
            kind=verdict.kind,
            txid=spend.txid,
            side=verdict.side,
            sequence=verdict.sequence,
            raw=spend.raw,
            source=Source.UPLOAD,
            height=tip,
        ),
        *ended,
    ]


def contest_confirmed(channel: Channel, commitment: Spend, tx: Transaction, block: BlockRef, now: int) -> list[Payload]:
    """The contest output of a commitment was spent in this block.

    By the revocation key it is a penalty: ours if it pays our sweep script, else the counterparty's for an own old
    state. By both settle keys it is a settlement, also if our sweep script happens to be our payout script.
    """
    known = channel.contest_spend(commitment.txid)
    if known is not None and known.txid == tx.txid and known.block == block:
        return []
    swept = sum(o.value for o in tx.outputs if o.spk == channel.sweep_spk)
    by_key = takes_by_revocation(channel.params, tx, commitment.contest)
    answered = [
        event
        for kind in ANSWER_ALERTS.get(commitment.kind, ())
        for event in clear_alert(channel, kind, block.height, now)
    ]
    if by_key and swept > 0 and commitment.side is not channel.own_side:
        fee = channel.params.contest_value - sum(o.value for o in tx.outputs)
        confirmed = PenaltyConfirmed(
            recorded_at=now, commit_txid=commitment.txid, txid=tx.txid, block=block, fee=max(fee, 0), swept=swept
        )
        return [confirmed, *answered]
    revoked = commitment.kind is SpendKind.BREACH or (by_key and commitment.side is channel.own_side)
    return _settled(channel, commitment, tx.txid, block, now, revoked=revoked) + answered


def _settled(
    channel: Channel, commitment: Spend, txid: bytes, block: BlockRef, now: int, *, revoked: bool
) -> list[Payload]:
    side = commitment.side if commitment.side is not None else channel.counterparty
    events: list[Payload] = [
        SettleConfirmed(
            recorded_at=now,
            commit_txid=commitment.txid,
            txid=txid,
            side=side,
            sequence=commitment.sequence or 0,
            revoked=revoked,
            value=channel.params.contest_value,
            block=block,
        )
    ]
    if revoked:
        for kind in (AlertKind.OUTPUT_CLAIMED_BY_COUNTERPARTY, AlertKind.FUNDS_LOST):
            events += raise_alert(channel, kind, txid, commitment.sequence, block.height, now)
    return events


def _others_replaced(channel: Channel, txid: bytes, kind: SpendKind, tip: int, now: int) -> list[Payload]:
    rivals = [s for s in channel.spends if s.in_mempool and s.txid != txid]
    replaced: list[Payload] = [SpendReplaced(recorded_at=now, txid=s.txid, by=txid, height=tip) for s in rivals]
    judged_anew = [s for s in channel.spends if s.is_present and s.txid == txid and s.kind is not kind]
    return replaced + _alerts_ended(channel, [*rivals, *judged_anew], kind, tip, now)


def _alerts_ended(
    channel: Channel, gone: Sequence[Spend], arriving: SpendKind | None, height: int, now: int
) -> list[Payload]:
    """Alerts of spends that are gone, unless a spend that stays or arrives raises the same ones."""
    staying = {s.kind for s in channel.spends if s.is_present and s not in gone} | {arriving}
    kept = {alert for kind in staying if kind is not None for alert in _alerts_of(kind)}
    ended = {alert for s in gone for alert in _alerts_of(s.kind)} - kept
    return [event for kind in sorted(ended) for event in clear_alert(channel, kind, height, now)]


def _alerts_of(kind: SpendKind) -> tuple[AlertKind, ...]:
    alert = ALERT_OF_KIND.get(kind)
    return ANSWER_ALERTS.get(kind, ()) if alert is None else (alert,)


def _consequences(
    channel: Channel,
    tx: Transaction,
    verdict: Verdict,
    source: Source,
    block: BlockRef | None,
    tip: int,
    now: int,
) -> list[Payload]:
    if verdict.kind is SpendKind.BREACH and verdict.side is not None and verdict.sequence is not None:
        return [
            BreachDetected(
                recorded_at=now,
                txid=tx.txid,
                side=verdict.side,
                sequence=verdict.sequence,
                contest=tx.txid + bytes(4),
                contest_value=tx.outputs[0].value,
                contest_spk=tx.outputs[0].spk,
                source=source,
                block=block,
                deadline=None if block is None else deadline(block.height, channel.params.challenge_period),
            )
        ]
    alert = ALERT_OF_KIND.get(verdict.kind)
    return [] if alert is None else raise_alert(channel, alert, tx.txid, verdict.sequence, tip, now)


def raise_alert(
    channel: Channel, kind: AlertKind, txid: bytes | None, sequence: int | None, height: int, now: int
) -> list[Payload]:
    """An alert on the change of the condition only."""
    if kind in channel.alerts:
        return []
    return [AlertRaised(recorded_at=now, kind=kind, txid=txid, sequence=sequence, height=height)]


def clear_alert(channel: Channel, kind: AlertKind, height: int, now: int) -> list[Payload]:
    """The end of an alert's condition."""
    return [AlertCleared(recorded_at=now, kind=kind, height=height)] if kind in channel.alerts else []


def disconnected(channel: Channel, block: BlockRef, now: int) -> list[Payload]:
    """Undo every fact that stands in this block, newest first."""
    if channel.resolved is not None:
        return []
    events = _claims_undone(channel, block, now)
    for end in reversed(channel.contest_spends):
        if end.block == block:
            undo = PenaltyDisconnected if end.is_penalty else SettleDisconnected
            events.append(undo(recorded_at=now, txid=end.txid, block=block))
            if end.revoked and not end.is_penalty:
                for kind in (AlertKind.OUTPUT_CLAIMED_BY_COUNTERPARTY, AlertKind.FUNDS_LOST):
                    events += clear_alert(channel, kind, block.height, now)
    gone = [s for s in channel.spends if s.block == block]
    events += [SpendDisconnected(recorded_at=now, txid=s.txid, block=block) for s in gone]
    events += _alerts_ended(channel, gone, None, block.height, now)
    voided = channel.double_spend is not None and channel.double_spend.block == block
    if voided or channel.funding_block == block:
        events.append(FundingDisconnected(recorded_at=now, outpoint=channel.params.funding_outpoint, block=block))
    return events


def _claims_undone(channel: Channel, block: BlockRef, now: int) -> list[Payload]:
    """Conditional outputs that were taken in this block are open again."""
    gone = [taken for taken in channel.claim_ends if taken.block == block]
    txids = dict.fromkeys(taken.txid for taken in reversed(gone))
    events: list[Payload] = [ClaimDisconnected(recorded_at=now, txid=txid, block=block) for txid in txids]
    stays = any(taken.missed for taken in channel.claim_ends if taken.block != block)
    stays = stays or any(end.revoked and not end.is_penalty for end in channel.contest_spends)
    if any(taken.missed for taken in gone) and not stays:
        events += clear_alert(channel, AlertKind.OUTPUT_CLAIMED_BY_COUNTERPARTY, block.height, now)
    return events


def matured(channel: Channel, tip: int, now: int, keeps_open: Callable[[], bool] = lambda: False) -> list[Payload]:
    """Soft-final at 6 confirmations, resolved at 100 (or later: a comparison, never an equality).

    `keeps_open` says whether something besides the final transaction still has to be watched; it is asked only then.
    """
    end = final_transaction(channel)
    if end is None or channel.resolved is not None:
        return []
    txid, block, outcome = end
    events: list[Payload] = []
    if channel.soft_final != txid and is_soft_final(block.height, tip):
        events.append(SoftFinal(recorded_at=now, txid=txid, block=block, depth=depth(block.height, tip)))
    if is_final(block.height, tip) and not keeps_open():
        events.append(
            ChannelResolved(recorded_at=now, outcome=outcome, txid=txid, block=block, depth=depth(block.height, tip))
        )
    return events
