"""Timings and failures of the log in the metrics, and the bounds that service levels are computed from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stores import new_log, note
from tests.unit.test_metrics import samples
from watchtower.ports import StoreAway, StoreBroken, StoreBusy, StoreConflict, StoreError, StoreFull
from watchtower.store.create import open_store
from watchtower.store.observing import failure_kind
from watchtower.telemetry.catalog import CATALOG
from watchtower.telemetry.commit_times import CommitTimes
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.store_meter import StoreMeter


@pytest.fixture
def metrics() -> Metrics:
    """A fresh registry."""
    return Metrics(build=("0", "0", "regtest", "sqlite"), routes={"/v1/states": ("POST",)})


def test_a_conflict_is_an_error_of_its_own_kind(metrics: Metrics) -> None:
    """Conflicts are retried; the alarm about the store leaves them out."""
    StoreMeter(metrics, lambda: None)("append_failed", 0.0, "integrity")
    found = samples(metrics)
    assert 1 == found["watchtower_event_store_errors_total", ("integrity", "insert_events")]
    assert 0 == found["watchtower_event_store_operation_seconds_count", ("insert_events",)]


@pytest.mark.parametrize(
    ("meant", "cause", "kind"),
    [
        (StoreConflict("s", 1, 2), None, "integrity"),
        (StoreBusy("locked"), None, "operational"),
        (StoreAway("gone"), None, "operational"),
        (StoreFull("full"), None, "operational"),
        (StoreBroken("broken"), None, "operational"),
        (StoreError("refused"), type("InterfaceError", (Exception,), {})(), "interface"),
        (StoreError("refused"), ValueError(), "other"),
    ],
)
def test_failures_have_four_kinds(meant: StoreError, cause: Exception | None, kind: str) -> None:
    """By what the caller is told, and for the rest by what the driver raised."""
    assert kind == failure_kind(meant, cause)


def test_only_commits_of_the_pass_thread_count_as_its_progress(metrics: Metrics) -> None:
    """What clients store is no sign that anybody looks at the chain."""
    stored: list[int] = []
    meter = StoreMeter(metrics, lambda: stored.append(1))
    for operation, kind in (("append", "client"), ("append", "chain"), ("read_log", ""), ("commit", "chain")):
        meter(operation, 0.003, kind)

    found = samples(metrics)
    assert [1] == stored
    assert 2 == found["watchtower_event_store_operation_seconds_bucket", ("0.005", "insert_events")]
    assert 1 == found["watchtower_event_store_operation_seconds_count", ("select_notifications",)]


def test_a_commit_that_conflicts_is_counted_by_the_store(tmp_path: Path, metrics: Metrics) -> None:
    """A second first event of a stream is refused, and shows."""
    with open_store(new_log(tmp_path), observe=StoreMeter(metrics, lambda: None)) as store:
        store.append([note("s", 1)])
        with pytest.raises(StoreConflict):
            store.append([note("s", 1, height=2)])

    assert 1 == samples(metrics)["watchtower_event_store_errors_total", ("integrity", "insert_events")]


def test_commit_times_are_those_of_the_commit_that_holds_an_event() -> None:
    """Events 1 to 5 were written at second 10, 6 to 9 at second 20; what was not noted is from now."""
    seconds = iter((10.0, 20.0, 30.0))
    times = CommitTimes(lambda: next(seconds))
    times.note(5)
    times.note(9)

    assert [10.0, 10.0, 20.0, 30.0] == [times.of(event_id) for event_id in (1, 5, 6, 10)]


def test_service_levels_have_their_bounds(metrics: Metrics) -> None:
    """An answer within 60 s, a stored state within 250 ms, a deep reorg beyond 3: as queries write the bounds."""
    found = samples(metrics)
    assert ("watchtower_breach_response_seconds_bucket", ("60.0",)) in found
    assert ("watchtower_http_request_duration_seconds_bucket", ("0.25", "/v1/states")) in found
    assert ("watchtower_chain_reorg_depth_blocks_bucket", ("3.0",)) in found


def test_bounds_of_the_contract_are_kept() -> None:
    """Alerts and service levels name them; whoever changes one changes those."""
    answer = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
    expected = {
        "breach_detection_delay_seconds": answer,
        "breach_response_seconds": answer,
        "breach_resolution_blocks": (0, 1, 2, 3, 6, 12, 24, 48, 72, 144),
        "event_store_operation_seconds": (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
        "http_request_duration_seconds": (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    }
    assert expected == {row.name: row.bounds for row in CATALOG if row.name in expected}
