"""The pass thread's own turn around a pass, with the real readiness board: whether the tower is loud (O7).

Only some schedules pay for it. Everything that a turn meets, a failing node before the pass included, is noted in the
world as the `error` of this look.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from tests.simulation.judge import Violation
from watchtower.ports import ChainInfo, NodeError, StoreBroken, StoreError, WatchtowerError, WrongChain
from watchtower.telemetry.catalog import BLOCKING_REASONS
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import ReadinessBoard
from watchtower.tower import Hints, PassReport
from watchtower.watch.passes import Turn, Wake
from watchtower.watch.watch import Watch, reason_of

if TYPE_CHECKING:
    from tests.simulation.world import SimWorld

BUILD = ("0", "0", "regtest", "memory")


@cache
def _metrics() -> Metrics:
    """One set of figures for all schedules of a process: making them costs more than a pass, and nothing reads them."""
    return Metrics(build=BUILD)


class Desk:
    """Implements `watch.Core` for a `Watch` of its own."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        metrics = _metrics()
        self.board = ReadinessBoard(metrics)
        self._watch = Watch(
            core=self,
            contested=lambda: bool(world.models.contested()),
            check_node=self._chain_info,
            chain_info=self._chain_info,
            wake=Wake(world.clock.monotonic),
            board=self.board,
            metrics=metrics,
            poll_seconds=15.0,
        )

    def turn(self, hints: Hints) -> None:
        """One turn; raises `Violation` if its end is not told on the board."""
        self._watch.take_turn(Turn(hints, rung=True, urgent=False))
        reasons = {reason.name for reason in self.board.snapshot().reasons}
        report, error = self._world.report, self._world.error
        wrong = error or (None if report is None else report.error)
        if isinstance(wrong, WatchtowerError):
            if reason_of(wrong) not in reasons:
                raise Violation("O7", f"{type(wrong).__name__} is not on the board: {sorted(reasons)}")
        elif left := sorted(reasons & {*BLOCKING_REASONS, "store_read_only"}):
            raise Violation("O7", f"{left} still stand on the board after a pass without error")

    def start(self) -> PassReport:
        """The start of the tower."""
        report = self._noting(self._world.tower.start)
        self._world.started = True
        return report

    def run_pass(self, hints: Hints) -> PassReport:
        """One pass of the tower."""
        return self._noting(lambda: self._world.tower.run_pass(hints))

    def _noting(self, work: Callable[[], PassReport]) -> PassReport:
        try:
            self._world.report = work()
        except StoreBroken:
            raise
        except (NodeError, WrongChain, StoreError) as error:
            self._world.error = error
            raise
        return self._world.report

    def _chain_info(self) -> ChainInfo:
        try:
            return self._world.node.chain_info()
        except NodeError as error:
            self._world.error = error
            raise
