"""Settlements of honest closes: sent from the block before they become valid until a block has them."""

from __future__ import annotations

from domain.channel import Channel
from domain.deadlines import settle_valid_from
from domain.events import BroadcastOutcome
from domain.settling import (
    ReadySettlement,
    has_settlement,
    is_revoked_since,
    ready_settlement,
    settle_answered,
    settle_prepared,
    settlement_missing,
)
from domain.status import HONEST_KINDS
from watchtower.ports import Clock
from watchtower.responder.broadcast import Broadcaster, Parcel
from watchtower.responder.journal import Journal
from watchtower.responder.runs import Run, View


def awaits_settlement(channel: Channel) -> bool:
    """An honest close is in a block and its contest output is not spent in one."""
    close = channel.confirmed_spend
    if close is None or close.kind not in HONEST_KINDS or is_revoked_since(channel, close):
        return False
    return channel.contest_spend(close.txid) is None


class Settler:
    """Sends settlements. Called from the pass thread only."""

    def __init__(self, broadcaster: Broadcaster, journal: Journal, clock: Clock) -> None:
        self._broadcaster = broadcaster
        self._journal = journal
        self._clock = clock

    def settle(self, channel: Channel, view: View, run: Run) -> tuple[Channel, ReadySettlement | None]:
        """Send what is due. A settlement that is refused for its fee is given back: only a child can pay for it.

        Its answer is then recorded by `note`, once it is known whether a child does.
        """
        close = channel.confirmed_spend
        if close is None or close.block is None:
            return channel, None
        valid_from = settle_valid_from(close.block.height, channel.params.challenge_period)
        if view.tip < valid_from - 1 and has_settlement(channel, close):
            return channel, None  # too early; building it takes milliseconds, and many may be waiting
        ready = ready_settlement(channel, close)
        if ready is None:
            missing = settlement_missing(channel, close, view.tip, self._now)
            return self._journal.record(channel, missing), None
        spender = view.spenders.get(close.contest)
        if spender == ready.tx.txid:
            channel = self.note(channel, ready, BroadcastOutcome.ALREADY_KNOWN, view.tip)
        if spender is not None:
            return channel, None
        channel = self._journal.record(channel, settle_prepared(channel, ready, self._now))
        answer, _ = self._broadcaster.send(Parcel(channel.stream, ready.tx.txid, ready.tx.serialize()), view.tip)
        run.settled += answer.in_mempool
        run.outcomes.append(answer.outcome)
        if answer.outcome is BroadcastOutcome.BELOW_MINIMUM:
            return channel, ready
        return self.note(channel, ready, answer.outcome, view.tip), None

    def note(self, channel: Channel, ready: ReadySettlement, outcome: BroadcastOutcome, tip: int) -> Channel:
        """Record what the node said about a settlement."""
        return self._journal.record(channel, settle_answered(channel, ready, outcome, tip, self._now))

    @property
    def _now(self) -> int:
        return self._clock.wall_microseconds()
