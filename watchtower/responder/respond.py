"""Level-triggered answers: what should be in the mempool now, and is it there?

Every run derives its work from the read models and the node's present mempool. Intent is durable before each
call; after a crash the same bytes go out again; no rejection deletes anything; one channel's failure does not
stop the others.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import TypeVar

import msgspec

from domain.chain import OutPoint
from domain.channel import Channel
from domain.events import BroadcastOutcome
from domain.fees import Market
from domain.punishing import breach_to_answer
from domain.settling import ReadySettlement
from watchtower.ports import Clock, EventStore, Failpoint, Keystore, Node, ReadModels, Rng
from watchtower.repository import Channels
from watchtower.responder.broadcast import Broadcaster
from watchtower.responder.claims import Claimant
from watchtower.responder.journal import Journal
from watchtower.responder.punish import ESTIMATE_TARGETS, Punisher, places_of
from watchtower.responder.resend import parcels_of
from watchtower.responder.runs import RespondReport, Run, Trouble, View
from watchtower.responder.settle import Settler, awaits_settlement

Item = TypeVar("Item")

BEFORE_CATCHING_UP = -1
"""Stands for the tip while none is known."""

UNKNOWN_MARKET = Market(1.0, 1.0, 1.0)
"""Until the node has told another one: the least that nodes relay, and no estimate."""

GROUP = 64
"""Breaches that share two commits and one request. More would let the most urgent ones wait for the signing of others;
fewer would make each pay more for what is shared."""


class Responder:
    """Serves contested channels, most urgent first. Called from the pass thread only."""

    def __init__(
        self,
        *,
        node: Node,
        store: EventStore,
        channels: Channels,
        models: ReadModels,
        keystore: Keystore,
        clock: Clock,
        rng: Rng,
        failpoint: Failpoint,
        spendable: float = 1.0,
    ) -> None:
        self._node = node
        self._channels = channels
        self._models = models
        self._market = UNKNOWN_MARKET
        self._broadcaster = Broadcaster(node, failpoint)
        self._journal = Journal(store, channels, models)
        self._settler = Settler(self._broadcaster, self._journal, clock)
        self._punisher = Punisher(
            node=node,
            keystore=keystore,
            clock=clock,
            rng=rng,
            failpoint=failpoint,
            broadcaster=self._broadcaster,
            journal=self._journal,
            spendable=spendable,
        )
        self._claimant = Claimant(
            node=node,
            channels=channels,
            models=models,
            keystore=keystore,
            clock=clock,
            rng=rng,
            failpoint=failpoint,
            broadcaster=self._broadcaster,
            journal=self._journal,
            spendable=spendable,
        )

    @property
    def sent(self) -> Container[bytes]:
        """Txids of what was sent lately; may be asked from any thread."""
        return self._broadcaster.sent

    def resend(self) -> None:
        """Send all stored bytes again at once, before catching up: the restart may be at the last moment.

        Penalties first, then settlements and claims. What fails here is reported by the first run of `respond`, which
        tries again; the owner's closes follow there, when the mempool has been looked at. Raises `NodeUnavailable`.
        """
        unreported = Run()
        for part in (0, 1):
            for group in _groups(self._models.contested()):
                parcels = []
                for stream in group:
                    with unreported.serving(stream):
                        parcels += parcels_of(self._channels.load(stream))[part]
                self._broadcaster.send_all(parcels, BEFORE_CATCHING_UP, unreported)

    def respond(self, tip: int) -> RespondReport:
        """One run over all contested channels. Raises `NodeUnavailable` when nothing can be asked at all.

        A log without space stops no penalty; one that is broken ends the run with `StoreBroken`.
        """
        run = Run()
        work = self._work(tip, run)
        if not work:
            return run.report()
        self._journal.begin()
        try:
            self._serve_all(work, tip, run)
        finally:
            self._journal.finish()
        run.troubles += [Trouble(stream, error) for stream, error in self._journal.refused.items()]
        return run.report()

    def _serve_all(self, work: Sequence[Channel], tip: int, run: Run) -> None:
        market, highest = self._asked(work, tip, run)
        breaches, others = _by_urgency(work)
        for group in _groups(breaches):
            with run.serving(*(channel.stream for channel in group)):
                places = [place for c in group if (breach := breach_to_answer(c)) for place in places_of(breach)]
                self._punisher.punish(group, View(tip, highest, market, self._node.mempool_spenders(places)), run)
        if others:
            self._serve_others(others, View(tip, highest, market, {}), run)

    def _asked(self, work: Sequence[Channel], tip: int, run: Run) -> tuple[Market, int]:
        """Market and highest header. If the node's answer is strange, bids go on from the last one that was not."""
        highest, streams = tip, [channel.stream for channel in work]
        with run.serving(*streams):
            self._market = self._node.fee_market(ESTIMATE_TARGETS)
        with run.serving(*streams):
            highest = self._highest(tip, work)
        return self._market, highest

    def _serve_others(self, others: Sequence[Channel], view: View, run: Run) -> None:
        """Honest closes; `view` without spenders."""
        places: list[OutPoint] = []
        known: list[Channel] = []
        for channel in others:
            with run.serving(channel.stream):
                places += self._outpoints(channel, view.tip)
                known.append(channel)
        with run.serving(*(channel.stream for channel in known)):
            view = msgspec.structs.replace(view, spenders=self._node.mempool_spenders(places))
            for channel in known:
                with run.serving(channel.stream):
                    self._serve(channel, view, run)

    def _work(self, tip: int, run: Run) -> list[Channel]:
        """Channels that want an answer now; one of which that cannot be said is in trouble, and nobody waits for it."""
        found: list[Channel] = []
        for stream in self._models.contested():
            with run.serving(stream):
                channel = self._channels.load(stream)
                found += [channel] if self._wants_answer(channel, tip) else []
        return found

    def _highest(self, tip: int, work: Sequence[Channel]) -> int:
        """Height that deadlines are counted from, if there are any.

        A cursor that stands still, for example at a block that cannot be read, must not stop the clock.
        """
        if all(channel.confirmed_spend is None for channel in work):
            return tip
        return max(tip, self._node.chain_info().headers)

    def _serve(self, channel: Channel, view: View, run: Run) -> None:
        """What an honest close asks for."""
        unpaid: ReadySettlement | None = None
        if awaits_settlement(channel):
            channel, unpaid = self._settler.settle(channel, view, run)
        channel, is_paid = self._claimant.claim(channel, view, run, unpaid)
        if unpaid is not None:
            outcome = BroadcastOutcome.ACCEPTED if is_paid else BroadcastOutcome.BELOW_MINIMUM
            self._settler.note(channel, unpaid, outcome, view.tip)

    def _wants_answer(self, channel: Channel, tip: int) -> bool:
        if channel.resolved is not None:
            return False
        if breach_to_answer(channel) is not None:
            return True
        return awaits_settlement(channel) or self._claimant.has_work(channel, tip)

    def _outpoints(self, channel: Channel, tip: int) -> list[OutPoint]:
        spend = channel.confirmed_spend
        return [*([] if spend is None else places_of(spend)), *self._claimant.places(channel, tip)]


def _by_urgency(work: Sequence[Channel]) -> tuple[list[Channel], list[Channel]]:
    """Breaches, those without a bid first, and everything else; the order within each is that of `work`.

    No breach without an answer waits behind channels that have one, and none at all behind closes and claims.
    """
    unanswered: list[Channel] = []
    answered: list[Channel] = []
    others: list[Channel] = []
    for channel in work:
        breach = breach_to_answer(channel)
        kind = others if breach is None else answered if channel.bids_on(breach.txid) else unanswered
        kind.append(channel)
    return unanswered + answered, others


def _groups(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), GROUP):
        yield items[start : start + GROUP]
