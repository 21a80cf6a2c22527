"""The dashboards without Prometheus and Grafana: their files, style, schema, and the names in their queries."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.support.dashboards import drift, lint
from tests.support.dashboards.files import FOLDER, dashboards, panels, text
from tests.support.dashboards.panel import Document, scoped

BOARDS = {board["uid"]: board for board in dashboards()}
UNKNOWN_TO_THE_SCHEMA = {
    ".annotations.list[0].titleFormat",
    ".annotations.list[0].textFormat",
    ".annotations.list[1].titleFormat",
    ".annotations.list[1].textFormat",
}
"""Options of the Prometheus data source, which adds them to the annotations of the schema."""

ON_NO_PANEL = {
    "audit_runs_total",
    "breach_detection_delay_seconds",
    "breach_resolution_blocks",
    "breaches_resolved_total",
    "build_info",
    "chain_blocks_processed_total",
    "chain_last_block_processed_timestamp_seconds",
    "clients",
    "event_streams",
    "http_requests_in_flight",
    "penalty_fee_bumps_total",
    "penalty_unconfirmed",
    "zmq_connected",
}
"""Rows of the catalog for a question by hand: on no panel and in no rule."""


@pytest.fixture(params=sorted(BOARDS))
def board(request: pytest.FixtureRequest) -> Document:
    """Each dashboard as the generator makes it, to be changed at will."""
    return copy.deepcopy(BOARDS[request.param])


def test_files_are_what_the_generator_makes(board: Document) -> None:
    """A dashboard that was edited by hand, or a generator that was not run, is noticed (`make pages` mends it)."""
    assert text(board) == (FOLDER / f"{board['uid']}.json").read_text()


def test_no_other_dashboards_lie_there() -> None:
    """Every file has a generator."""
    assert sorted(f"{uid}.json" for uid in BOARDS) == sorted(path.name for path in FOLDER.iterdir())


def test_both_follow_the_rules(board: Document) -> None:
    """Variables, matchers, texts, units, counters and the grid are in order."""
    assert [] == lint.problems(board, drift.counters())


def _unscoped(board: Document) -> None:
    panels(board)[0]["targets"][0]["expr"] = 'min(watchtower_phase{job=~"$job"})'


def _naked_counter(board: Document) -> None:
    panels(board)[0]["targets"][0]["expr"] = scoped("sum(watchtower_http_requests_total)")


def _unclosed(board: Document) -> None:
    panels(board)[0]["targets"][0]["expr"] = "sum by ("


def _overlapping(board: Document) -> None:
    panels(board)[0]["gridPos"]["w"] += 1


def _too_wide(board: Document) -> None:
    panels(board)[0]["gridPos"] = {"x": 20, "y": 900, "w": 5, "h": 1}


def _silent(board: Document) -> None:
    panels(board)[0]["description"] = ""


def _without_unit(board: Document) -> None:
    del panels(board)[0]["fieldConfig"]["defaults"]["unit"]


def _editable(board: Document) -> None:
    board["editable"] = True


def _fixed_source(board: Document) -> None:
    panels(board)[0]["datasource"] = {"type": "prometheus", "uid": "mine"}


def _twins(board: Document) -> None:
    panels(board)[0]["id"] = panels(board)[1]["id"]


def _single_choice(board: Document) -> None:
    board["templating"]["list"][2]["multi"] = False


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (_unscoped, "is not limited by the variable instance"),
        (_naked_counter, "the counter watchtower_http_requests_total is shown as it is"),
        (_unclosed, "does not parse"),
        (_overlapping, "overlaps"),
        (_too_wide, "stands outside of the grid"),
        (_silent, "no description"),
        (_without_unit, "no unit"),
        (_editable, "can be edited in the browser"),
        (_fixed_source, "another source than the variable"),
        (_twins, "ids are not unique"),
        (_single_choice, "variable instance cannot mean all or several"),
    ],
)
def test_broken_rules_are_named(harm: Callable[[Document], None], complaint: str) -> None:
    """Each rule finds the dashboard that breaks it."""
    board = copy.deepcopy(BOARDS["watchtower-overview"])
    harm(board)
    assert complaint in " / ".join(lint.problems(board, drift.counters()))


def _lost(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Paths of what the second document lacks or has otherwise; what it has more are defaults."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        missing = [f"{path}.{name}" for name in ours if name not in theirs]
        pairs = [(f".{name}", ours[name], theirs[name]) for name in ours if name in theirs]
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        missing = []
        pairs = [(f"[{place}]", *each) for place, each in enumerate(zip(ours, theirs, strict=True))]
    else:
        return [] if ours == theirs else [path]
    return missing + [found for step, mine, yours in pairs for found in _lost(mine, yours, path + step)]


def _through_the_schema(board: Document) -> Any:
    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(board)))


def test_schema_knows_every_option(board: Document) -> None:
    """Nothing is lost on the way through Grafana's own types: a dropped key is a typo or no option of the panel."""
    assert UNKNOWN_TO_THE_SCHEMA == set(_lost(board, _through_the_schema(board)))


def test_schema_drops_what_it_does_not_know(board: Document) -> None:
    """An option of another panel, the kind of error that the round trip is for, is found."""
    number = board["panels"].index(panels(board)[0])
    panels(board)[0]["options"]["colourMode"] = "background"
    assert f".panels[{number}].options.colourMode" in _lost(board, _through_the_schema(board))


def test_queries_name_what_exists(board: Document) -> None:
    """Metrics, labels and label values of all queries are in the catalog or made by the recording rules."""
    assert [] == drift.misnamed(drift.queries(board), drift.recorded())


def test_rules_name_what_exists() -> None:
    """The same for recording rules and alerts of every network."""
    assert [] == drift.misnamed(drift.rule_expressions(), drift.recorded())


@pytest.mark.parametrize(
    ("expr", "complaint"),
    [
        ("watchtower_node_upp", "x: there is no watchtower_node_upp"),
        ('watchtower_phase{phaze="watching"}', "x: watchtower_phase has no label phaze"),
        ('watchtower_phase{phase=~"watching|sleeping"}', "x: phase is never 'sleeping'"),
    ],
)
def test_ghosts_are_named(expr: str, complaint: str) -> None:
    """A metric, a label and a value that do not exist are reported."""
    assert [complaint] == drift.misnamed([("x", expr)], ())


def test_rows_without_panel_and_rule_are_meant_to_be() -> None:
    """What no panel shows and no rule reads is on the list of drill-downs, and nothing else is."""
    named = [each for board in BOARDS.values() for each in drift.queries(board)]
    shown = drift.used(named) | drift.used(drift.rule_expressions())
    assert ON_NO_PANEL == {row.name for row in drift.CATALOG} - shown


def test_grafana_is_given_both_files() -> None:
    """The provisioning files parse and belong together: one source, one folder of dashboards."""
    base = FOLDER.parent / "provisioning"
    source = yaml.safe_load((base / "datasources" / "prometheus.yaml").read_text())["datasources"][0]
    provider = yaml.safe_load((base / "dashboards" / "watchtower.yaml").read_text())["providers"][0]
    assert ("prometheus", False) == (source["type"], source["editable"])
    assert ("file", False) == (provider["type"], provider["allowUiUpdates"])
