"""Open breaches: how long there is, and what is being done."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from markupsafe import Markup

from domain.units import FINAL_DEPTH
from projections.channel_info import ChannelInfoRow
from projections.open_breaches import OpenBreachRow
from watchtower.gauges.scrape import stage
from watchtower.store.channel_list import channels_of
from watchtower.web import words
from watchtower.web.drawing import bar
from watchtower.web.sources import Sources
from watchtower.web.verdict import NEAR, Danger, Tone

SHOWN = 50
"""Breaches on the page, most urgent first; the rest is counted."""


class BreachView(msgspec.Struct, frozen=True):
    """One breach. Ids are texts in display order; `left` is blocks to the deadline, None while it has none.

    `countdown` and `doing` say in words what is left and what the tower does; `step` is how far the answer is.
    """

    channel_id: str
    commit: str
    side: str
    sequence: int | None
    value: int
    height: int | None
    deadline: int | None
    left: int | None
    period: int
    tone: Tone
    countdown: str
    estimate: str
    doing: str
    bar: Markup
    penalty: str
    fee: int
    feerate: float
    bid: int
    penalty_height: int | None
    depth: int
    lost: str


def danger_of(breaches: Sequence[OpenBreachRow], tip: int) -> Danger:
    """What the breaches without a penalty in a block mean together."""
    open_ones = [breach for breach in breaches if is_unanswered(breach)]
    left = [breach.deadline - tip for breach in open_ones if breach.deadline is not None]
    blocked = sum(1 for breach in open_ones if stage(breach) == "blocked")
    return Danger(len(open_ones), min(left, default=None), blocked)


def is_unanswered(breach: OpenBreachRow) -> bool:
    """No transaction that decides it is in a block."""
    return breach.penalty_height is None and breach.lost_height is None


def breach_views(sources: Sources, breaches: Sequence[OpenBreachRow]) -> tuple[BreachView, ...]:
    """The most urgent ones: nearest deadline first, then those in the mempool, then those that are answered."""
    urgent = sorted(breaches, key=_urgency)[:SHOWN]
    infos = channels_of(sources.rows, sorted({breach.stream for breach in urgent}))
    tip, network = sources.tip(), sources.facts.network
    # A channel can leave the view between two questions: the next drawing has neither.
    return tuple(breach_view(breach, infos[breach.stream], tip, network) for breach in urgent if breach.stream in infos)


def _urgency(breach: OpenBreachRow) -> tuple[bool, bool, int, int]:
    deadline = breach.deadline
    return not is_unanswered(breach), deadline is None, deadline or 0, -breach.value


def breach_view(breach: OpenBreachRow, info: ChannelInfoRow, tip: int, network: str) -> BreachView:
    """A row as it is shown."""
    left = None if breach.deadline is None or not is_unanswered(breach) else breach.deadline - tip
    tone = _tone(breach, left)
    return BreachView(
        channel_id=info.channel_id.hex(),
        commit=words.txid_text(breach.commit_txid),
        side="" if breach.side is None else "AB"[breach.side],
        sequence=breach.sequence,
        value=breach.value,
        height=breach.height,
        deadline=breach.deadline,
        left=left,
        period=info.challenge_period,
        tone=tone,
        countdown=_countdown(breach, left),
        estimate=words.blocks_time(left, network) if left is not None and left > 0 else "",
        doing=_doing(breach, tip),
        bar=bar(max(0, left), info.challenge_period, tone) if left is not None else Markup(""),
        penalty=words.txid_text(breach.penalty_txid or breach.bid_txid or b""),
        fee=breach.bid_fee,
        feerate=breach.bid_feerate_kvb / 1000,
        bid=breach.bid_no,
        penalty_height=breach.penalty_height,
        depth=0 if breach.penalty_height is None else max(0, tip - breach.penalty_height + 1),
        lost="" if breach.lost_txid is None else words.txid_text(breach.lost_txid),
    )


def _tone(breach: OpenBreachRow, left: int | None) -> Tone:
    if breach.lost_height is not None:
        return "bad"
    if breach.penalty_height is not None:
        return "good"
    urgent = left is not None and left < NEAR
    return "bad" if urgent or stage(breach) == "blocked" else "watch"


def _countdown(breach: OpenBreachRow, left: int | None) -> str:
    if breach.lost_height is not None:
        return "lost"
    if breach.penalty_height is not None:
        return "answered"
    if left is None:
        return "not in a block yet"
    if left < 0:
        return "deadline passed"
    return f"{words.count(left, 'block')} left"


def _doing(breach: OpenBreachRow, tip: int) -> str:
    """What the tower does about it, in a sentence."""
    if breach.lost_height is not None:
        return f"The counterparty's settlement is in block {breach.lost_height}; only a reorganization can undo it."
    if breach.penalty_height is not None:
        depth = max(0, tip - breach.penalty_height + 1)
        return f"The penalty is in a block, {depth} of {FINAL_DEPTH} deep. It is guarded until then."
    if stage(breach) == "detected":
        return "Seen and stored. The penalty is being prepared, or waits for the commitment to be in a block."
    if stage(breach) == "blocked":
        return "A penalty is signed, but the node has not taken it. The tower tries again with each pass."
    return "The penalty is in the mempool and waits for a block. The tower raises its fee as the deadline comes nearer."
