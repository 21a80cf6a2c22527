"""The pass thread: turns of the tower, what their errors mean for readiness, and when the next one comes.

Only this thread calls the core. An error of the node ends the pass, never the thread; an error of the store that
leaves doubt about what is durable ends the thread and with it the process.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import structlog
from structlog.contextvars import bound_contextvars

from watchtower.gauges.node import show_chain
from watchtower.ports import (
    ChainInfo,
    NodeError,
    NodeUnavailable,
    NodeWarmingUp,
    StoreBroken,
    StoreError,
    WatchtowerError,
    WrongChain,
)
from watchtower.responder.runs import Trouble
from watchtower.telemetry.catalog import BLOCKING_REASONS
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import ReadinessBoard
from watchtower.telemetry.tasks import TaskReport
from watchtower.tower import Hints, PassReport
from watchtower.watch.passes import Pacer, Turn, Wake

_log = structlog.get_logger(__name__)

BREACH_IDLE = 30.0
"""While a breach is open, presence is checked at least this often (docs/adr/0010)."""


class Core(Protocol):
    """The part of `Tower` that the thread drives."""

    def start(self) -> PassReport:
        """First contact and catch-up; raises `NodeError`, `WrongChain` or `StoreError`."""

    def run_pass(self, hints: Hints) -> PassReport:
        """One pass."""


class Watch:
    """Runs the tower until `stop`. `failure` tells afterwards why it ended by itself, else it is None.

    `height` is the cursor's, `lag` the blocks behind the node when it was last asked (None: not asked yet).
    `node_doubt` is why no fact of the node may be relied on: it was never reached, or it follows another chain.
    """

    def __init__(
        self,
        *,
        core: Core,
        contested: Callable[[], bool],
        check_node: Callable[[], ChainInfo],
        chain_info: Callable[[], ChainInfo],
        wake: Wake,
        board: ReadinessBoard,
        metrics: Metrics,
        poll_seconds: float,
        on_end: Callable[[], None] = lambda: None,
        block_found: Callable[[], None] = lambda: None,
    ) -> None:
        """`check_node` raises unless the node is the right one; `contested` is true while a penalty may be needed.

        `block_found` is called when a pass of a tower that watches found blocks: each should have been announced.
        """
        self._thread = threading.Thread(target=self.run, name="pass", daemon=True)
        self._report = TaskReport(metrics, "pass")
        self.failure: BaseException | None = None
        self.last_progress = time.monotonic()
        self.height = 0
        self.lag: int | None = None
        self.breach_open = False
        self.node_doubt: WatchtowerError | None = NodeUnavailable("no node was reached since the start")
        self._core = core
        self._contested = contested
        self._check_node = check_node
        self._chain_info = chain_info
        self._wake = wake
        self._board = board
        self._metrics = metrics
        self._pacer = Pacer(min(poll_seconds, BREACH_IDLE))
        self._on_end = on_end
        self._block_found = block_found
        self._turns = 0
        self._node_known = False
        self._node_asked = False
        self._core_started = False
        self._troubled: frozenset[tuple[str, str]] = frozenset()

    def start(self) -> None:
        """Begin to pass."""
        self._thread.start()

    def resume(self, moved_at: float) -> None:
        """Say where an earlier run stood, at `height`, and when it moved there last (Unix seconds)."""
        self._metrics.set("chain_processed_height", value=self.height)
        self._metrics.set("chain_last_block_processed_timestamp_seconds", value=moved_at)

    def run(self) -> None:
        """The body of the thread."""
        try:
            with self._report.running():
                while (turn := self._wake.next_turn(self._pacer)) is not None:
                    self.take_turn(turn)
        except BaseException as error:  # noqa: BLE001 - the border of the task: the process ends loudly
            self.failure = error
            _log.critical("task_ended", task="pass", reason=type(error).__name__, exc_info=error)
        finally:
            self._on_end()

    def stop(self, timeout: float) -> bool:
        """Ask the thread to end after its present turn; False if it has not within `timeout` seconds."""
        self._wake.stop()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def take_turn(self, turn: Turn) -> None:
        """One turn with everything around it; raises only what must end the process.

        Lines of the log from inside carry the number of the turn and the height at its beginning.
        """
        began = time.monotonic()
        self._turns += 1
        with bound_contextvars(turn=self._turns, height=self.height):
            self._take_turn(turn, began)
        self.breach_open = self._contested()
        self.last_progress = time.monotonic()
        self._report.progressed()

    def _take_turn(self, turn: Turn, began: float) -> None:
        try:
            self._be_sure_of_node()
            report = self._pass(turn)
        except StoreBroken:
            raise
        except (NodeError, WrongChain, StoreError) as error:
            self._failed(error)
        else:
            self._passed(report, turn, time.monotonic() - began)

    def _be_sure_of_node(self) -> None:
        """After a start or a failure the node may be another one: nothing is done before it is checked."""
        if self._node_known:
            return
        info = self._check_node()
        self._node_known = True
        self._tell_of_node(info)
        _log.info("node_reached", endpoint=info.network, height=info.blocks)

    def _pass(self, turn: Turn) -> PassReport:
        if self._core_started:
            # Nobody rang since the last pass: either nothing happens at all, or ZMQ is mute. Then the mempool is swept.
            hints = turn.hints if turn.rung else msgspec.structs.replace(turn.hints, full_sweep=True)
            return self._core.run_pass(hints)
        self._board.loaded()
        report = self._core.start()
        self._core_started = True
        return report

    def _passed(self, report: PassReport, turn: Turn, seconds: float) -> None:
        self.height = report.height
        self._tell_of_troubles(report.respond.troubles)
        self._count_blocks(report, turn, seconds)
        if isinstance(report.error, StoreError):
            self._failed(report.error)
            self._ask_node(report)  # the cursor may stand still, and then nobody watches what comes
            return
        self._board.clear("store_read_only")
        if report.error is not None:
            self._failed(report.error)
            return
        self._pacer.succeeded()
        self.node_doubt = None
        for reason in BLOCKING_REASONS:
            if reason != "node_syncing":
                self._board.clear(reason)
        news = report.follow.connected or report.follow.disconnected
        if news or not turn.rung or not self._node_asked:
            self._ask_node(report)
        if report.again:
            self._wake.ring(urgent=report.follow.moved_again, unfinished=True)

    def _tell_of_troubles(self, troubles: Sequence[Trouble]) -> None:
        """Channels that could not be served, when that begins and when its reason changes."""
        now = frozenset((trouble.stream, f"{type(trouble.error).__name__}: {trouble.error}") for trouble in troubles)
        for stream, reason in sorted(now - self._troubled):
            _log.error("channel_not_served", channel=stream, reason=reason)
        self._troubled = now

    def _ask_node(self, report: PassReport) -> None:
        try:
            info = self._chain_info()
        except NodeError as error:
            self._failed(error)
            return
        self._node_asked = True
        self._tell_of_node(info)
        self.lag = max(0, info.blocks - report.height)
        if self.lag > 1:
            _log.info("catch_up_progressed", height=report.height, target=info.blocks)
        self._board.progress(caught_up=self.lag <= 1)

    def _tell_of_node(self, info: ChainInfo) -> None:
        show_chain(info, self._metrics)
        if info.initial_block_download or info.headers - info.blocks > 1:
            self._board.set("node_syncing", f"the node has {info.blocks} blocks of {info.headers} headers")
        else:
            self._board.clear("node_syncing")

    def _count_blocks(self, report: PassReport, turn: Turn, seconds: float) -> None:
        connected, disconnected = report.follow.connected, report.follow.disconnected
        self._metrics.set("chain_processed_height", value=report.height)
        if disconnected:
            self._metrics.count("chain_reorgs_total")
            self._metrics.observe("chain_reorg_depth_blocks", value=disconnected)
            _log.warning("reorg_observed", height=report.height, depth=disconnected)
        if not connected:
            return
        source = "zmq" if turn.rung else "poll" if connected == 1 else "catch_up"
        self._metrics.count("chain_blocks_processed_total", source, by=connected)
        self._metrics.observe("chain_block_processing_seconds", value=seconds / connected)
        self._metrics.set("chain_last_block_processed_timestamp_seconds", value=time.time())
        if source == "poll":
            self._metrics.count("zmq_resyncs_total", "poll_divergence")
        if self._board.snapshot().watching:
            self._block_found()

    def _failed(self, error: WatchtowerError) -> None:
        """Say why, forget that the node is known, and come back soon: a tower never gives up."""
        reason = reason_of(error)
        if isinstance(error, NodeError | WrongChain):  # before anything is said of it: who hears it may look at once
            self._metrics.set("node_up", value=float(reason not in ("node_unreachable", "node_warming_up")))
        self._board.set(reason, str(error))
        if isinstance(error, WrongChain) or (isinstance(error, NodeError) and not self._core_started):
            self.node_doubt = error
        if isinstance(error, NodeError | WrongChain):
            if self._node_known or reason == "wrong_chain":
                name = "node_wrong_chain" if reason == "wrong_chain" else "node_lost"
                _log.error(name, endpoint="rpc", reason=str(error))
            self._node_known = self._node_asked = False
            for other in BLOCKING_REASONS:
                if other != reason:
                    self._board.clear(other)
        if isinstance(error, StoreError):
            _log.error("commit_failed", reason=f"{error.slug}: {error}")
        delay = self._pacer.failed(
            time.monotonic(),
            warming_up=isinstance(error, NodeWarmingUp),
            breach_open=self.breach_open,
            jitter=random.random(),  # noqa: S311 - spreads retries, guards nothing
        )
        _log.debug("pass_failed", reason=f"{error.slug}: {error}", retry_seconds=round(delay, 3))


def reason_of(error: WatchtowerError) -> str:
    """Readiness reason of an error: its slug where there is such a reason, else what kind of thing failed."""
    named = error.slug.replace("-", "_")
    if named in BLOCKING_REASONS:
        return named
    return "store_read_only" if isinstance(error, StoreError) else "node_unreachable"
