"""Phase and readiness reasons: the one place that knows whether the tower may say that it watches.

Never claims to watch without proof: it starts as `starting`, and a blocking reason turns `watching` off at once.
Implements the `Alarm` port; may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec
import structlog

from watchtower.telemetry.catalog import BLOCKING_REASONS, OTHER_REASONS
from watchtower.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)

SENTENCES: dict[str, str] = {
    "node_unreachable": "The node does not answer. Is bitcoind running, are address and credentials right?",
    "node_warming_up": "The node is still loading; this ends by itself.",
    "node_syncing": "The node is still downloading blocks; this ends by itself.",
    "node_behind": "The node has less work than the tower has seen; wait, or check for an old data directory.",
    "wrong_chain": "The node follows another chain than this tower's log. Set network or node.rpc_url right.",
    "cursor_unknown": "The node knows no block that the tower has seen; its history is too short or foreign.",
    "block_unavailable": "The node cannot hand over a block that the tower needs; is it pruned too far?",
    "block_unparseable": "A block could not be read completely; update the tower.",
    "tip_stale": "The node has not shown a new block for long; is it connected to others?",
    "second_source_ahead": "The second node knows more blocks than ours; is ours stuck or cut off?",
    "zmq_silent": "No ZMQ notifications; the tower polls. Set zmqpubsequence and zmqpubrawtx at the node.",
    "audit_mismatch": "An independent check of funding outputs disagrees with the read model.",
    "store_read_only": "The event log cannot be written; check the disk's space and health.",
    "store_unreachable": "The database server is away: breaches are answered from memory, states are refused.",
    "standby": "Another tower leads; this one follows its log and takes over when it ends.",
    "disk_low": "The disk is nearly full; free some space. On a full disk breaches are answered and states refused.",
    "log_damaged": "Events of some channels were changed or cannot be applied: those are not served. Restore a backup.",
    "behind_receipts": "The log lacks what receipts were signed for: an older copy was restored (docs/backup.md).",
    "task_stalled": "A task has made no progress for a minute.",
}


class Reason(msgspec.Struct, frozen=True):
    """Why the tower is not ready: the stable name, what to do, and what was observed."""

    name: str
    sentence: str
    detail: str = ""


class Readiness(msgspec.Struct, frozen=True):
    """What /readyz tells. `watching` is a promise: a breach now would be seen and answered."""

    phase: str
    watching: bool
    reasons: tuple[Reason, ...]


class ReadinessBoard:
    """Keeps the reasons that hold and the phase; tells metrics, log and whoever listens of every change."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._listeners: list[Callable[[Readiness], object]] = []
        self._watchers: list[Callable[[], object]] = []
        self._lock = threading.RLock()
        self._held: dict[str, str] = {}
        self._loaded = False  # index loaded, writer ready
        self._caught_up = False
        self._draining = False
        self._phase = "starting"
        metrics.one_of("phase", "starting")

    def listen(self, listener: Callable[[Readiness], object]) -> None:
        """Tell `listener` of every change of the phase, in the thread that causes it."""
        self._listeners.append(listener)

    def watch(self, watcher: Callable[[], object]) -> None:
        """Call `watcher` after every change of phase, reasons or details, in the thread that causes it."""
        self._watchers.append(watcher)

    def set(self, reason: str, detail: str = "") -> None:
        """A reason begins to hold (KeyError for an unknown one). `detail` says what was observed; no secrets."""
        if reason not in SENTENCES:
            raise KeyError(reason)
        with self._lock:
            if self._held.get(reason) == detail:
                return
            new = reason not in self._held
            self._held[reason] = detail
            self._metrics.set("not_ready", reason, value=1)
            if new:
                # A reason that ends before the next scrape is seen in this counter only.
                self._metrics.count("readiness_changes_total", reason)
                _log.error("readiness_changed", reason=reason, holds=True, detail=detail, hint=SENTENCES[reason])
            self._settle()
            self._tell()

    def clear(self, reason: str) -> None:
        """A reason no longer holds; clearing one that does not hold is nothing."""
        with self._lock:
            if self._held.pop(reason, None) is None:
                return
            self._metrics.set("not_ready", reason, value=0)
            _log.info("readiness_changed", reason=reason, holds=False)
            self._settle()
            self._tell()

    def loaded(self) -> None:
        """The watch index is loaded and the store can be written."""
        with self._lock:
            self._loaded = True
            self._settle()

    def progress(self, *, caught_up: bool) -> None:
        """The tower is at most one block behind the node, or not."""
        with self._lock:
            self._caught_up = caught_up
            self._settle()

    def draining(self) -> None:
        """The process was asked to stop; this does not end."""
        with self._lock:
            self._draining = True
            self._settle()

    def snapshot(self) -> Readiness:
        """Phase and reasons now."""
        with self._lock:
            reasons = tuple(Reason(name, SENTENCES[name], detail) for name, detail in sorted(self._held.items()))
            return Readiness(self._phase, self._phase == "watching", reasons)

    def _settle(self) -> None:
        """Compute the phase from the facts (docs/operations.md) and tell of a change."""
        phase = self._current_phase()
        if phase == self._phase:
            return
        self._phase = phase
        self._metrics.one_of("phase", phase)
        _log.info("phase_changed", phase=phase, reason=",".join(sorted(self._held)))
        for listener in self._listeners:
            listener(self.snapshot())
        self._tell()

    def _tell(self) -> None:
        for watcher in self._watchers:
            watcher()

    def _current_phase(self) -> str:
        if self._draining:
            return "draining"
        if not self._loaded:
            return "starting"
        if any(reason in BLOCKING_REASONS for reason in self._held):
            return "degraded"
        return "watching" if self._caught_up else "catching_up"


assert set(SENTENCES) == set(BLOCKING_REASONS + OTHER_REASONS)
