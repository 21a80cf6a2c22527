"""The wing of threads that stand beside the pass: figures, backups, and what people are told."""

from __future__ import annotations

from watchtower.backup.periodic import open_backups
from watchtower.bootstrap.core import Core
from watchtower.bootstrap.ground import Ground
from watchtower.bootstrap.storage import Storage
from watchtower.host.system import SystemClock
from watchtower.notify.wiring import open_notifier
from watchtower.telemetry.contests import Contests
from watchtower.telemetry.reporter import Reporter


class Beside:
    """Nothing here is in the way of a commit or of a pass."""

    def __init__(self, ground: Ground, storage: Storage, core: Core, *, took_over: bool) -> None:
        """`took_over` tells people that this tower leads now in the place of another one."""
        settings, metrics = ground.settings, ground.metrics
        self.reporter = Reporter(
            storage.store,
            metrics,
            ground.thread_ended,
            contests=Contests(metrics, core.models.contested_facts()),
            known_until=core.models.position,
            durable_at=storage.commits.of,
        )
        self.backups = open_backups(settings, storage.store, storage.tower_key.sign, SystemClock(), metrics)
        self.notifier = open_notifier(
            settings,
            store=storage.store,
            rows=storage.rows,
            board=ground.board,
            metrics=metrics,
            tower_id=storage.tower_key.tower_id,
            tip_height=core.tip_height,
            troubles=self._troubles,
            took_over=took_over,
        )
        ground.stack.callback(self.notifier.close)

    def _troubles(self) -> dict[str, str]:
        """What people are told of although it is no readiness reason."""
        return {"backup_failed": self.backups.failure} if self.backups.failure else {}
