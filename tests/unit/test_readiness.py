"""Readiness: no claim to watch without proof."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from tests.unit.test_metrics import samples
from watchtower.telemetry.catalog import BLOCKING_REASONS, OTHER_REASONS
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import Readiness, ReadinessBoard


@pytest.fixture
def seen() -> list[Readiness]:
    """What a listener was told."""
    return []


@pytest.fixture
def board(seen: list[Readiness]) -> ReadinessBoard:
    """A board at the start of the process."""
    board = ReadinessBoard(Metrics(build=("0", "0", "regtest", "sqlite")))
    board.listen(seen.append)
    return board


def test_it_watches_only_when_loaded_and_caught_up(board: ReadinessBoard, seen: list[Readiness]) -> None:
    """The phases of an undisturbed start come in their order."""
    assert "starting" == board.snapshot().phase
    board.loaded()
    board.progress(caught_up=True)
    assert ["catching_up", "watching"] == [state.phase for state in seen]
    assert board.snapshot().watching


@pytest.mark.parametrize("reason", BLOCKING_REASONS)
def test_a_blocking_reason_ends_watching_until_it_clears(board: ReadinessBoard, reason: str) -> None:
    """Each of them degrades, says what to do, and clears by itself."""
    board.loaded()
    board.progress(caught_up=True)
    board.set(reason, "seen in a test")
    degraded = board.snapshot()
    board.clear(reason)
    assert ("degraded", False, reason) == (degraded.phase, degraded.watching, degraded.reasons[0].name)
    assert "seen in a test" == degraded.reasons[0].detail
    assert len(degraded.reasons[0].sentence) > 20
    assert board.snapshot().watching


def test_silence_of_zmq_does_not_end_watching(board: ReadinessBoard) -> None:
    """Polling does the same work; the reason is shown all the same."""
    board.loaded()
    board.progress(caught_up=True)
    board.set("zmq_silent")
    assert board.snapshot().watching
    assert ["zmq_silent"] == [reason.name for reason in board.snapshot().reasons]


def test_draining_is_the_last_phase(board: ReadinessBoard) -> None:
    """Nothing leads back from a stop."""
    board.draining()
    board.loaded()
    board.progress(caught_up=True)
    assert "draining" == board.snapshot().phase


def test_an_unknown_reason_is_a_mistake(board: ReadinessBoard) -> None:
    """Reasons are a closed list that alerts read."""
    with pytest.raises(KeyError):
        board.set("bad_mood")


@pytest.mark.parametrize("reason", BLOCKING_REASONS + OTHER_REASONS)
def test_a_reason_that_comes_and_goes_is_counted_and_logged(reason: str) -> None:
    """Set by one pass and cleared by the next, it falls between two scrapes: the counter and the log still tell."""
    metrics = Metrics(build=("0", "0", "regtest", "sqlite"))
    flapping = ReadinessBoard(metrics)
    with capture_logs() as logs:
        for _ in range(3):
            flapping.set(reason, "observed")
            flapping.set(reason, "observed again")
            flapping.clear(reason)
    told = samples(metrics)

    assert (0.0, 3.0) == (
        told["watchtower_not_ready", (reason,)],
        told["watchtower_readiness_changes_total", (reason,)],
    )
    assert [True, False] * 3 == [line["holds"] for line in logs if line["event"] == "readiness_changed"]
