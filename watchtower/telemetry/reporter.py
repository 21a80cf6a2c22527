"""Tells logs and metrics what the event log says: a follower of its own, behind the commit, never in its way.

It begins at the end of the log at start-up, so a restart does not count history again. Only public facts are told;
which fields are public is listed here, event by event.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from domain.chain import display, display_outpoint
from domain.events import (
    BreachDetected,
    BroadcastOutcome,
    ClaimConfirmed,
    Payload,
    PenaltyBroadcast,
    PenaltyPrepared,
    PenaltyRefused,
    PreimageLearned,
    Recorded,
    Source,
    SpendConfirmed,
    SpendKind,
    SpendSeen,
)
from watchtower.telemetry.events import snake_case
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.tasks import TaskReport

_log = structlog.get_logger(__name__)

PAGE = 500
REMEMBERED = 10_000
"""Open answers whose start is kept in memory for the response time."""

_NUMBERS = ("sequence", "fee", "deadline", "height", "remaining", "lock_time", "code", "bid_no")
_NAMES = ("kind", "source", "outcome", "via", "method", "reason", "side", "mode")
_LOUD = {
    "alert_raised",
    "audit_mismatch",
    "block_unavailable",
    "breach_detected",
    "channel_frozen",
    "equivocation_found",
    "funding_double_spent",
}
_QUIET = {"block_connected", "state_offered", "state_proposed", "state_accepted", "state_committed"}

_SOURCES = {Source.CATCH_UP: "catch_up", Source.MEMPOOL: "mempool"}
_REFUSALS = {BroadcastOutcome.UNKNOWN: "rpc_error", BroadcastOutcome.BELOW_MINIMUM: "insufficient_fee"}
"""Outcomes whose label is not their own name."""


class LogFollower(Protocol):
    """The part of the store that is read."""

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """Events behind `after_id`."""

    def last_id(self) -> int:
        """Highest committed notification id."""

    def wait_beyond(self, after_id: int, timeout: float) -> bool:
        """True as soon as there is an event behind `after_id`."""


class Reporter:
    """Reads the log behind the writers until `stop`."""

    def __init__(self, store: LogFollower, metrics: Metrics, on_end: Callable[[], None] = lambda: None) -> None:
        self._thread = threading.Thread(target=self.run, name="reporter", daemon=True)
        self.failure: BaseException | None = None
        self._store = store
        self._metrics = metrics
        self._on_end = on_end
        self._task = TaskReport(metrics, "reporter")
        self._position = store.last_id()
        self._stopping = threading.Event()
        self._answer_clocks: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        self._breaches: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._spends: OrderedDict[tuple[str, bytes], SpendKind] = OrderedDict()
        self._bids: OrderedDict[bytes, tuple[str, bytes]] = OrderedDict()
        metrics.set("event_store_notification_id", value=self._position)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def run(self) -> None:
        """The body of the thread."""
        try:
            with self._task.running():
                while not self._stopping.is_set():
                    self._store.wait_beyond(self._position, 0.5)
                    self.catch_up()
                    self._task.progressed()
        except BaseException as error:  # noqa: BLE001 - the border of the task: the process ends loudly
            self.failure = error
            _log.critical("task_ended", task="reporter", reason=type(error).__name__, exc_info=error)
        finally:
            self._on_end()

    def stop(self, timeout: float) -> bool:
        """End after the present page; False if it has not within `timeout` seconds."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def catch_up(self) -> None:
        """Tell of everything behind the position."""
        while page := self._store.read_log(self._position, PAGE):
            for recorded in page:
                self._tell(recorded)
            self._position = page[-1].id
            self._metrics.set("event_store_notification_id", value=self._position)

    def _tell(self, recorded: Recorded) -> None:
        payload = recorded.envelope.payload
        self._count(recorded.envelope.stream, payload)
        name = snake_case(type(payload).__name__)
        level = "critical" if name in _LOUD else "debug" if name in _QUIET else "info"
        facts = public_facts(payload)
        getattr(_log, level)(name, channel=recorded.envelope.stream, notification_id=recorded.id, **facts)

    def _count(self, stream: str, payload: Payload) -> None:
        count = self._metrics.count
        if isinstance(payload, SpendSeen | SpendConfirmed):
            self._count_spend((stream, payload.txid), payload.kind)
        elif isinstance(payload, BreachDetected):
            self._count_breach((stream, payload.txid), payload)
        elif isinstance(payload, PenaltyPrepared):
            self._remember(self._bids, payload.txid, (stream, payload.commit_txid))
            if payload.bid_no > 1:
                count("penalty_fee_bumps_total", "resign")
        elif isinstance(payload, PenaltyBroadcast):
            count("penalty_broadcasts_total", payload.outcome.name.lower())
            self._observe_answer(payload)
        elif isinstance(payload, PenaltyRefused):
            count("penalty_broadcasts_total", _REFUSALS.get(payload.outcome, payload.outcome.name.lower()))
        elif isinstance(payload, ClaimConfirmed):
            count("conditional_outputs_total", _taker(payload))
        elif isinstance(payload, PreimageLearned):
            count("preimages_learned_total", "upload" if payload.txid is None else "chain")

    def _count_spend(self, spend: tuple[str, bytes], kind: SpendKind) -> None:
        """A spend counts once, whether it was seen in the mempool first or not, and not again after a reorg."""
        if spend not in self._spends and kind is not SpendKind.UNKNOWN:
            self._metrics.count("funding_spends_total", kind.name.lower())
            self._remember(self._spends, spend, kind)

    def _count_breach(self, breach: tuple[str, bytes], payload: BreachDetected) -> None:
        """A breach counts where it was seen first; its confirmation neither counts again nor starts the clock again."""
        if breach not in self._breaches:
            self._metrics.count("breaches_detected_total", _SOURCES.get(payload.source, "block"))
            self._remember(self._breaches, breach, None)
            self._remember(self._answer_clocks, breach, payload.recorded_at)

    def _observe_answer(self, payload: PenaltyBroadcast) -> None:
        """First acceptance of a penalty for this commitment: the answer clock stops."""
        breach = self._bids.get(payload.txid)
        started = self._answer_clocks.pop(breach, None) if breach is not None else None
        if started is not None:
            self._metrics.observe("breach_response_seconds", value=max(0, payload.recorded_at - started) / 1e6)

    @staticmethod
    def _remember(kept: OrderedDict[Any, Any], key: Any, value: Any) -> None:
        kept[key] = value
        while len(kept) > REMEMBERED:
            kept.popitem(last=False)


def _taker(payload: ClaimConfirmed) -> str:
    if payload.ours:
        return "ours"
    return "missed" if payload.missed else "theirs"


def public_facts(payload: Payload) -> dict[str, Any]:
    """The fields of an event that may be logged: txids, heights, amounts, kinds. Never keys, secrets or state data."""
    facts: dict[str, Any] = {}
    if isinstance(txid := getattr(payload, "txid", None), bytes):
        facts["txid"] = display(txid)
    for name in _NUMBERS:
        if (value := getattr(payload, name, None)) is not None:
            facts[name] = value
    for name in _NAMES:
        if (value := getattr(payload, name, None)) is not None:
            facts[name] = value.name.lower()
    if (block := getattr(payload, "block", None)) is not None:
        facts["height"], facts["block_hash"] = block.height, display(block.hash)
    if isinstance(outpoint := getattr(payload, "outpoint", None), bytes):
        facts["outpoint"] = display_outpoint(outpoint)
    return facts
