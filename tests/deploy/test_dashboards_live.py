"""The dashboards on a real Prometheus that scrapes a real tower with real breaches."""

from __future__ import annotations

import copy
import time
from pathlib import Path

import pytest

from tests.support.dashboards import drift
from tests.support.dashboards.evaluate import Findings, Window, evaluate, variables
from tests.support.dashboards.files import dashboards, panels
from tests.support.dashboards.panel import Document
from tests.support.dashboards.play import JOB, play, watched_tower
from tests.support.dashboards.server import Prometheus
from tests.support.live_tower import LiveTower

pytestmark = pytest.mark.deploy

MAY_BE_EMPTY = {
    ("Feerates", "A"): "a regtest node has too few transactions to estimate from",
}
"""Queries without a number after everything that `play` does, and why."""

ABSENT = {
    "node_estimated_feerate_sats_per_vbyte": "a regtest node has too few transactions to estimate from",
    "breach_oldest_unanswered_timestamp_seconds": "the tower has answered every breach",
}
"""Rows of the catalog without a series after everything that `play` does, and why."""


def test_every_query_shows_what_really_happened(tmp_path: Path) -> None:
    """No query fails, none is empty that should not be, all rules are evaluated, and broken panels are reported."""
    began = time.time()
    with watched_tower(tmp_path) as (live, prometheus):
        play(live)
        prometheus.wait_seen()
        window = Window(began, time.time())
        _assert_complete(prometheus, window)
        _assert_broken_ones_are_found(prometheus, window)
        _assert_rules_work(prometheus)
        _assert_exposed(live)


def _assert_complete(prometheus: Prometheus, window: Window) -> None:
    found = [evaluate(board, prometheus, window) for board in dashboards()]
    assert [] == [text for each in found for text in each.failed]
    assert set(MAY_BE_EMPTY) == set().union(*(each.empty for each in found))
    assert sum(each.asked for each in found) >= 90
    assert [JOB] == variables(dashboards()[0], prometheus)["job"]


def _broken(board: Document) -> Document:
    """The same dashboard with a misspelled metric in its first panel and an open clause in its second."""
    made = copy.deepcopy(board)
    first, second = panels(made)[:2]
    first["targets"][0]["expr"] = first["targets"][0]["expr"].replace("watchtower_phase", "watchtower_phaze")
    second["targets"][0]["expr"] = "sum by (" + second["targets"][0]["expr"]
    return made


def _assert_broken_ones_are_found(prometheus: Prometheus, window: Window) -> None:
    board = dashboards()[0]
    good, bad = (_mistakes(evaluate(each, prometheus, window)) for each in (board, _broken(board)))
    assert {("Watching", "A"), ("Node reachable", "A")} == bad - good


def _mistakes(findings: Findings) -> set[tuple[str, str]]:
    refused = {("Node reachable", "A") for text in findings.failed if text.startswith("('Node reachable', 'A')")}
    return findings.empty | refused


def _assert_rules_work(prometheus: Prometheus) -> None:
    rules = prometheus.rules()
    assert [] == [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"]
    assert drift.recorded() <= {rule["name"] for rule in rules}
    assert drift.recorded() == {name for name in drift.recorded() if prometheus.query(name)}


def _assert_exposed(live: LiveTower) -> None:
    """The service has every series of the catalog."""
    text = live.metrics()
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    missing = {row.name for name, row in drift.exposed().items() if name not in names}
    assert set(ABSENT) == missing
