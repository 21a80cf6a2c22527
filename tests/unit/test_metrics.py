"""Metrics: the catalog's rules, children from the start, gauges that are absent in quiet times."""

from __future__ import annotations

import asyncio
import re
import threading
import time

import httpx
import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.bench.metrics_render import samples as sample_count
from tests.bench.metrics_render import worst_case
from watchtower.http.app import create_admin_app
from watchtower.telemetry.catalog import CATALOG
from watchtower.telemetry.exposition import NotExposed
from watchtower.telemetry.metrics import Metrics

BUILD = ("0.1.0", "unknown", "regtest", "sqlite")


@pytest.fixture
def metrics() -> Metrics:
    """A fresh registry."""
    return Metrics(build=BUILD, routes={"/v1/channels": ("GET", "POST")}, start=1_700_000_000.0)


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Name and label values -> value, as a scraper reads it."""
    text = metrics.render().decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_child_exists_before_the_first_event(metrics: Metrics) -> None:
    """A counter that appears with its first event is invisible to `increase()`."""
    found = samples(metrics)
    assert 0 == found["watchtower_penalty_broadcasts_total", ("accepted",)]
    assert 0 == found["watchtower_breaches_detected_total", ("mempool",)]
    assert 0 == found["watchtower_http_requests_total", ("200", "GET", "/v1/channels")]
    assert 0 == found["watchtower_breach_response_seconds_bucket", ("60.0",)]


def test_no_timestamp_is_zero(metrics: Metrics) -> None:
    """`time() - 0` would page at once, so each timestamp begins with the start of the process."""
    stamps = {key: value for key, value in samples(metrics).items() if key[0].endswith("_timestamp_seconds")}
    assert {1_700_000_000.0} == set(stamps.values())


def test_optional_gauges_are_absent_until_they_have_a_value(metrics: Metrics) -> None:
    """No breach means no series, not 0 blocks left; the end of the breach removes it again."""
    key = ("watchtower_breach_min_remaining_blocks", ())
    assert key not in samples(metrics)
    metrics.set("breach_min_remaining_blocks", value=12)
    assert 12 == samples(metrics)[key]
    metrics.set("breach_min_remaining_blocks", value=None)
    assert key not in samples(metrics)


def test_optional_gauges_have_labels(metrics: Metrics) -> None:
    """Each series comes and goes by itself; a label outside the closed list is a mistake."""
    name = "watchtower_node_estimated_feerate_sats_per_vbyte"
    metrics.set("node_estimated_feerate_sats_per_vbyte", "2", value=3.5)
    metrics.set("node_estimated_feerate_sats_per_vbyte", "6", value=1.5)
    metrics.set("node_estimated_feerate_sats_per_vbyte", "2", value=None)
    assert {(name, ("6",)): 1.5} == {key: value for key, value in samples(metrics).items() if key[0] == name}
    with pytest.raises(ValueError, match="no value of the label"):
        metrics.set("node_estimated_feerate_sats_per_vbyte", "7", value=1)


def test_no_created_series(metrics: Metrics) -> None:
    """They double the size for nothing."""
    assert [] == [name for name, _labels in samples(metrics) if name.endswith("_created")]


def test_two_registries_share_nothing(metrics: Metrics) -> None:
    """A registry is an object; counting in one is not seen in another."""
    other = Metrics(build=BUILD)
    metrics.count("chain_reorgs_total")
    assert 1 == samples(metrics)["watchtower_chain_reorgs_total", ()]
    assert 0 == samples(other)["watchtower_chain_reorgs_total", ()]


def test_unknown_label_values_do_not_grow_the_registry(metrics: Metrics) -> None:
    """A path or method from outside becomes `unmatched` or `other`; where there is no such value it is a mistake."""
    before = len(samples(metrics))
    metrics.count("http_requests_total", "BREW", "/wp-admin", "418")
    metrics.count("http_requests_total", "PUT", "/v1/channels", "405")
    metrics.count("node_rpc_requests_total", "stop", "ok")
    assert 1 == samples(metrics)["watchtower_http_requests_total", ("other", "other", "unmatched")]
    assert 1 == samples(metrics)["watchtower_http_requests_total", ("405", "other", "unmatched")]
    assert 1 == samples(metrics)["watchtower_node_rpc_requests_total", ("other", "ok")]
    assert before == len(samples(metrics))
    with pytest.raises(ValueError, match="no value of the label"):
        metrics.count("breaches_detected_total", "rumor")


def test_a_state_gauge_has_one_current_value(metrics: Metrics) -> None:
    """Exactly one phase is 1."""
    metrics.one_of("phase", "catching_up")
    metrics.one_of("phase", "watching")
    phases = {labels[0]: value for (name, labels), value in samples(metrics).items() if name == "watchtower_phase"}
    assert ["watching"] == [phase for phase, value in phases.items() if value]


def test_names_follow_the_rules() -> None:
    """Counters end in _total, others do not; no identifier is a label; `time` has a unit."""
    wrong = [row.name for row in CATALOG if row.name.endswith("_total") != (row.kind == "counter")]
    labels = {label for row in CATALOG for label, _values in row.labels}
    assert [] == wrong
    assert [] == [row.name for row in CATALOG if not re.fullmatch(r"[a-z][a-z_]*[a-z]", row.name) or not row.help]
    assert set() == labels & {"channel", "txid", "outpoint", "height", "pubkey", "ip", "path"}
    assert len(CATALOG) == len({row.name for row in CATALOG})


def test_the_process_is_seen(metrics: Metrics) -> None:
    """Restart loops are found by the process start time."""
    assert 0 < samples(metrics)["process_start_time_seconds", ()] <= time.time()


@pytest.fixture
def full() -> Metrics:
    """The real routes, and every series that an optional gauge can have."""
    return worst_case(version='a"b\\c\nd')


def test_the_text_is_that_of_the_library(full: Metrics) -> None:
    """Byte for byte, escapes included, also when values have changed since the text was first put together."""
    for value in (float("inf"), 1e-9, 1_700_000_000.123456, 0.0):
        full.set("breach_at_risk_sats", value=value)
        full.observe("event_loop_lag_seconds", value=value)

        assert lasting(prometheus_client.generate_latest(full.registry)) == lasting(full.render())


def lasting(page: bytes) -> list[bytes]:
    """The lines of a page without what the process has used meanwhile."""
    return [line for line in page.splitlines() if not line.startswith(b"process_")]


def test_an_unknown_kind_of_metric_is_refused(metrics: Metrics) -> None:
    """Nobody finds out by a panel that stays empty."""
    prometheus_client.Summary("watchtower_odd", "Odd.", registry=metrics.registry)
    with pytest.raises(NotExposed, match="watchtower_odd is a summary"):
        metrics.render()


def test_the_exposition_stays_small(full: Metrics) -> None:
    """With every series that can exist there are at most 1,900 samples in 180 kB."""
    page = full.render()

    assert (True, True) == (sample_count(page) <= 1_900, len(page) < 180_000)


@pytest.mark.asyncio
async def test_a_scrape_does_not_hold_the_loop() -> None:
    """The page is written in a thread: meanwhile the loop does what the page waits for here."""
    freed = threading.Event()

    def render() -> bytes:
        return b"free" if freed.wait(10) else b"held"

    client = httpx.AsyncClient(transport=httpx.ASGITransport(create_admin_app(render)), base_url="http://tower")
    scrape = asyncio.create_task(client.get("/metrics"))
    await asyncio.sleep(0.01)
    freed.set()

    assert "free" == (await scrape).text
    await client.aclose()


def test_nothing_from_outside_adds_a_series(full: Metrics) -> None:
    """Hostile methods, addresses and codes, and answers of the node: whoever sends them, the page keeps its length."""
    before = sample_count(full.render())
    for number in range(300):
        full.count("http_requests_total", f"M{number}", f"/{number}", str(number))
        full.count("http_requests_total", "POST", "/healthz", str(number))
        full.observe("http_request_duration_seconds", f"/{number}", value=number)
        full.count("node_rpc_requests_total", f"m{number}", "ok")
        full.observe("node_rpc_duration_seconds", f"m{number}", value=number)

    assert before == sample_count(full.render())
