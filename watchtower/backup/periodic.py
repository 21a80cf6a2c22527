"""Backups that the service makes by itself: when, where to, how many are kept, and what is told of them.

A task of its own. Whatever happens in it is told and tried again; nothing of it reaches the threads that watch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from domain.events import LOG_STREAM
from watchtower.backup import Manifest
from watchtower.backup.errors import BackupError
from watchtower.backup.job import Sign, Work, make_beside
from watchtower.backup.shelf import Shelf
from watchtower.config import Settings
from watchtower.host.disk import MEGABYTE
from watchtower.keystore import PASSPHRASE_NAME, read_passphrase
from watchtower.ports import Clock, WatchtowerError
from watchtower.store.places import server_url
from watchtower.store.reader import LogReader
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.tasks import TaskReport

_log = structlog.get_logger(__name__)

RETRY_SECONDS = 900.0
"""Pause after a failure, unless the interval is shorter."""

LONGEST_WAIT = 60.0
"""Seconds after which the shelf is looked at again: somebody may have made a backup by hand."""

Make = Callable[[Path, int], Manifest]
"""Makes and proves a backup at a path, at a time (Unix microseconds)."""


class BackupTask:
    """Makes a verified backup every `interval` seconds and keeps the newest `keep`. Without a shelf it makes none."""

    def __init__(
        self,
        *,
        shelf: Shelf | None,
        make: Make,
        interval: float,
        keep: int,
        since: float,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """`since` is the Unix time of the log's beginning: that of the last backup while there is none."""
        self._shelf, self._make, self._interval, self._keep = shelf, make, interval, keep
        self._since, self._clock, self._metrics = since, clock, metrics
        self._thread = threading.Thread(target=self.run, name="backup", daemon=True)
        self.stopping = threading.Event()
        self._not_before = 0.0
        self.failure = ""
        """Why the last backup could not be made; empty if it could."""
        self._report = TaskReport(metrics, "backup")
        metrics.set("backup_last_success_timestamp_seconds", value=since)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def run(self) -> None:
        """The body of the thread."""
        with self._report.running():
            while not self.stopping.is_set():
                try:
                    pause = self.turn()
                except Exception as error:  # noqa: BLE001 - the border of the task: the tower protects without backups
                    self._report.went_on()
                    pause = self._failed(f"{type(error).__name__}: {error}", error)
                self._report.progressed()
                self.stopping.wait(min(pause, LONGEST_WAIT))

    def got_on(self) -> None:
        """The backup under way is still being made; it may take long."""
        self._report.progressed()

    def turn(self) -> float:
        """Make a backup if it is time; the seconds until the next look."""
        if self._shelf is None:
            return LONGEST_WAIT
        now = self._clock.wall_microseconds() / 1e6
        try:
            newest = self._shelf.newest()
            if newest is not None:
                self._metrics.set("backup_last_success_timestamp_seconds", value=newest)
            due = max(self._not_before, 0.0 if newest is None else newest + self._interval)
            if now < due:
                return due - now
            self._back_up(self._shelf)
        except WatchtowerError as error:
            if self.stopping.is_set():
                return 0.0
            return self._failed(str(error), None)
        return self._interval

    def stop(self, timeout: float) -> bool:
        """End, and a backup under way with it; False if that took longer than `timeout` seconds."""
        self.stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _back_up(self, shelf: Shelf) -> None:
        began, made_at = time.monotonic(), self._clock.wall_microseconds()
        path = shelf.path_for(made_at)
        manifest = self._make(path, made_at)
        if manifest.log is None:
            raise BackupError("the backup holds no log")
        self._metrics.set("backup_last_success_timestamp_seconds", value=made_at // 1_000_000)
        _log.info(
            "backup_verified",
            path=path.name,
            notification_id=manifest.log.last_id,
            seconds=round(time.monotonic() - began, 3),
        )
        shelf.prune(self._keep)
        self.failure = ""

    def _failed(self, reason: str, error: Exception | None) -> float:
        pause = min(RETRY_SECONDS, self._interval)
        self._not_before = self._clock.wall_microseconds() / 1e6 + pause
        self.failure = reason
        self._metrics.count("backup_failures_total")
        _log.error("backup_failed", reason=reason, exc_info=error)
        return pause


def open_backups(settings: Settings, store: LogReader, sign: Sign, clock: Clock, metrics: Metrics) -> BackupTask:
    """The task as the settings say. The passphrase is read when it is needed, as at the start."""

    def make(path: Path, made_at: int) -> Manifest:
        return make_beside(work_of(settings, path, made_at), sign, task.stopping, task.got_on)

    directory = settings.backup.directory
    opened = store.read_stream(LOG_STREAM, limit=1)[0].payload
    task = BackupTask(
        shelf=Shelf(Path(directory), store.meta.log_id) if directory else None,
        make=make,
        interval=settings.backup.interval_hours * 3_600,
        keep=settings.backup.keep,
        since=opened.recorded_at / 1e6,
        clock=clock,
        metrics=metrics,
    )
    return task


def work_of(settings: Settings, out: Path, made_at: int) -> Work:
    """What is backed up of a tower. Raises `KeystoreError` if the passphrase cannot be read."""
    secret = settings.keystore.passphrase
    beside = Path(settings.data_dir) / PASSPHRASE_NAME
    return Work(
        data_dir=settings.data_dir,
        log=settings.event_log_path,
        server=server_url(settings),
        views=settings.views_path,
        out=str(out),
        made_at=made_at,
        passphrase=read_passphrase(beside) if secret is None else secret.reveal().encode(),
        spare=settings.store.reserve_mb * MEGABYTE,
    )
