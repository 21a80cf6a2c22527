"""All wings of one running service, and how they are opened."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import structlog

import watchtower
from watchtower.bootstrap.admin import build_admin
from watchtower.bootstrap.api import Api
from watchtower.bootstrap.beside import Beside
from watchtower.bootstrap.core import Core
from watchtower.bootstrap.ground import Ground
from watchtower.bootstrap.listening import listen
from watchtower.bootstrap.storage import Storage
from watchtower.config import Loaded, Settings
from watchtower.host.revision import revision
from watchtower.http.app import METHODS
from watchtower.ports import Failpoint
from watchtower.reload import Changes
from watchtower.store.datastore import no_failpoint
from watchtower.store.places import Turn, engine
from watchtower.telemetry.logging import LogControl, configure
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import ReadinessBoard

_log = structlog.get_logger(__name__)

COUNTED_LEVELS = ("warning", "error", "critical")


class Parts:
    """Everything that one running service consists of; made by `open_parts`, closed once by `close`."""

    def __init__(self, ground: Ground, turn: Turn | None = None) -> None:
        self._ground = ground
        self.metrics, self.board = ground.metrics, ground.board
        self._storage = storage = Storage(ground, turn)
        self.store, self.overflow = storage.store, storage.overflow
        self.disk, self.heads = storage.disk, storage.heads
        self.look_after_store = storage.look
        self.sockets = listen(ground.settings, ground.stack)
        core = Core(ground, storage)
        self.tower, self.watch, self.wake = core.tower, core.watch, core.wake
        self.bells, self.doorbell, self.lookouts = core.bells, core.doorbell, core.lookouts
        beside = Beside(ground, storage, core, took_over=turn is not None)
        self.reporter, self.backups, self.notifier = beside.reporter, beside.backups, beside.notifier
        self._api = Api(ground, storage, core)
        self.api, self.traffic = self._api.app, self._api.traffic
        self.admin = build_admin(ground, storage, core, self._api, self.sockets["api"])

    @property
    def settings(self) -> Settings:
        """Those that count now; some are replaced when they are read again."""
        return self._ground.settings

    @property
    def chain_stored_at(self) -> float:
        """Monotonic time of the pass thread's last commit."""
        return self._storage.chain_stored_at

    @property
    def facts(self) -> dict[str, Any]:
        """What the log says about this run at its start."""
        settings = self.settings
        return {"version": watchtower.__version__, "network": settings.network, "data_dir": settings.data_dir}

    def on_thread_end(self, callback: Callable[[], object]) -> None:
        """Call this when the pass thread or the reporter ends, in that thread."""
        self._ground.on_thread_end = callback

    def prepare(self, changes: Changes) -> None:
        """Tell people in the new way; raises `ConfigError` and changes nothing if that is not possible."""
        if changes.notify:
            self.notifier.reload(changes.settings.notify)

    def adopt(self, changes: Changes) -> None:
        """Let clients use as much as the new settings say; from the event loop's thread."""
        self._ground.settings = changes.settings
        self._api.adopt(changes.settings)

    def close(self) -> None:
        """Close everything in reverse order; the log is checkpointed."""
        self._ground.stack.close()


def start(loaded: Loaded, failpoint: Failpoint = no_failpoint) -> Parts:
    """Logging first, then everything else; raises a typed error that says what to do."""
    return open_parts(loaded.settings, begin(loaded)[0], failpoint)


def begin(loaded: Loaded) -> tuple[Metrics, LogControl]:
    """Metrics and logging."""
    settings = loaded.settings
    metrics = Metrics(build=(watchtower.__version__, revision(), settings.network, engine(settings)), routes=METHODS)

    def count(level: str) -> None:
        if level in COUNTED_LEVELS:
            metrics.count("log_messages_total", level)

    control = configure(settings.log.level, settings.log.format, count=count)
    _log.info("config_loaded", path=loaded.path or "defaults and environment")
    for warning in loaded.warnings:
        _log.warning("config_questioned", reason=warning)
    return metrics, control


def open_parts(
    settings: Settings,
    metrics: Metrics,
    failpoint: Failpoint = no_failpoint,
    turn: Turn | None = None,
    board: ReadinessBoard | None = None,
) -> Parts:
    """Open everything; closes what is open again if a step fails. `failpoint` is for tests: named points may fail.

    `turn` and `board` are those of a tower that stood by.
    """
    stack = ExitStack()
    try:
        return Parts(Ground(settings, metrics, board or ReadinessBoard(metrics), stack, failpoint), turn)
    except BaseException:
        stack.close()
        raise
