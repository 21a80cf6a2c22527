"""The tasks that look at the tower and its node from beside: gauges of the node, and the canary.

They share one connection of their own, so they take none from the pass, and begin when a pass is over.
"""

from __future__ import annotations

from typing import Protocol

from domain.chain import BlockRef
from watchtower.canary import Canary
from watchtower.canary.canary import CanaryNode
from watchtower.canary.stages import WatchIndex
from watchtower.gauges.node import AskedNode, NodeGauges
from watchtower.ports import Rng
from watchtower.telemetry.metrics import Metrics
from watchtower.tower import PassReport
from watchtower.watch.recurring import RecurringTask

IN_FLIGHT = 1
"""Calls to the node that may be under way at once."""


class LookoutNode(AskedNode, CanaryNode, Protocol):
    """What both ask."""


class Lookouts:
    """Two threads; `passed` is called by the pass thread and never waits."""

    def __init__(self, *, node: LookoutNode, models: WatchIndex, rng: Rng, metrics: Metrics) -> None:
        """`models` is only read; nothing here knows the log."""
        self._metrics = metrics
        self._scanned = 0
        self._canary = Canary(node=node, models=models, rng=rng, metrics=metrics)
        self._singing = RecurringTask("canary", self._canary.turn, metrics)
        self._asking = RecurringTask("node", NodeGauges(node, metrics).turn, metrics)

    def start(self) -> None:
        """Begin."""
        self._singing.start()
        self._asking.start()

    def passed(self, report: PassReport, tip: BlockRef, scanned: int) -> None:
        """A pass ended at `tip`; `scanned` counts the transactions of all blocks of this run."""
        self._metrics.count("chain_transactions_scanned_total", "block", by=scanned - self._scanned)
        self._scanned = scanned
        if report.error is None and not report.follow.moved_again and self._canary.tip(tip):
            self._singing.wake()
            self._asking.wake()

    def stop(self, timeout: float) -> bool:
        """End both; False if one has not within `timeout` seconds."""
        return all([self._singing.stop(timeout), self._asking.stop(timeout)])
