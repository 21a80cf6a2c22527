"""The pass thread: what errors mean, when the tower watches, and what ends the process."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from domain.chain import BlockHash
from watchtower.chain.facts import FollowReport
from watchtower.ports import (
    BlockNotAvailable,
    ChainInfo,
    NodeAuthError,
    NodeError,
    NodeUnavailable,
    NodeWarmingUp,
    StoreBroken,
    StoreError,
    StoreFull,
    WatchtowerError,
    WrongChain,
)
from watchtower.responder.runs import RespondReport, Trouble
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import ReadinessBoard
from watchtower.tower import Hints, PassReport
from watchtower.watch.passes import Turn, Wake
from watchtower.watch.watch import Watch, reason_of

TURN = Turn(Hints(), rung=False, urgent=False)


def report(
    height: int = 100, connected: int = 0, error: NodeError | StoreError | None = None, again: bool = False
) -> PassReport:
    """A pass that ended at `height`."""
    return PassReport(FollowReport(connected=connected), RespondReport(), height, error, again)


def chain(blocks: int = 100, headers: int = 100, downloading: bool = False) -> ChainInfo:
    """A node's answer."""
    return ChainInfo("regtest", blocks, headers, BlockHash(bytes(32)), downloading, 0)


class ScriptedCore:
    """Plays one result per pass; an exception is raised."""

    def __init__(self, script: Sequence[PassReport | WatchtowerError]) -> None:
        self.script = deque(script)
        self.passes = 0
        self.starts = 0
        self.hints: list[Hints] = []

    def start(self) -> PassReport:
        """The same as a pass, counted apart."""
        self.starts += 1
        return self._next()

    def run_pass(self, hints: Hints) -> PassReport:
        """The next result."""
        self.passes += 1
        self.hints.append(hints)
        return self._next()

    def _next(self) -> PassReport:
        result = self.script.popleft()
        if isinstance(result, WatchtowerError):
            raise result
        return result


class Stage:
    """A watch thread that is driven by hand."""

    def __init__(self, *script: PassReport | WatchtowerError, node: Sequence[ChainInfo | WatchtowerError] = ()) -> None:
        self.core = ScriptedCore(script)
        self.node = deque(node)
        self.checks = 0
        self.wake = Wake()
        self.metrics = Metrics(build=("0", "0", "regtest", "sqlite"))
        self.board = ReadinessBoard(self.metrics)
        self.watch = Watch(
            core=self.core,
            contested=lambda: False,
            check_node=self._check,
            chain_info=chain,
            wake=self.wake,
            board=self.board,
            metrics=self.metrics,
            poll_seconds=15.0,
            block_found=lambda: self.found.append(self.watch.height),
        )
        self.found: list[int] = []

    def _check(self) -> ChainInfo:
        self.checks += 1
        answer = self.node.popleft() if self.node else chain()
        if isinstance(answer, WatchtowerError):
            raise answer
        return answer

    def turns(self, count: int) -> Stage:
        """Take turns as the thread would."""
        for _ in range(count):
            self.watch.take_turn(TURN)
        return self

    @property
    def reasons(self) -> list[str]:
        """Reasons that hold now."""
        return [reason.name for reason in self.board.snapshot().reasons]


def test_a_tower_at_the_tip_watches() -> None:
    """One start and it is caught up."""
    stage = Stage(report()).turns(1)
    assert ("watching", 1, 0) == (stage.board.snapshot().phase, stage.core.starts, stage.core.passes)


def test_blocks_found_at_the_tip_are_told() -> None:
    """Not those of a catch-up: they were announced before anybody listened."""
    lost = NodeUnavailable("refused")
    stage = Stage(report(90, connected=25), report(100, connected=10), report(101, connected=1), lost, report(103, 2))
    stage.turns(5)
    assert [101] == stage.found


def test_a_tower_behind_the_tip_does_not_watch_yet() -> None:
    """Two blocks behind is catching up."""
    assert "catching_up" == Stage(report(height=98)).turns(1).board.snapshot().phase


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NodeUnavailable("refused"), "node_unreachable"),
        (NodeAuthError("401"), "node_unreachable"),
        (NodeWarmingUp("-28"), "node_warming_up"),
        (BlockNotAvailable("pruned"), "block_unavailable"),
        (NodeError("odd"), "node_unreachable"),
        (WrongChain("mainnet"), "wrong_chain"),
        (StoreFull("disk"), "store_read_only"),
    ],
)
def test_every_error_is_a_reason_that_clears_by_itself(error: WatchtowerError, reason: str) -> None:
    """The pass failed, the thread goes on, and the next good pass takes the reason back."""
    stage = Stage(report(), error, report()).turns(2)
    held = stage.reasons
    stage.turns(1)
    assert [reason] == held
    assert [] == stage.reasons
    assert "watching" == stage.board.snapshot().phase


def test_an_error_of_the_follower_inside_a_report_counts() -> None:
    """The responder worked all the same, but the tower does not claim to watch."""
    stage = Stage(report(), report(error=BlockNotAvailable("pruned"))).turns(2)
    assert ["block_unavailable"] == stage.reasons
    assert "degraded" == stage.board.snapshot().phase


def test_a_tower_that_cannot_store_does_not_watch_once_blocks_pass_by() -> None:
    """Its cursor stands still: the reason holds without a break, and `watching` ends with the second block."""
    stuck = report(height=98, error=StoreFull("no space"))
    stage = Stage(report(height=100), report(height=99, error=StoreFull("no space"))).turns(2)
    before = stage.board.snapshot()
    stage.core.script.extend([stuck, stuck, report(height=100)])
    with capture_logs() as logs:
        stage.turns(2)
    behind = stage.board.snapshot()
    stage.turns(1)

    assert (True, False, True) == (before.watching, behind.watching, stage.board.snapshot().watching)
    assert ["store_read_only"] == [reason.name for reason in behind.reasons]
    assert [] == [entry for entry in logs if entry["event"] == "readiness_changed"]
    assert [] == stage.reasons


def test_the_node_is_checked_again_after_every_failure() -> None:
    """It may be another node now: network and topics are asked before the next pass."""
    stage = Stage(report(), NodeUnavailable("gone"), report(), report()).turns(4)
    assert 2 == stage.checks


def test_a_node_is_doubted_until_the_first_good_pass_and_on_another_chain() -> None:
    """Registrations ask the node: never before the cursor stands, never on another chain; an outage is no doubt."""
    stage = Stage(report(), NodeUnavailable("refused"), report(), node=[NodeUnavailable("away")])
    doubts = [type(stage.watch.node_doubt)]
    doubts += [type(stage.turns(1).watch.node_doubt) for _ in range(3)]
    stage.node.append(WrongChain("mainnet"))
    doubts += [type(stage.turns(1).watch.node_doubt) for _ in range(2)]
    nothing = type(None)
    assert [NodeUnavailable, NodeUnavailable, nothing, nothing, WrongChain, nothing] == doubts


def test_on_another_chain_nothing_is_done() -> None:
    """The core is not even started."""
    stage = Stage(report(), node=[WrongChain("mainnet")]).turns(1)
    assert ["wrong_chain"] == stage.reasons
    assert (0, 0) == (stage.core.starts, stage.core.passes)


def test_start_is_tried_until_it_succeeds() -> None:
    """A node that is missing at start-up delays the tower and does not end it."""
    stage = Stage(NodeUnavailable("a"), NodeUnavailable("b"), report(), report()).turns(4)
    assert (3, 1) == (stage.core.starts, stage.core.passes)


def test_a_node_that_still_downloads_is_not_trusted() -> None:
    """Initial download and missing blocks are a reason of their own."""
    stage = Stage(report(), node=[chain(blocks=90, headers=100)])
    stage.watch._chain_info = lambda: chain(blocks=90, headers=100)
    stage.turns(1)
    assert ["node_syncing"] == stage.reasons


@pytest.mark.slow
def test_a_broken_store_ends_the_thread_and_says_why() -> None:
    """After a failed fsync nothing that is in memory may be believed."""
    ended: list[bool] = []
    stage = Stage(StoreBroken("fsync"))
    stage.watch._on_end = lambda: ended.append(True)
    stage.watch.run()
    assert [True] == ended
    assert isinstance(stage.watch.failure, StoreBroken)


def test_a_pass_that_asks_for_another_gets_it() -> None:
    """A sweep has slices left: the flag is set again, without haste."""
    stage = Stage(report(again=True)).turns(1)
    turn = stage.wake.next_turn(stage.watch._pacer)
    assert turn is not None
    assert (True, False) == (turn.rung, turn.urgent)


def test_a_timer_that_nobody_outran_sweeps_the_mempool() -> None:
    """A pass that no bell asked for looks at everything, because ZMQ may be mute; a rung one looks where it rang."""
    stage = Stage(report(), report(), report(), node=[chain(), chain(), chain()])
    stage.watch.take_turn(TURN)
    stage.watch.take_turn(Turn(Hints(), rung=True, urgent=False))
    stage.watch.take_turn(TURN)

    assert [False, True] == [hints.full_sweep for hints in stage.core.hints]


def test_a_chain_that_moved_during_the_pass_is_urgent() -> None:
    """The next block may hold a breach."""
    moved = PassReport(FollowReport(moved_again=True), RespondReport(), 100, None, True)
    stage = Stage(moved).turns(1)
    turn = stage.wake.next_turn(stage.watch._pacer)
    assert turn is not None
    assert turn.urgent


def test_stopping_waits_for_the_present_turn() -> None:
    """The thread ends without failure when it is asked to."""
    stage = Stage(*[report() for _ in range(50)])
    stage.watch.start()
    assert stage.watch.stop(5.0)
    assert stage.watch.failure is None


def test_unknown_slugs_mean_try_again() -> None:
    """The default is the reason that leads to another try."""
    assert "node_unreachable" == reason_of(NodeError("new"))


def test_channels_that_are_not_served_are_logged_once() -> None:
    """When it begins and when its reason changes, not with every pass; the tower watches on."""

    def passed(*errors: WatchtowerError) -> PassReport:
        troubles = tuple(Trouble("c" * 23, error) for error in errors)
        return PassReport(FollowReport(), RespondReport(troubles=troubles), 100, None, again=False)

    full, odd = StoreFull("no space"), NodeError("odd")
    with capture_logs() as lines:
        stage = Stage(passed(full), passed(full), passed(odd), passed(), passed(odd)).turns(5)

    told = [line["reason"] for line in lines if line["event"] == "channel_not_served"]
    assert ["StoreFull: no space", "NodeError: odd", "NodeError: odd"] == told
    assert "watching" == stage.board.snapshot().phase
