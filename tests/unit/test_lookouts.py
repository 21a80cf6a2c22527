"""What looks at the tower and its node from beside: tasks that come back, gauges of the node, and who wakes whom."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from domain.chain import BlockHash, BlockRef
from domain.fees import Market
from projections.watch_set import WatchSet
from tests.support.full_block import made_up_block
from watchtower.chain.facts import FollowReport
from watchtower.gauges.node import LOOK_SECONDS, NodeGauges
from watchtower.node.rpc import NodeVersion
from watchtower.ports import Answer, ChainInfo, NodeAuthError, NodeError, NodeUnavailable, StoreError
from watchtower.responder.runs import RespondReport
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.tasks import TaskReport
from watchtower.tower import PassReport
from watchtower.watch import recurring
from watchtower.watch.lookouts import Lookouts
from watchtower.watch.recurring import RecurringTask

SECONDS = 60.0
TIP = BlockRef(700, BlockHash(b"\x07" * 32))
BLOCK = made_up_block(3, 5)
"""No canary passes here: the node judges nothing."""


class Asked:
    """A node with fixed answers, or none."""

    def __init__(self) -> None:
        self.trouble: NodeError | None = None
        self.estimates: tuple[tuple[int, float], ...] = ((2, 12.5), (6, 4.0))
        self.blocks = threading.Semaphore(0)
        self.looks = threading.Semaphore(0)

    def chain_info(self) -> ChainInfo:
        """Block 700 of 701."""
        self.looks.release()
        if self.trouble is not None:
            raise self.trouble
        return ChainInfo("mainnet", 700, 701, TIP.hash, False, 550, 1_700_000_000)

    def version(self) -> NodeVersion:
        """Twelve peers."""
        return NodeVersion(290_400, "/Satoshi:29.4.0/", 4, 8)

    def fee_market(self, targets: tuple[int, ...]) -> Market:
        """Estimates for some of the targets."""
        assert targets == (1, 2, 3, 6)
        return Market(1.5, 1.0, 1.0, self.estimates)

    def block(self, _block_hash: bytes) -> bytes:
        """Count the question."""
        self.blocks.release()
        return BLOCK

    def test_accept(self, raw: bytes) -> Answer:
        """Away."""
        raise NodeUnavailable(f"away; {len(raw)} bytes were not judged")


class Index:
    """An empty watch index."""

    watched: frozenset[bytes] = frozenset()

    def marked(self, outpoint: bytes) -> bytearray:
        """As the real one."""
        return WatchSet().marked(outpoint)


@pytest.fixture
def metrics() -> Metrics:
    """A fresh registry."""
    return Metrics(build=("0", "0", "mainnet", "sqlite"), start=1_000.0)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """A metric as it is scraped, None if there is no such series."""
    return metrics.registry.get_sample_value(f"watchtower_{name}", labels)


@contextmanager
def started(task: RecurringTask) -> Iterator[None]:
    """A running task; it ends with the block."""
    task.start()
    try:
        yield
    finally:
        assert task.stop(SECONDS)


def counting(pause: float) -> tuple[Callable[[], float], threading.Semaphore]:
    """A turn that only counts itself."""
    turns = threading.Semaphore(0)

    def turn() -> float:
        turns.release()
        return pause

    return turn, turns


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_that_was_never_made_is_no_series(metrics: Metrics) -> None:
    """A tower without the task must not page for it; from its making on it is missed."""
    before = value(metrics, "task_up", task="canary")
    TaskReport(metrics, "canary")

    assert (None, 0) == (before, value(metrics, "task_up", task="canary"))
    assert (value(metrics, "task_last_progress_timestamp_seconds", task="canary") or 0) > 1_000


def test_a_task_turns_at_the_start_and_when_it_is_woken(metrics: Metrics) -> None:
    """An hour's pause ends with a ring; while it lives it is up, afterwards not."""
    turn, turns = counting(3_600.0)
    task = RecurringTask("canary", turn, metrics)
    with started(task):
        assert turns.acquire(timeout=SECONDS)
        up = value(metrics, "task_up", task="canary")
        task.wake()
        assert turns.acquire(timeout=SECONDS)

    assert (1, 0) == (up, value(metrics, "task_up", task="canary"))


def test_a_task_turns_when_its_time_comes(metrics: Metrics) -> None:
    """Nobody has to ring."""
    turn, turns = counting(0.001)
    with started(RecurringTask("node", turn, metrics)):
        assert all(turns.acquire(timeout=SECONDS) for _ in range(3))


def test_an_idle_task_shows_that_it_lives(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long pauses are cut into heartbeats, so that only a task that hangs looks stalled."""
    monkeypatch.setattr(recurring, "LONGEST_WAIT", 0.001)
    beats = threading.Semaphore(0)
    monkeypatch.setattr(TaskReport, "progressed", lambda _report: beats.release())
    turn, turns = counting(3_600.0)
    with started(RecurringTask("node", turn, metrics)):
        assert all(beats.acquire(timeout=SECONDS) for _ in range(5))

    assert (True, False) == (turns.acquire(blocking=False), turns.acquire(blocking=False))


def test_an_error_does_not_end_a_task(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told with its trace, counted, and the next turn comes."""
    monkeypatch.setattr(recurring, "RETRY_SECONDS", 0.001)
    turns = threading.Semaphore(0)

    def turn() -> float:
        turns.release()
        raise RuntimeError("boom")

    with capture_logs() as logs, started(RecurringTask("canary", turn, metrics)):
        assert all(turns.acquire(timeout=SECONDS) for _ in range(3))

    assert ("task_restarted", "canary", "RuntimeError: boom") == tuple(
        logs[0][key] for key in ("event", "task", "reason")
    )
    assert (value(metrics, "task_restarts_total", task="canary") or 0) >= 2


# ── gauges of the node ───────────────────────────────────────────────────────────────────────────────────


def test_the_node_is_shown(metrics: Metrics) -> None:
    """Heights, peers, the tip's time and feerates; what the node does not estimate is no series."""
    pause = NodeGauges(Asked(), metrics).turn()
    name = "node_estimated_feerate_sats_per_vbyte"

    assert (LOOK_SECONDS, 1) == (pause, value(metrics, "node_up"))
    assert (700, 701, 550) == tuple(value(metrics, f"node_{each}") for each in ("blocks", "headers", "pruned_height"))
    assert (4, 8) == tuple(value(metrics, "node_peers", direction=each) for each in ("inbound", "outbound"))
    assert 1_700_000_000 == value(metrics, "node_tip_timestamp_seconds")
    assert 1.5 == value(metrics, "node_mempool_min_feerate_sats_per_vbyte")
    assert [None, 12.5, None, 4.0] == [value(metrics, name, target_blocks=target) for target in ("1", "2", "3", "6")]


def test_before_the_first_answer_nothing_is_claimed(metrics: Metrics) -> None:
    """No peers, no tip of 1970: those series begin with the first answer."""
    assert None is value(metrics, "node_tip_timestamp_seconds")
    assert None is value(metrics, "node_peers", direction="outbound")


def test_a_node_that_is_away_keeps_its_last_values(metrics: Metrics) -> None:
    """Only `node_up` changes: how many peers it had, and where it stood, helps to find out why."""
    node = Asked()
    gauges = NodeGauges(node, metrics)
    gauges.turn()
    node.trouble = NodeUnavailable("connection refused")
    gauges.turn()

    assert (0, 700, 8) == (
        value(metrics, "node_up"),
        value(metrics, "node_blocks"),
        value(metrics, "node_peers", direction="outbound"),
    )


def test_an_estimate_that_ends_is_taken_back(metrics: Metrics) -> None:
    """An old feerate would mislead whoever compares a penalty with it."""
    node = Asked()
    gauges = NodeGauges(node, metrics)
    gauges.turn()
    node.estimates = ()
    gauges.turn()

    assert None is value(metrics, "node_estimated_feerate_sats_per_vbyte", target_blocks="6")


def test_an_answer_of_another_shape_is_told(metrics: Metrics) -> None:
    """The node answers, but not as expected: that is no outage."""
    node = Asked()
    node.trouble = NodeError("another shape")
    with capture_logs() as logs:
        NodeGauges(node, metrics).turn()

    assert ["rpc_failed"] == [line["event"] for line in logs]


def test_a_right_that_is_missing_is_no_node_that_is_away(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers cannot be asked for: the node is up all the same, and its feerates are shown."""
    node = Asked()

    def forbidden() -> NodeVersion:
        raise NodeAuthError("getnetworkinfo is not in rpcwhitelist")

    monkeypatch.setattr(node, "version", forbidden)
    with capture_logs() as logs:
        NodeGauges(node, metrics).turn()

    assert 1 == value(metrics, "node_up")
    assert 4.0 == value(metrics, "node_estimated_feerate_sats_per_vbyte", target_blocks="6")
    assert ["rpc_failed"] == [line["event"] for line in logs]


# ── both ─────────────────────────────────────────────────────────────────────────────────────────────────


def passed(*, again: bool = False, error: StoreError | None = None) -> PassReport:
    """The report of a pass."""
    return PassReport(FollowReport(moved_again=again), RespondReport(), 700, error, again)


def test_a_new_tip_wakes_both(metrics: Metrics) -> None:
    """After a pass in order, once for each block: the canary fetches the block, the node is asked."""
    node = Asked()
    lookouts = Lookouts(node=node, models=Index(), rng=bytes, metrics=metrics)
    lookouts.start()
    assert node.looks.acquire(timeout=SECONDS)
    lookouts.passed(passed(again=True), TIP, 10)
    lookouts.passed(passed(error=StoreError("no")), TIP, 10)
    early = node.blocks.acquire(blocking=False)
    lookouts.passed(passed(), TIP, 30)
    woken = (node.blocks.acquire(timeout=SECONDS), node.looks.acquire(timeout=SECONDS))
    lookouts.passed(passed(), TIP, 30)

    assert (False, (True, True)) == (early, woken)
    assert lookouts.stop(SECONDS)
    assert not node.blocks.acquire(blocking=False)
    assert 30 == value(metrics, "chain_transactions_scanned_total", source="block")
