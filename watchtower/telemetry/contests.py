"""Counters of spends, breaches and money: each fact once, whatever is seen again, reorganized or read after a restart.

What was counted is remembered for every channel that has a spend and is not resolved. At a start that memory comes from
the read models, so the new process goes on where the old one ended, and does not begin to count again.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from domain.events import (
    BidMethod,
    BreachDetected,
    BroadcastOutcome,
    ChannelResolved,
    Payload,
    PenaltyBroadcast,
    PenaltyConfirmed,
    PenaltyPrepared,
    PenaltyRefused,
    ResolvedAs,
    SettleConfirmed,
    SoftFinal,
    Source,
    SpendConfirmed,
    SpendDisconnected,
    SpendKind,
    SpendSeen,
)
from projections.facts import ChannelFacts, SpendFacts
from watchtower.telemetry.metrics import Metrics

_SOURCES = {Source.CATCH_UP: "catch_up", Source.MEMPOOL: "mempool"}
_REFUSALS = {BroadcastOutcome.UNKNOWN: "rpc_error", BroadcastOutcome.BELOW_MINIMUM: "insufficient_fee"}
"""Outcomes whose label is not their own name."""

_RESULTS = {ResolvedAs.PUNISHED: "penalty_confirmed", ResolvedAs.LOST: "counterparty_won"}
_BIDS = {BidMethod.LADDER: "ladder"}


class _Seen(msgspec.Struct):
    """A spend that was counted. `clock` (Unix microseconds) is the start of an answer that has not come yet."""

    is_breach: bool = False
    was_mined: bool = False
    height: int | None = None
    clock: int | None = None


class _Swept(msgspec.Struct, frozen=True):
    """A penalty in a block."""

    commit: bytes
    height: int
    fee: int
    value: int


class _Contest(msgspec.Struct):
    """What is remembered of one channel: spends, bids (txid -> commitment), penalties, ends that stand in sums."""

    spends: dict[bytes, _Seen]
    bids: dict[bytes, bytes]
    swept: dict[bytes, _Swept]
    counted: set[bytes]


class Contests:
    """Told of each event behind the commit; called from one thread."""

    def __init__(self, metrics: Metrics, known: Iterable[tuple[str, ChannelFacts]] = ()) -> None:
        """`known` are the channels with a spend that are not resolved, as the read models say."""
        self._metrics = metrics
        self._silent = False
        self._contests = {stream: _remembered(facts) for stream, facts in known}

    def remember(self, stream: str, payload: Payload) -> None:
        """An event that an earlier process was told of: nothing is counted."""
        self._silent = True
        try:
            self.tell(stream, payload, 0.0)
        finally:
            self._silent = False

    def breach_of(self, stream: str, payload: Payload) -> bytes | None:
        """Txid of the revoked commitment that an event of this channel is about; None if it is about no breach."""
        contest = self._contests.get(stream)
        if contest is None:
            return None
        txid = getattr(payload, "txid", None)
        named = (getattr(payload, "commit_txid", None), contest.bids.get(txid) if txid else None, txid)
        return next((one for one in named if one in contest.spends and contest.spends[one].is_breach), None)

    def tell(self, stream: str, payload: Payload, durable_at: float) -> None:
        """Count one event of a channel, which is durable since `durable_at` (Unix seconds)."""
        match payload:
            case SpendSeen() | SpendConfirmed() | SpendDisconnected():
                self._spend(self._of(stream), payload)
            case BreachDetected():
                self._breach(self._of(stream), payload, durable_at)
            case PenaltyPrepared() | PenaltyBroadcast() | PenaltyRefused():
                self._bid(self._of(stream), payload)
            case PenaltyConfirmed():
                self._penalty(self._of(stream), payload)
            case SettleConfirmed(revoked=True):
                self._loss(self._of(stream), payload)
            case SoftFinal():
                self._soft_final(self._of(stream), payload)
            case ChannelResolved():
                self._resolved(self._contests.pop(stream, None), payload)

    def _of(self, stream: str) -> _Contest:
        return self._contests.setdefault(stream, _Contest({}, {}, {}, set()))

    def _spend(self, contest: _Contest, event: SpendSeen | SpendConfirmed | SpendDisconnected) -> None:
        """A spend counts once, whether it was seen in the mempool first or not, and not again after a reorg."""
        if event.txid not in contest.spends:
            contest.spends[event.txid] = _Seen()
            if not isinstance(event, SpendDisconnected) and event.kind is not SpendKind.UNKNOWN:
                self._count("funding_spends_total", event.kind.name.lower())
        seen = contest.spends[event.txid]
        seen.height = event.block.height if isinstance(event, SpendConfirmed) else None
        seen.was_mined |= seen.height is not None

    def _breach(self, contest: _Contest, event: BreachDetected, durable_at: float) -> None:
        """A breach counts where it was seen first. What nobody bid on in the mempool is answered from its block on."""
        seen = contest.spends.setdefault(event.txid, _Seen())
        if not seen.is_breach:
            seen.is_breach, seen.clock = True, event.recorded_at
            source = _SOURCES.get(event.source, "block")
            self._count("breaches_detected_total", source)
            self._observe("breach_detection_delay_seconds", source, value=durable_at - event.recorded_at / 1e6)
        elif event.block is not None and seen.clock is not None and event.txid not in contest.bids.values():
            seen.clock = event.recorded_at

    def _bid(self, contest: _Contest, event: PenaltyPrepared | PenaltyBroadcast | PenaltyRefused) -> None:
        match event:
            case PenaltyPrepared():
                contest.bids[event.txid] = event.commit_txid
                if event.bid_no > 1:
                    self._count("penalty_fee_bumps_total", _BIDS.get(event.method, "resign"))
            case PenaltyBroadcast():
                self._count("penalty_broadcasts_total", event.outcome.name.lower())
                self._answered(contest, contest.bids.get(event.txid), event.recorded_at)
            case PenaltyRefused():
                self._count("penalty_broadcasts_total", _REFUSALS.get(event.outcome, event.outcome.name.lower()))

    def _answered(self, contest: _Contest, commit: bytes | None, at: int) -> None:
        """The answer clock of a commitment stops at the first penalty that a node has."""
        seen = None if commit is None else contest.spends.get(commit)
        if seen is not None and seen.clock is not None:
            self._observe("breach_response_seconds", value=(at - seen.clock) / 1e6)
            seen.clock = None

    def _penalty(self, contest: _Contest, event: PenaltyConfirmed) -> None:
        contest.swept[event.txid] = _Swept(event.commit_txid, event.block.height, event.fee, event.swept)
        self._answered(contest, event.commit_txid, event.recorded_at)

    def _loss(self, contest: _Contest, event: SettleConfirmed) -> None:
        """Counted at the first confirmation: an early warning is worth more than exactness."""
        if event.commit_txid in contest.spends:
            contest.spends[event.commit_txid].clock = None
        if event.txid not in contest.counted:
            contest.counted.add(event.txid)
            self._count("penalty_lost_sats_total", by=event.value)

    def _soft_final(self, contest: _Contest, event: SoftFinal) -> None:
        """Money that came back counts when its penalty is 6 deep, which a reorg hardly undoes; once even then."""
        swept = contest.swept.get(event.txid)
        if swept is None or event.txid in contest.counted:
            return
        contest.counted.add(event.txid)
        self._count("penalty_recovered_sats_total", by=swept.value)
        self._count("penalty_fees_paid_sats_total", by=swept.fee)
        began = contest.spends.get(swept.commit, _Seen()).height
        if began is not None:
            self._observe("breach_resolution_blocks", value=swept.height - began)

    def _resolved(self, contest: _Contest | None, event: ChannelResolved) -> None:
        breaches = [] if contest is None else [seen for seen in contest.spends.values() if seen.is_breach]
        if not breaches:
            return
        undone = event.outcome is ResolvedAs.DOUBLE_SPENT or any(seen.was_mined for seen in breaches)
        self._count("breaches_resolved_total", _RESULTS.get(event.outcome, "reorged_out" if undone else "honest_close"))

    def _count(self, name: str, *labels: str, by: int = 1) -> None:
        if not self._silent:
            self._metrics.count(name, *labels, by=by)

    def _observe(self, name: str, *labels: str, value: float) -> None:
        if not self._silent:
            self._metrics.observe(name, *labels, value=max(0.0, value))


def _remembered(facts: ChannelFacts) -> _Contest:
    ends = [end for end in facts.ends if end.is_penalty]
    return _Contest(
        spends={spend.txid: _seen(facts, spend) for spend in facts.spends},
        bids={bid.txid: bid.commit_txid for bid in facts.bids},
        swept={end.txid: _Swept(end.commit_txid, end.block.height, end.fee, end.value) for end in ends},
        counted=set(facts.counted),
    )


def _seen(facts: ChannelFacts, spend: SpendFacts) -> _Seen:
    is_breach = spend.kind is SpendKind.BREACH
    waits = is_breach and facts.standing_bid(spend.txid) is None and facts.end_of(spend.txid) is None
    height = None if spend.block is None else spend.block.height
    return _Seen(is_breach, spend.was_mined, height, spend.answer_from if waits else None)
