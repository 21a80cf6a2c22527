"""Builds the notifier of a tower from its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from projections.open_breaches import TABLE
from watchtower.config import Settings
from watchtower.notify.breaches import tracked_row
from watchtower.notify.message import Sender
from watchtower.notify.notifier import Notifier, World
from watchtower.store.views import SqliteRows
from watchtower.store.writer import LogWriter
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import ReadinessBoard

OPEN_MAX = 10_000
"""Breaches that are known when telling begins; more at once would be new to everybody."""


def open_notifier(
    settings: Settings,
    *,
    store: LogWriter,
    rows: SqliteRows,
    board: ReadinessBoard,
    metrics: Metrics,
    tower_id: bytes,
    tip_height: Callable[[], int],
    troubles: Callable[[], Mapping[str, str]],
    took_over: bool,
) -> Notifier:
    """Raises `ConfigError` if a target cannot be made of the settings."""
    world = World(
        log=store,
        log_id=store.meta.log_id,
        sender=Sender(tower_id.hex(), settings.network),
        readiness=board.snapshot,
        open_breaches=lambda: [tracked_row(TABLE.read(row)) for row in rows.page(TABLE, None, OPEN_MAX)],
        tip_height=tip_height,
        troubles=troubles,
        took_over=took_over,
    )
    return Notifier(settings.notify, Path(settings.notify_path), world, metrics)
