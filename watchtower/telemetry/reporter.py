"""Tells logs and metrics what the event log says: a follower of its own, behind the commit, never in its way.

It begins at the end of the log at start-up, so a restart does not count history again. Only public facts are told;
which fields are public is listed here, event by event.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from domain.chain import display, display_outpoint
from domain.events import (
    CHAIN_STREAM,
    LOG_STREAM,
    BreachDetected,
    ClaimConfirmed,
    Payload,
    PreimageLearned,
    Recorded,
)
from watchtower.telemetry.contests import Contests
from watchtower.telemetry.events import level_of, snake_case
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.tasks import TaskReport

_log = structlog.get_logger(__name__)

PAGE = 500
_NUMBERS = ("sequence", "fee", "deadline", "height", "remaining", "lock_time", "code", "bid_no")
_NAMES = ("kind", "source", "outcome", "via", "method", "reason", "side", "mode")

_AGGREGATES = {CHAIN_STREAM: "chain", LOG_STREAM: "log"}
"""Stream -> label; all others are channels."""


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

    def __init__(
        self,
        store: LogFollower,
        metrics: Metrics,
        on_end: Callable[[], None] = lambda: None,
        *,
        contests: Contests | None = None,
        known_until: int | None = None,
        durable_at: Callable[[int], float] = lambda _event_id: time.time(),
    ) -> None:
        """`contests` knows what was counted up to the event `known_until`; from there to the end nothing is counted.

        `durable_at` is the time (Unix seconds) at which an event was written.
        """
        self._thread = threading.Thread(target=self.run, name="reporter", daemon=True)
        self.failure: BaseException | None = None
        self._store = store
        self._metrics = metrics
        self._on_end = on_end
        self._task = TaskReport(metrics, "reporter")
        self._position = store.last_id()
        self._stopping = threading.Event()
        self._durable_at = durable_at
        self._contests = Contests(metrics) if contests is None else contests
        self._remember(self._position if known_until is None else known_until)
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

    def _remember(self, position: int) -> None:
        """What the last process wrote and the read models have not seen yet."""
        while position < self._position:
            for recorded in self._store.read_log(position, min(PAGE, self._position - position)):
                self._contests.remember(recorded.envelope.stream, recorded.envelope.payload)
                position = recorded.id

    def _tell(self, recorded: Recorded) -> None:
        stream, payload = recorded.envelope.stream, recorded.envelope.payload
        before = self._contests.breach_of(stream, payload)  # the end of a channel is forgotten when it is counted
        self._count(recorded)
        breach = before or self._contests.breach_of(stream, payload)
        name = snake_case(type(payload).__name__)
        facts = public_facts(payload) | ({} if breach is None else {"breach_id": display(breach)})
        getattr(_log, level_of(payload))(name, channel=stream, notification_id=recorded.id, **facts)

    def _count(self, recorded: Recorded) -> None:
        stream, payload = recorded.envelope.stream, recorded.envelope.payload
        self._metrics.count("event_store_events_total", _AGGREGATES.get(stream, "channel"))
        match payload:
            case ClaimConfirmed():
                self._metrics.count("conditional_outputs_total", _taker(payload))
            case PreimageLearned():
                self._metrics.count("preimages_learned_total", "upload" if payload.txid is None else "chain")
            case BreachDetected():
                self._contests.tell(stream, payload, self._durable_at(recorded.id))
            case _:
                self._contests.tell(stream, payload, 0.0)


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
