"""What every wing stands on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import msgspec

from watchtower.config import Settings
from watchtower.ports import Failpoint
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import ReadinessBoard


class Ground(msgspec.Struct):
    """`settings` are replaced when they are read again; `stack` closes in reverse order what the wings have opened."""

    settings: Settings
    metrics: Metrics
    board: ReadinessBoard
    stack: ExitStack
    failpoint: Failpoint
    on_thread_end: Callable[[], object] = lambda: None

    def thread_ended(self) -> None:
        """The pass thread or the reporter has ended; called in that thread."""
        self.on_thread_end()
