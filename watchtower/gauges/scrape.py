"""Gauges that are read when somebody asks for /metrics: views, queues, disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from projections.channel_info import TABLE as CHANNEL_INFO
from projections.milestones import TABLE as MILESTONES
from projections.open_breaches import stage
from watchtower.access import AccessFile, AccessFileBroken, AccessTable
from watchtower.gauges.money import MoneyGauges
from watchtower.http.traffic import Traffic
from watchtower.models import LiveModels
from watchtower.ports import StoreError
from watchtower.store.breach_sums import breach_sums
from watchtower.store.views import SqliteRows
from watchtower.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)

__all__ = ["AllowedParties", "Gauges", "open_gauges", "stage"]

FRESH = 1.0
"""Seconds for which sums are not computed again, however often somebody scrapes."""


class Gauges:
    """`render` is what /metrics answers; call it in a thread."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        money: MoneyGauges,
        waiting: Callable[[], tuple[int, int]],
        traffic: Traffic,
        event_log: Path,
    ) -> None:
        """`waiting` are the jobs of the chain and of clients that wait for a commit."""
        self._traffic = traffic
        self._metrics = metrics
        self._money = money
        self._waiting = waiting
        self._event_log = event_log
        self._computed = float("-inf")

    def render(self) -> bytes:
        """The exposition with fresh sums."""
        if time.monotonic() - self._computed > FRESH:
            self._computed = time.monotonic()
            self._refresh_money()
            self._refresh_storage()
        for queue, items in zip(("chain_writes", "http_writes"), self._waiting(), strict=True):
            self._metrics.set("queue_depth", queue, value=items)
        self._metrics.set("http_requests_in_flight", value=self._traffic.in_flight)
        self._metrics.set("event_streams", value=self._traffic.streams)
        return self._metrics.render()

    def _refresh_money(self) -> None:
        """What cannot be read keeps its last values, and says so: the other metrics are needed the more then."""
        try:
            self._money.refresh()
        except StoreError as error:
            self._metrics.count("event_store_errors_total", "select_events", "operational")
            _log.error("gauges_failed", reason=str(error))

    def forget(self) -> None:
        """Compute all of them with the next look, however fresh they are."""
        self._computed = float("-inf")

    def _refresh_storage(self) -> None:
        """A disk that fails must not look like a tower that is gone."""
        try:
            self._set_storage()
        except OSError as error:
            _log.error("gauges_failed", reason=str(error))

    def _set_storage(self) -> None:
        usage = shutil.disk_usage(self._event_log.parent)
        self._metrics.set("storage_available_bytes", value=usage.free)
        self._metrics.set("storage_size_bytes", value=usage.total)
        files = (self._event_log, self._event_log.with_name(self._event_log.name + "-wal"))
        self._metrics.set("event_store_size_bytes", value=sum(path.stat().st_size for path in files if path.exists()))


class AllowedParties:
    """How many parties are on the list of those that may register, and have no channel; counted when that changes."""

    def __init__(self, access: AccessFile, rows: SqliteRows, owners: Callable[[], int]) -> None:
        """`owners` is how many parties have a channel."""
        self._access = access
        self._rows = rows
        self._owners = owners
        self._counted: tuple[AccessTable, int] | None = None
        self._number = 0

    def __call__(self) -> int:
        """The number; of the last file that could be read, for one that cannot is told where it is used."""
        try:
            table = self._access.table()
        except AccessFileBroken:
            return self._number
        seen = table, self._owners()
        if seen != self._counted:
            self._counted = seen
            self._number = sum(1 for party in table.parties if not self._has_channel(bytes.fromhex(party.key)))
        return self._number

    def _has_channel(self, key: bytes) -> bool:
        return self._rows.count(CHANNEL_INFO, "owner_key", key, "resolved", 1) > 0


def open_gauges(
    *,
    metrics: Metrics,
    models: LiveModels,
    rows: SqliteRows,
    access: AccessFile,
    tip: Callable[[], int],
    deferred: Callable[[], Collection[str]],
    waiting: Callable[[], tuple[int, int]],
    traffic: Traffic,
    event_log: Path,
) -> Gauges:
    """The gauges of a tower over its read models."""
    money = MoneyGauges(
        metrics=metrics,
        totals=lambda: models.totals,
        breaches=lambda: breach_sums(rows),
        milestones=lambda: [MILESTONES.read(row) for row in rows.page(MILESTONES, None, 100)],
        allowed=AllowedParties(access, rows, lambda: models.totals.owners),
        watched=lambda: models.watched_count,
        tip=tip,
        deferred=deferred,
        position=lambda: models.position,
    )
    return Gauges(metrics=metrics, money=money, waiting=waiting, traffic=traffic, event_log=event_log)
