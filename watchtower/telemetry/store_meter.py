"""Timings and failures of the log, as the store tells them."""

from __future__ import annotations

from collections.abc import Callable

from watchtower.telemetry.metrics import Metrics

FAILED = "_failed"
"""The end of the name of an operation that failed; its kind is then that of the failure."""

_OPERATIONS = {"append": "insert_events", "read_stream": "select_events", "read_log": "select_notifications"}
"""Operation of the store -> label; the others are parts of these."""


class StoreMeter:
    """Called by the store with (operation, seconds, kind), in any thread."""

    def __init__(self, metrics: Metrics, chain_stored: Callable[[], object]) -> None:
        """`chain_stored` is told of each commit of the pass thread."""
        self._metrics = metrics
        self._chain_stored = chain_stored

    def __call__(self, operation: str, seconds: float, kind: str) -> None:
        """Count one operation."""
        if operation == "append" and kind == "chain":
            self._chain_stored()
        label = _OPERATIONS.get(operation.removesuffix(FAILED))
        if label is None:
            return
        if operation.endswith(FAILED):
            self._metrics.count("event_store_errors_total", label, kind)
        else:
            self._metrics.observe("event_store_operation_seconds", label, value=seconds)
