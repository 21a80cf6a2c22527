"""Answers to breaches, a group at a time: decide, make the intents durable, send, record what the node said.

A group costs two commits and one request however many channels it has, and each channel in it stands alone: what fails
in one is noted and stops no other. Only the penalties of the group are signed, so the most urgent go out first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from domain.chain import OutPoint, Txid, make_outpoint
from domain.channel import Bid, Channel, Spend
from domain.events import AlertKind, BroadcastOutcome, Payload, Via
from domain.punishing import (
    SKIPPED_BLOCKS,
    Price,
    Rival,
    breach_to_answer,
    penalty_answered,
    penalty_found,
    penalty_prepared,
    price,
    skipped_blocks,
)
from domain.spending import clear_alert, raise_alert
from watchtower.ports import Clock, Failpoint, Keystore, Node, Rng
from watchtower.responder.broadcast import Broadcaster, Parcel, Told
from watchtower.responder.journal import Journal, News
from watchtower.responder.runs import Run, View
from watchtower.responder.signing import Signed, Signer, Wish, signer_of

ESTIMATE_TARGETS = (1, 2, 3, 6)

RAISES_PER_RUN = 3
"""Bids on one contest output in one run: the first, and two more if the node asks for more than was known before."""

RAISED_AT_ONCE = frozenset({BroadcastOutcome.INSUFFICIENT_FEE, BroadcastOutcome.BELOW_MINIMUM})
"""Refusals that a higher bid answers; the next block would be late."""


class Case(msgspec.Struct, frozen=True):
    """One breach with the channel as it is now. `told` is the last answer in this run, `tried` the fee it was about.

    Without a `signer` only what was signed before can be sent.
    """

    channel: Channel
    breach: Spend
    signer: Signer | None
    told: BroadcastOutcome | None = None
    tried: int = 0

    @property
    def stream(self) -> str:
        """Names the channel."""
        return self.channel.stream


class Due(msgspec.Struct, frozen=True):
    """What to send for a case: new bytes that are signed and not durable yet, or None for the last bid again."""

    case: Case
    signed: Signed | None
    remaining: int | None

    @property
    def is_first(self) -> bool:
        """Whether nothing was bid on this output before."""
        return not self.case.channel.bids_on(self.case.breach.txid)


class Punisher:
    """Answers breaches. Called from the pass thread only."""

    def __init__(
        self,
        *,
        node: Node,
        keystore: Keystore,
        clock: Clock,
        rng: Rng,
        failpoint: Failpoint,
        broadcaster: Broadcaster,
        journal: Journal,
        spendable: float,
    ) -> None:
        self._node = node
        self._keystore = keystore
        self._clock = clock
        self._rng = rng
        self._failpoint = failpoint
        self._broadcaster = broadcaster
        self._journal = journal
        self._spendable = spendable

    def punish(self, channels: Sequence[Channel], view: View, run: Run) -> None:
        """Do what is missing for one group of breaches; again for those that the node refuses for their fee."""
        cases = [case for channel in channels if (case := self._open(channel, view, run)) is not None]
        for number in range(RAISES_PER_RUN):
            if number:
                view = self._look_again(cases, view)
            due = [one for case in cases if (one := self._decide(case, view, run)) is not None]
            cases = self._send(self._make_durable(due), view, run)
            if not cases:
                return

    # --- decide -------------------------------------------------------------------------------------------------

    def _open(self, channel: Channel, view: View, run: Run) -> Case | None:
        """The case of a channel, or None if there is no breach to answer or nothing to answer it with."""
        breach, signer = breach_to_answer(channel), None
        if breach is None:
            return None
        with run.serving(channel.stream):
            signer = signer_of(channel, breach, self._keystore.get(channel.proposal_id), self._rng)
            if signer is None:
                run.deferred += 1
                kind = AlertKind.UNARMED_BREACH
                alert = raise_alert(channel, kind, breach.txid, breach.sequence, view.tip, self._now)
                channel = self._journal.record(channel, alert)
        return None if signer is None and not channel.bids_on(breach.txid) else Case(channel, breach, signer)

    def _decide(self, case: Case, view: View, run: Run) -> Due | None:
        """What to send for a case now, or None if all is in place. If that cannot be said: the last bid again."""
        due, last = None, _last_bid(case)
        if last is not None and view.spenders.get(case.breach.contest) != last.txid:
            due = Due(case, None, last.remaining)
        if case.signer is None:
            return None if case.tried else due
        with run.serving(case.stream):
            case = self._note_presence(case, view)
            wanted = price(
                case.channel,
                case.breach,
                tip=view.highest,
                market=view.market,
                rival=self._rival(case, view.spenders),
                spendable=self._spendable,
                refused=case.told is BroadcastOutcome.INSUFFICIENT_FEE,
            )
            case = self._note_standing(case, wanted, view)
            if wanted.fee is None:
                run.deferred += 1
                run.waiting.add(case.stream)
            due = self._next(case, wanted, view)
        return None if due is None or _fee_of(due) == case.tried else due

    def _next(self, case: Case, wanted: Price, view: View) -> Due | None:
        """A new bid, the last one again if it is absent, or None."""
        if wanted.fee is None:
            return None
        last = _last_bid(case)
        again = Due(case, None, wanted.remaining)
        if last is None:
            return self._sign(case, wanted.fee, wanted)
        present = view.spenders.get(case.breach.contest) == last.txid
        if present and wanted.remaining is not None and wanted.remaining == last.remaining:
            return None  # one bump per block is enough while our bid stands in the mempool
        fee = max(wanted.fee, last.fee + 1) if case.told is BroadcastOutcome.REJECTED else wanted.fee
        if fee <= last.fee:
            return None if present else again
        due = self._sign(case, fee, wanted)
        if due.signed is not None and due.signed.fee <= last.fee:  # the top of a ladder stands already
            return None if present else again
        return due

    def _sign(self, case: Case, fee: int, wanted: Price) -> Due:
        """Sign, after the last look at what may be paid in this block."""
        assert case.signer is not None  # `_decide` made sure
        limits = wanted.limits
        signed = case.signer.sign(Wish(fee, limits.lowest, limits.highest))
        return Due(case, signed, wanted.remaining)

    # --- make durable, send, record -----------------------------------------------------------------------------

    def _make_durable(self, due: Sequence[Due]) -> list[Case]:
        """The cases with their bids; those whose intent could not even be kept in memory wait for the next run."""
        fresh = [one for one in due if one.signed is not None]
        points = ["prepare_commit"] * any(one.is_first for one in fresh)
        points += ["bump_commit"] * any(not one.is_first for one in fresh)
        for name in points:
            self._failpoint(f"{name}:before")
        after = self._journal.record_all([self._intent(one) for one in fresh])
        for name in points:
            self._failpoint(f"{name}:after")
        durable: list[Case] = []
        for one in due:
            channel = one.case.channel if one.signed is None else after.get(one.case.stream)
            if channel is not None:
                durable.append(msgspec.structs.replace(one.case, channel=channel))
        return durable

    def _intent(self, due: Due) -> News:
        signed, case = due.signed, due.case
        assert signed is not None  # only new bytes are an intent
        prepared = penalty_prepared(
            case.channel,
            case.breach,
            txid=signed.tx.txid,
            raw=signed.tx.serialize(),
            fee=signed.fee,
            left=due.remaining,
            now=self._now,
            rung=signed.rung,
        )
        return case.channel, prepared

    def _send(self, cases: Sequence[Case], view: View, run: Run) -> list[Case]:
        """Send the newest bid of each; returns those that a higher one may help at once."""
        parcels = [_parcel_of(case) for case in cases]
        told = self._broadcaster.send_all(parcels, view.tip, run)
        answered = [case for case in cases if case.stream in told]
        for case in answered:
            run.count(told[case.stream][0])
        self._failpoint("broadcast_result_commit:before")
        after = self._journal.record_all([self._news(case, told[case.stream], view.tip) for case in answered])
        self._failpoint("broadcast_result_commit:after")
        refused: list[Case] = []
        for case in answered:
            outcome = told[case.stream][0].outcome
            if (channel := after.get(case.stream)) is not None and _may_be_raised(case, outcome):
                again = msgspec.structs.replace(case, channel=channel, told=outcome, tried=_bid_of(case).fee)
                refused.append(again)
        return refused

    def _news(self, case: Case, told: Told, tip: int) -> News:
        (answer, via), bid = told, _bid_of(case)
        news = penalty_answered(bid, answer.outcome, via, answer.code, answer.text, tip, self._now)
        kind = AlertKind.PENALTY_REFUSED
        if answer.outcome is BroadcastOutcome.REJECTED:
            news += raise_alert(case.channel, kind, bid.txid, case.breach.sequence, tip, self._now)
        elif answer.in_mempool:
            news += clear_alert(case.channel, kind, tip, self._now)
        return case.channel, news

    # --- look ---------------------------------------------------------------------------------------------------

    def _look_again(self, cases: Sequence[Case], view: View) -> View:
        """Somebody bids higher than we knew, or the minimum rose: who, and how far?"""
        places = [place for case in cases for place in places_of(case.breach)]
        market = view.market
        if any(case.told is BroadcastOutcome.BELOW_MINIMUM for case in cases):
            market = self._node.fee_market(ESTIMATE_TARGETS)
        return msgspec.structs.replace(view, market=market, spenders=self._node.mempool_spenders(places))

    def _note_presence(self, case: Case, view: View) -> Case:
        """Record our penalty that stands in the mempool although the log does not say so.

        The process ended before it was written, the log was full, this log is an older copy, or a second tower of the
        same owner was faster.
        """
        channel, breach, spender = case.channel, case.breach, view.spenders.get(case.breach.contest)
        if spender is None:
            return case
        if all(spender != bid.txid for bid in channel.bids_on(breach.txid)):
            raw = self._node.mempool_transaction(spender)
            found = [] if raw is None else penalty_found(channel, breach, raw, self._now)
            channel = self._journal.record(channel, found)
        bid = next((b for b in channel.bids_on(breach.txid) if b.txid == spender), None)
        if bid is not None:
            known = penalty_answered(bid, BroadcastOutcome.ALREADY_KNOWN, Via.UNKNOWN, 0, "", view.tip, self._now)
            channel = self._journal.record(channel, known)
        return msgspec.structs.replace(case, channel=channel)

    def _rival(self, case: Case, spenders: Mapping[OutPoint, Txid]) -> Rival | None:
        """Whom we have to outbid: a foreign spend of the contest output, or the cheater's anchor child."""
        breach = case.breach
        ours = [b.txid for b in case.channel.bids_on(breach.txid)]
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

    def _note_standing(self, case: Case, wanted: Price, view: View) -> Case:
        """Alerts about an armed breach: a key is there, the value pays, miners take it, the ladder is long enough."""
        channel, breach = case.channel, case.breach
        present = view.spenders.get(breach.contest) in [b.txid for b in channel.bids_on(breach.txid)]
        left = wanted.remaining
        skipped = present and left is not None and skipped_blocks(channel, breach, left, view.market) >= SKIPPED_BLOCKS
        top, asked = None if case.signer is None else case.signer.top, wanted.fee or 0
        news: list[Payload] = clear_alert(channel, AlertKind.UNARMED_BREACH, view.tip, self._now)
        for kind, holds in (
            (AlertKind.UNECONOMICAL_TO_PUNISH, wanted.uneconomical),
            (AlertKind.PENALTY_SKIPPED, skipped),
            (AlertKind.LADDER_TOO_SHORT, top is not None and asked > top),
        ):
            if holds:
                news += raise_alert(channel, kind, breach.txid, breach.sequence, view.tip, self._now)
            else:
                news += clear_alert(channel, kind, view.tip, self._now)
        return msgspec.structs.replace(case, channel=self._journal.record(channel, news))

    @property
    def _now(self) -> int:
        return self._clock.wall_microseconds()


def places_of(breach: Spend) -> list[OutPoint]:
    """Where rivals of our answer show: the contest output, and the anchor while its child can still be paid for."""
    return [breach.contest] if breach.block is not None else [breach.contest, _anchor(breach)]


def _anchor(breach: Spend) -> OutPoint:
    return make_outpoint(breach.txid, 1)


def _last_bid(case: Case) -> Bid | None:
    bids = case.channel.bids_on(case.breach.txid)
    return bids[-1] if bids else None


def _bid_of(case: Case) -> Bid:
    last = _last_bid(case)
    assert last is not None  # what is sent was recorded before, at least in memory
    return last


def _parcel_of(case: Case) -> Parcel:
    bid = _bid_of(case)
    return Parcel(case.stream, bid.txid, bid.raw, case.breach.raw)


def _fee_of(due: Due) -> int:
    return _bid_of(due.case).fee if due.signed is None else due.signed.fee


def _may_be_raised(case: Case, outcome: BroadcastOutcome) -> bool:
    """A bid that is too low, or a rung of a ladder that the node does not take: then the next one."""
    return outcome in RAISED_AT_ONCE or (outcome is BroadcastOutcome.REJECTED and _bid_of(case).is_rung)
