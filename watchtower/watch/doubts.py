"""Doubts about what the own node tells: no block for long, another node that is ahead, outputs that are not there.

None of them stops the tower; each is a readiness reason, so that a person looks. They end by themselves.
"""

from __future__ import annotations

from collections.abc import Callable

from watchtower.chain.audit import AuditReport
from watchtower.node.second import SecondNode
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import ReadinessBoard
from watchtower.tower import PassReport

AHEAD = 2
"""Blocks that a second node may not be ahead; one is what a block on its way looks like."""


class Doubts:
    """Looks at every finished pass. Called from the pass thread only."""

    def __init__(
        self,
        *,
        board: ReadinessBoard,
        metrics: Metrics,
        chainwork: Callable[[], int],
        second: SecondNode | None,
        stale_after: float | None,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """`chainwork` is the cursor's; `stale_after` seconds without a block are too many (None: never)."""
        self._board = board
        self._metrics = metrics
        self._chainwork = chainwork
        self._second = second
        self._stale_after = stale_after
        self._monotonic = monotonic
        self._wall = wall
        self._last_block = monotonic()
        self._rounds = 0

    def observe(self, report: PassReport) -> None:
        """Set or clear the reasons after a pass."""
        self._look_at_tip(report)
        self._look_at_second(report)
        self._look_at_audit(report.audit)

    def _look_at_tip(self, report: PassReport) -> None:
        """By the time when blocks reached us: their own clocks are their miners'."""
        now = self._monotonic()
        if report.follow.connected or report.follow.disconnected:
            self._last_block = now
        silent = now - self._last_block
        if self._stale_after is not None and silent >= self._stale_after:
            self._board.set("tip_stale", f"no block above height {report.height} for more than the allowed time")
        else:
            self._board.clear("tip_stale")

    def _look_at_second(self, report: PassReport) -> None:
        if self._second is None:
            return
        tip = self._second.tip()
        self._metrics.set("second_node_up", value=float(self._second.is_up))
        if report.follow.moved_again:
            return  # we are on our way: that is not the own node's lag
        if tip is not None and tip.height >= report.height + AHEAD and tip.chainwork > self._chainwork():
            self._board.set("second_source_ahead", f"the second node is at {tip.height}, ours at {report.height}")
        else:
            self._board.clear("second_source_ahead")

    def _look_at_audit(self, audit: AuditReport) -> None:
        self._metrics.set("audit_mismatches", value=audit.disagreeing)
        if audit.rounds > self._rounds:
            self._metrics.count("audit_runs_total", by=audit.rounds - self._rounds)
            self._metrics.set("audit_last_run_timestamp_seconds", value=self._wall())
            self._rounds = audit.rounds
        if audit.disagreeing:
            self._board.set("audit_mismatch", f"{audit.disagreeing} funding outputs are not what the log says")
        else:
            self._board.clear("audit_mismatch")
