"""Gauges that are read from the views and the disk when somebody asks for /metrics, so they survive a restart."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from projections.open_breaches import OpenBreachRow
from watchtower.store.summary import Summary
from watchtower.telemetry.catalog import CHANNEL_STATES
from watchtower.telemetry.metrics import Metrics

PROTECTED = ("ACTIVE", "FROZEN", "COOP_CLOSING", "UNILATERAL")
STAGES = ("detected", "deferred", "broadcast", "confirming", "blocked")
FRESH = 1.0
"""Seconds for which sums are not computed again, however often somebody scrapes."""


class Gauges:
    """`render` is what /metrics answers; call it in a thread."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        summary: Callable[[], Summary],
        watched: Callable[[], int],
        tip: Callable[[], int],
        deferred: Callable[[], int],
        waiting: Callable[[], tuple[int, int]],
        event_log: Path,
    ) -> None:
        """`waiting` are the jobs of the chain and of clients that wait for a commit."""
        self._metrics = metrics
        self._summary = summary
        self._watched = watched
        self._tip = tip
        self._deferred = deferred
        self._waiting = waiting
        self._event_log = event_log
        self._computed = float("-inf")

    def render(self) -> bytes:
        """The exposition with fresh sums."""
        if time.monotonic() - self._computed > FRESH:
            self._computed = time.monotonic()
            self._set_sums(self._summary())
            self._set_storage()
        for queue, items in zip(("chain_writes", "http_writes"), self._waiting(), strict=True):
            self._metrics.set("queue_depth", queue, value=items)
        return self._metrics.render()

    def _set_sums(self, found: Summary) -> None:
        put = self._metrics.set
        by_state = {status.lower(): number for status, number in found.channels.items()}
        for state in CHANNEL_STATES:
            put("channels", state, value=by_state.get(state, 0))
        put("protected_sats", value=sum(found.capacity.get(status, 0) for status in PROTECTED))
        put("watched_outpoints", value=self._watched())
        self._set_breaches(found.breaches)

    def _set_breaches(self, breaches: tuple[OpenBreachRow, ...]) -> None:
        put = self._metrics.set
        stages = Counter(stage(breach) for breach in breaches)
        waiting = sum(1 for breach in breaches if stage(breach) == "detected" and breach.height is None)
        deferred = min(waiting, self._deferred())
        stages["detected"] -= deferred
        stages["deferred"] += deferred
        for name in STAGES:
            put("breaches_open", name, value=stages[name])
        undecided = [breach for breach in breaches if breach.penalty_height is None and breach.lost_height is None]
        left = [breach.deadline - self._tip() for breach in undecided if breach.deadline is not None]
        put("breach_min_remaining_blocks", value=min(left, default=None))
        put("breach_at_risk_sats", value=sum(breach.value for breach in breaches))
        put("penalty_unconfirmed", value=sum(1 for breach in undecided if breach.accepted))

    def _set_storage(self) -> None:
        usage = shutil.disk_usage(self._event_log.parent)
        self._metrics.set("storage_available_bytes", value=usage.free)
        self._metrics.set("storage_size_bytes", value=usage.total)
        files = (self._event_log, self._event_log.with_name(self._event_log.name + "-wal"))
        self._metrics.set("event_store_size_bytes", value=sum(path.stat().st_size for path in files if path.exists()))


def stage(breach: OpenBreachRow) -> str:
    """How far the answer to a breach is: a bid that no node holds is blocked, a settled breach too."""
    if breach.penalty_height is not None:
        return "confirming"
    if breach.lost_height is not None:
        return "blocked"
    if breach.bid_no == 0:
        return "detected"
    return "broadcast" if breach.accepted else "blocked"
