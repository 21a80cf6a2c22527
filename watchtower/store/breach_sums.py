"""What gauges say about open breaches, worked out by the database: there may be ten thousand of them in a storm."""

from __future__ import annotations

import msgspec

from projections.open_breaches import TABLE
from watchtower.store.views import SqliteRows

_STAGE = """CASE
    WHEN penalty_height IS NOT NULL THEN 'confirming'
    WHEN lost_height IS NOT NULL THEN 'blocked'
    WHEN sent_txid IS NOT NULL THEN 'broadcast'
    WHEN unarmed OR bid_no > 0 THEN 'blocked'
    ELSE 'detected' END"""
"""`projections.open_breaches.stage` in the words of the database; a test compares the two."""

_STAGES = f"SELECT {_STAGE}, count(*), sum(value) FROM {TABLE.name} GROUP BY 1"  # noqa: S608
_UNDECIDED = f"FROM {TABLE.name} WHERE penalty_height IS NULL AND lost_height IS NULL"
_EXTREMES = (
    "SELECT min(deadline), count(sent_txid), min(iif(sent_txid IS NULL, NULL, sent_feerate_kvb)), "
    f"max(iif(sent_txid IS NULL, NULL, 1.0 * sent_fee / max(value, 1))) {_UNDECIDED}"
)
_WITHOUT_BID = "sent_txid IS NULL AND bid_no = 0 AND height IS NULL AND NOT unarmed"
_OVERDUE = f"SELECT min(answer_from) {_UNDECIDED} AND sent_txid IS NULL AND NOT ({_WITHOUT_BID})"
_WAITING = f"SELECT stream, answer_from {_UNDECIDED} AND {_WITHOUT_BID}"


class BreachSums(msgspec.Struct, frozen=True):
    """Open breaches by stage, without the knowledge of which ones wait for a block.

    `value` in satoshi. Of those that are not decided in a block: the nearest deadline, how many penalties are sent, the
    lowest feerate (sat per 1000 vB) and the highest fee over value among them. `unanswered_from` (Unix microseconds)
    is the oldest start of an answer clock without a penalty at a node. `waiting` are breaches in the mempool without a
    bid, each with the start of its clock: detected a moment ago, or left to the block.
    """

    stages: dict[str, int]
    value: int
    deadline: int | None
    sent: int
    feerate_kvb: int | None
    fee_ratio: float | None
    unanswered_from: int | None
    waiting: dict[str, int]


def breach_sums(rows: SqliteRows) -> BreachSums:
    """Read everything in one transaction. Fails with `StoreError` kinds."""
    with rows.reading() as connection:
        connection.execute("BEGIN")
        try:
            stages = connection.execute(_STAGES).fetchall()
            deadline, sent, feerate, ratio = connection.execute(_EXTREMES).fetchone()
            (overdue,) = connection.execute(_OVERDUE).fetchone()
            waiting = connection.execute(_WAITING).fetchall()
        finally:
            connection.execute("ROLLBACK")
    return BreachSums(
        stages={row[0]: row[1] for row in stages},
        value=sum(row[2] for row in stages),
        deadline=deadline,
        sent=sent,
        feerate_kvb=feerate,
        fee_ratio=ratio,
        unanswered_from=overdue,
        waiting={row[0]: row[1] for row in waiting},
    )
