"""Breaches that stand: in the mempool or on the active chain, and not final. What the responder acts on."""

from __future__ import annotations

import msgspec

from domain.deadlines import deadline
from domain.events import AlertKind, SpendKind
from projections.facts import ChannelFacts, SpendFacts
from projections.tables import Row, Table, as_row


class OpenBreachRow(msgspec.Struct, frozen=True):
    """One contested output. `height` (h_c) and `deadline` are None while the commitment is unconfirmed.

    `value` in satoshi, `feerate_kvb` in sat per 1000 vB, `accepted` 1 once a node held the latest bid. With
    `penalty_height` the penalty is in a block, with `lost_height` a settlement of the stale state is.

    `answer_from` (Unix microseconds) is the start of the answer clock. `sent_txid` is the latest bid that a node held,
    with its fee and feerate. `unarmed` is 1 while no penalty can be built, or none that pays for itself.
    """

    stream: str
    commit_txid: bytes
    side: int | None
    sequence: int | None
    contest: bytes
    value: int
    spk: bytes
    height: int | None
    block_hash: bytes | None
    deadline: int | None
    bid_no: int
    bid_txid: bytes | None
    bid_fee: int
    bid_feerate_kvb: int
    accepted: int
    penalty_txid: bytes | None
    penalty_height: int | None
    penalty_hash: bytes | None
    lost_txid: bytes | None
    lost_height: int | None
    answer_from: int
    sent_txid: bytes | None
    sent_fee: int
    sent_feerate_kvb: int
    unarmed: int


_UNARMED = frozenset({AlertKind.UNARMED_BREACH, AlertKind.UNECONOMICAL_TO_PUNISH})

TABLE = Table("open_breaches", OpenBreachRow, key=2, indexes=(("deadline", "value"),))


def rows(stream: str, facts: ChannelFacts) -> list[Row]:
    """The breaches of a channel; none once it is resolved or the spend is gone."""
    if facts.resolved is not None:
        return []
    breaches = (s for s in facts.spends if s.kind is SpendKind.BREACH and s.is_present)
    return [_row(stream, facts, breach) for breach in breaches]


def _row(stream: str, facts: ChannelFacts, breach: SpendFacts) -> Row:
    block, bid, end = breach.block, facts.last_bid(breach.txid), facts.end_of(breach.txid)
    penalty = end if end is not None and end.is_penalty else None
    lost = end if end is not None and not end.is_penalty else None
    sent = facts.standing_bid(breach.txid)
    row = OpenBreachRow(
        stream=stream,
        commit_txid=breach.txid,
        side=breach.side,
        sequence=breach.sequence,
        contest=breach.contest,
        value=breach.contest_value or facts.terms.contest_value,
        spk=breach.contest_spk,
        height=None if block is None else block.height,
        block_hash=None if block is None else block.hash,
        deadline=None if block is None else deadline(block.height, facts.terms.challenge_period),
        bid_no=0 if bid is None else bid.number,
        bid_txid=None if bid is None else bid.txid,
        bid_fee=0 if bid is None else bid.fee,
        bid_feerate_kvb=0 if bid is None else bid.feerate_kvb,
        accepted=bid is not None and bid.accepted,
        penalty_txid=None if penalty is None else penalty.txid,
        penalty_height=None if penalty is None else penalty.block.height,
        penalty_hash=None if penalty is None else penalty.block.hash,
        lost_txid=None if lost is None else lost.txid,
        lost_height=None if lost is None else lost.block.height,
        answer_from=breach.answer_from,
        sent_txid=None if sent is None else sent.txid,
        sent_fee=0 if sent is None else sent.fee,
        sent_feerate_kvb=0 if sent is None else sent.feerate_kvb,
        unarmed=not _UNARMED.isdisjoint(facts.alerts),
    )
    return as_row(row)


def stage(breach: OpenBreachRow) -> str:
    """How far the answer to a breach is. Blocked: a bid that no node holds, none that can be made, a settled breach."""
    if breach.penalty_height is not None:
        return "confirming"
    if breach.lost_height is not None:
        return "blocked"
    if breach.sent_txid is not None:
        return "broadcast"
    return "blocked" if breach.unarmed or breach.bid_no > 0 else "detected"
