"""Channels whose funding outpoint is or was spent and that are not resolved: what still needs attention.

A spend that left mempool and chain again is kept here: its captured bytes may be sent once more, and it may return.
So is a cooperative close that is complete and has not been seen yet: it is sent until it is in a block.
"""

from __future__ import annotations

import msgspec

from domain.deadlines import deadline, settle_valid_from
from domain.events import SpendKind
from domain.status import HONEST_KINDS
from projections.facts import ChannelFacts
from projections.tables import Row, Table, as_row


class ClosingRow(msgspec.Struct, frozen=True):
    """One closing channel. `kind` is 0 while the known spend is in neither mempool nor block.

    `valid_from` is the first height of a block that may hold the settlement of an honest close; `final_*` name
    the transaction that ends the channel and its block, `soft_final` is 1 from its sixth confirmation.
    """

    stream: str
    kind: int
    commit_txid: bytes | None
    height: int | None
    deadline: int | None
    value: int
    valid_from: int | None
    settle_txid: bytes | None
    settle_accepted: int
    final_txid: bytes | None
    final_height: int | None
    soft_final: int


TABLE = Table("closings", ClosingRow, indexes=(("deadline",), ("valid_from",), ("final_height",)))


def rows(stream: str, facts: ChannelFacts) -> list[Row]:
    """The row of a closing channel, or none."""
    if facts.resolved is not None or not (facts.spends or facts.double_spend or facts.close_complete):
        return []
    spend, final = facts.present_spend, facts.final
    block = spend.block if spend is not None else None
    honest = spend is not None and spend.kind in HONEST_KINDS and block is not None
    prepared = facts.settlement_of(spend.txid) if spend is not None else None
    period = facts.terms.challenge_period
    row = ClosingRow(
        stream=stream,
        kind=0 if spend is None else spend.kind,
        commit_txid=None if spend is None else spend.txid,
        height=None if block is None else block.height,
        deadline=_deadline(facts),
        value=facts.terms.contest_value,
        valid_from=settle_valid_from(block.height, period) if honest and block is not None else None,
        settle_txid=None if prepared is None else prepared.txid,
        settle_accepted=prepared is not None and prepared.accepted,
        final_txid=None if final is None else final.txid,
        final_height=None if final is None else final.block.height,
        soft_final=facts.soft_final is not None,
    )
    return [as_row(row)]


def _deadline(facts: ChannelFacts) -> int | None:
    """Deadline of the confirmed breach that is not answered yet."""
    spend = facts.present_spend
    if spend is None or spend.kind is not SpendKind.BREACH or spend.block is None:
        return None
    return deadline(spend.block.height, facts.terms.challenge_period)
