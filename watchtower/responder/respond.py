"""Level-triggered answers: what should be in the mempool now, and is it there?

Every run derives its work from the read models and the node's present mempool. Intent is durable before each
call; after a crash the same bytes go out again; no rejection deletes anything; one channel's failure does not
stop the others.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from domain.chain import OutPoint, Txid, make_outpoint
from domain.channel import Bid, Channel, Spend
from domain.errors import DomainError
from domain.events import AlertKind, BroadcastOutcome, SpendKind, Via
from domain.punishing import Price, Rival, penalty_answered, penalty_found, penalty_prepared, price
from domain.settling import ReadySettlement
from domain.spending import clear_alert, raise_alert
from watchtower.ports import (
    Answer,
    Clock,
    EventStore,
    Failpoint,
    Keystore,
    Node,
    NodeUnavailable,
    ReadModels,
    Rng,
    StoreBroken,
    WatchtowerError,
)
from watchtower.repository import Channels
from watchtower.responder.broadcast import Broadcaster
from watchtower.responder.claims import Claimant
from watchtower.responder.journal import Journal
from watchtower.responder.runs import RespondReport, Run, Trouble, View
from watchtower.responder.settle import Settler, awaits_settlement
from watchtower.responder.signing import Signed, Signer, signer_of

ESTIMATE_TARGETS = (1, 2, 3, 6)
RAISES_PER_RUN = 3
"""Bids on one contest output in one run: the first, and two more if a rival's exact fee was not known before."""


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
        self._keystore = keystore
        self._clock = clock
        self._rng = rng
        self._failpoint = failpoint
        self._spendable = spendable
        self._broadcaster = Broadcaster(node, failpoint)
        self._journal = Journal(store, channels, models)
        self._settler = Settler(self._broadcaster, self._journal, clock)
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
        """Send every stored penalty again at once, before catching up: the restart may be at the last moment.

        What fails here is reported by the first run of `respond`, which tries again. Raises `NodeUnavailable`.
        """
        for stream in self._models.contested():
            try:
                channel = self._channels.load(stream)
                breach = _breach_to_answer(channel)
                bids = channel.bids_on(breach.txid) if breach else ()
                if breach is not None and bids:
                    self._broadcaster.send(bids[-1].raw, breach.raw)
            except (NodeUnavailable, StoreBroken):
                raise
            except (DomainError, WatchtowerError):
                continue

    def respond(self, tip: int) -> RespondReport:
        """One run over all contested channels. Raises `NodeUnavailable` when nothing can be asked at all.

        A log without space stops no penalty; one that is broken ends the run with `StoreBroken`.
        """
        run = Run()
        work = self._work(tip, run)
        if not work:
            return run.report()
        market, highest = self._node.fee_market(ESTIMATE_TARGETS), self._highest(tip, work)
        self._journal.begin()
        # No breach without an answer waits behind channels that have one, and none at all behind closes and claims.
        for group in _by_urgency(work):
            spenders = self._node.mempool_spenders(self._outpoints(group, tip)) if group else {}
            self._serve_all(group, View(tip, highest, market, spenders), run)
        run.troubles += [Trouble(stream, error) for stream, error in self._journal.refused.items()]
        return run.report()

    def _work(self, tip: int, run: Run) -> list[Channel]:
        """Channels that want an answer now; one of which that cannot be said is in trouble, and nobody waits for it."""
        found: list[Channel] = []
        for stream in self._models.contested():
            try:
                channel = self._channels.load(stream)
                found += [channel] if self._wants_answer(channel, tip) else []
            except StoreBroken:
                raise
            except (DomainError, WatchtowerError) as error:
                run.troubles.append(Trouble(stream, error))
        return found

    def _serve_all(self, channels: Iterable[Channel], view: View, run: Run) -> None:
        for channel in channels:
            try:
                self._serve(channel, view, run)
            except (NodeUnavailable, StoreBroken):
                raise
            except (DomainError, WatchtowerError) as error:
                run.troubles.append(Trouble(channel.stream, error))

    def _highest(self, tip: int, work: Sequence[Channel]) -> int:
        """Height that deadlines are counted from, if there are any.

        A cursor that stands still, for example at a block that cannot be read, must not stop the clock.
        """
        if all(channel.confirmed_spend is None for channel in work):
            return tip
        return max(tip, self._node.chain_info().headers)

    def _serve(self, channel: Channel, view: View, run: Run) -> None:
        breach = _breach_to_answer(channel)
        if breach is not None:
            self._punish(channel, breach, view, run)
            return
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
        if _breach_to_answer(channel) is not None:
            return True
        return awaits_settlement(channel) or self._claimant.has_work(channel, tip)

    def _outpoints(self, work: Sequence[Channel], tip: int) -> list[OutPoint]:
        spends = [_breach_to_answer(c) or c.confirmed_spend for c in work]
        found = [place for spend in spends if spend is not None for place in _places(spend)]
        return found + [place for channel in work for place in self._claimant.places(channel, tip)]

    # --- breaches -----------------------------------------------------------------------------------------

    def _punish(self, channel: Channel, breach: Spend, view: View, run: Run) -> None:
        signer = signer_of(channel, breach, self._keystore.get(channel.proposal_id), self._rng)
        if signer is None:
            run.deferred += 1
            alert = raise_alert(channel, AlertKind.UNARMED_BREACH, breach.txid, breach.sequence, view.tip, self._now)
            self._journal.record(channel, alert)
            return
        spenders, tried = view.spenders, 0
        channel = self._note_presence(channel, breach, spenders.get(breach.contest), view.tip)
        for _ in range(RAISES_PER_RUN):
            spender = spenders.get(breach.contest)
            wanted = price(
                channel,
                breach,
                tip=view.highest,
                market=view.market,
                rival=self._rival(channel, breach, spenders),
                spendable=self._spendable,
            )
            channel = self._note_standing(channel, breach, wanted, view.tip)
            due = self._next_bid(channel, breach, wanted, spender, signer)
            run.deferred += wanted.fee is None
            if due is None or due[1].fee == tried:
                return
            tried = due[1].fee
            channel, answer = self._send(*due, breach, view.tip)
            run.count(answer)
            if answer.outcome is not BroadcastOutcome.INSUFFICIENT_FEE:
                return
            # Somebody else bids higher than we knew: look again at who spends the output, and raise.
            spenders = self._node.mempool_spenders(_places(breach))

    def _next_bid(
        self, channel: Channel, breach: Spend, wanted: Price, spender: bytes | None, signer: Signer
    ) -> tuple[Channel, Bid] | None:
        """The bid to send now: a new one, the last one again if it is absent, or None if all is in place."""
        bids = channel.bids_on(breach.txid)
        if wanted.fee is None:
            return None
        last = bids[-1] if bids else None
        present = last is not None and spender == last.txid
        if present and last is not None and wanted.remaining is not None and wanted.remaining == last.remaining:
            return None  # one bump per block is enough while our bid stands in the mempool
        if last is not None and wanted.fee <= last.fee:
            return None if present else (channel, last)
        signed = signer(wanted.fee)
        if last is not None and signed.fee <= last.fee:  # the top of a ladder stands already
            return None if present else (channel, last)
        return self._prepare(channel, breach, signed, wanted.remaining)

    def _prepare(self, channel: Channel, breach: Spend, signed: Signed, left: int | None) -> tuple[Channel, Bid]:
        """Make the intent durable, before anybody hears of it."""
        prepared = penalty_prepared(
            channel,
            breach,
            txid=signed.tx.txid,
            raw=signed.tx.serialize(),
            fee=signed.fee,
            left=left,
            now=self._now,
            rung=signed.rung,
        )
        self._failpoint("prepare_commit:before")
        channel = self._journal.record(channel, prepared)
        self._failpoint("prepare_commit:after")
        return channel, channel.bids_on(breach.txid)[-1]

    def _send(self, channel: Channel, bid: Bid, breach: Spend, tip: int) -> tuple[Channel, Answer]:
        answer, via = self._broadcaster.send(bid.raw, breach.raw)
        answered = penalty_answered(bid, answer.outcome, via, answer.code, answer.text, tip, self._now)
        self._failpoint("broadcast_result_commit:before")
        channel = self._journal.record(channel, answered)
        self._failpoint("broadcast_result_commit:after")
        return channel, answer

    def _note_presence(self, channel: Channel, breach: Spend, spender: bytes | None, tip: int) -> Channel:
        """Record our penalty that stands in the mempool although the log does not say so.

        The process ended before it was written, the log was full, or this log is an older copy.
        """
        if spender is None:
            return channel
        if spender not in {b.txid for b in channel.bids_on(breach.txid)}:
            raw = self._node.mempool_transaction(spender)
            found = [] if raw is None else penalty_found(channel, breach, raw, self._now)
            channel = self._journal.record(channel, found)
        bid = next((b for b in channel.bids_on(breach.txid) if b.txid == spender), None)
        if bid is None:
            return channel
        known = penalty_answered(bid, BroadcastOutcome.ALREADY_KNOWN, Via.UNKNOWN, 0, "", tip, self._now)
        return self._journal.record(channel, known)

    def _rival(self, channel: Channel, breach: Spend, spenders: Mapping[OutPoint, Txid]) -> Rival | None:
        """Whom we have to outbid: a foreign spend of the contest output, or the cheater's anchor child."""
        ours = {b.txid for b in channel.bids_on(breach.txid)}
        spender = spenders.get(breach.contest)
        if spender is not None and spender not in ours:
            return self._entry(spender)
        if breach.block is not None or spender in ours:
            return None
        child = spenders.get(_anchor(breach))
        return None if child is None else self._entry(child)

    def _entry(self, txid: bytes) -> Rival | None:
        entry = self._node.mempool_entry(txid)
        return None if entry is None else Rival(entry.fee, entry.vsize)

    def _note_standing(self, channel: Channel, breach: Spend, wanted: Price, tip: int) -> Channel:
        """Alerts about an armed breach: the key is there (again), and whether the value pays for the penalty."""
        kind = AlertKind.UNECONOMICAL_TO_PUNISH
        news = clear_alert(channel, AlertKind.UNARMED_BREACH, tip, self._now)
        if wanted.uneconomical:
            news += raise_alert(channel, kind, breach.txid, breach.sequence, tip, self._now)
        else:
            news += clear_alert(channel, kind, tip, self._now)
        return self._journal.record(channel, news)

    @property
    def _now(self) -> int:
        return self._clock.wall_microseconds()


def _breach_to_answer(channel: Channel) -> Spend | None:
    """The breach that counts now and is not answered in a block.

    Without any present spend it is the last stale commitment that dropped out of sight (evicted, or lost in a
    reorg): its kept bytes are sent again together with the penalty. Nothing of it can ever confirm if the funding
    was double-spent.
    """
    if channel.double_spend is not None:
        return None
    spend = channel.present_spend
    if spend is None:
        spend = channel.spends[-1] if channel.spends else None
    if spend is None or spend.kind is not SpendKind.BREACH or channel.contest_spend(spend.txid) is not None:
        return None
    return spend


def _by_urgency(work: Sequence[Channel]) -> tuple[list[Channel], list[Channel], list[Channel]]:
    """Breaches without a bid, breaches with one, and everything else; the order within each is that of `work`."""
    unanswered: list[Channel] = []
    answered: list[Channel] = []
    others: list[Channel] = []
    for channel in work:
        breach = _breach_to_answer(channel)
        group = others if breach is None else answered if channel.bids_on(breach.txid) else unanswered
        group.append(channel)
    return unanswered, answered, others


def _places(spend: Spend) -> list[OutPoint]:
    """Where rivals of our answer show: the contest output, and the anchor while its child can still be paid for."""
    return [spend.contest] if spend.block is not None else [spend.contest, _anchor(spend)]


def _anchor(spend: Spend) -> OutPoint:
    return make_outpoint(spend.txid, 1)
