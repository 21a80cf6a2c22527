"""Rules for Prometheus: the files are the generated ones, every alert has its tests, names and labels exist."""

from __future__ import annotations

import re

import pytest

from tests.support import rules_money, rules_tower
from tests.support.rules import MAINNET, NETWORKS, RECORDINGS, REGTEST, Alert, Recording
from tests.support.rules_baseline import ABSENT, healthy
from tests.support.rules_cases import suites
from tests.support.rules_files import DIRECTORY, files
from tests.support.rules_groups import alerts
from tests.support.rules_promql import Selector, grouping_labels, read_by, selectors
from watchtower.telemetry.catalog import BLOCKING_REASONS, CATALOG, INCIDENTS, OPEN, OTHER_REASONS, Metric
from watchtower.telemetry.metrics import PREFIX

FOREIGN = {"up", "process_start_time_seconds"}
"""Series that Prometheus itself and its client library make."""

SCRAPED = {"job", "instance"}
HISTOGRAM_PARTS = ("_bucket", "_count", "_sum")
ROWS = {metric.name: metric for metric in CATALOG}
RECORDED = {row.name: row.expression for row in RECORDINGS}
EVERY = [alert for network in NETWORKS for alert in alerts(network)]


def metric_of(name: str) -> Metric:
    """The row of the catalog behind a series; KeyError for one that no tower exports."""
    plain = name.removeprefix(PREFIX)
    stems = [plain.removesuffix(part) for part in HISTOGRAM_PARTS if plain.endswith(part)]
    histograms = [ROWS[stem] for stem in stems if stem in ROWS and ROWS[stem].kind == "histogram"]
    return histograms[0] if histograms else ROWS[plain]


def labels_of(name: str) -> dict[str, tuple[str, ...]]:
    """Label -> all values of a series that a tower exports; `*` where they are given at start."""
    if name in FOREIGN:
        return {}
    row = metric_of(name)
    bounds = {"le": (*(str(float(bound)) for bound in row.bounds), "+Inf")} if name.endswith("_bucket") else {}
    return {**dict(row.labels), **bounds}


def mistakes(selector: Selector) -> list[str]:
    """What a selector asks for and no tower has: labels, and values that match none of the catalog's."""
    known, found = labels_of(selector.name), []
    for label, operator, value in selector.matchers:
        if label not in known and label not in SCRAPED:
            found.append(f"{selector.name} has no label {label}")
            continue
        alternatives = value.split("|") if operator in ("=~", "!~") else [re.escape(value)]
        allowed = known.get(label, OPEN)
        dead = [each for each in alternatives if not any(re.fullmatch(each, one) for one in allowed)]
        found += [f"{selector.name}: no {label} is {each}" for each in dead if allowed != OPEN]
    return found


def known_to(rule: Alert | Recording) -> set[str]:
    """Labels of the series that a rule reads."""
    return SCRAPED.union(*(labels_of(name) for name in read_by(rule.expression, RECORDED)))


def named_by(rule: Alert | Recording) -> set[str]:
    """Labels that a rule groups by, joins on or shows."""
    texts = f"{rule.summary} {rule.description}" if isinstance(rule, Alert) else ""
    return grouping_labels(rule.expression) | set(re.findall(r"\$labels\.(\w+)", texts))


def test_files_are_the_generated_ones() -> None:
    """What is checked in is what the rules say; `make pages` writes it again."""
    found = {str(path.relative_to(DIRECTORY)): path.read_text() for path in DIRECTORY.glob("*/*.yml")}
    assert files() == found


def test_every_alert_has_a_test_that_makes_it_fire() -> None:
    """The alerts and what the tests of promtool expect are the same set."""
    fired = {name for cases in suites().values() for case in cases for name in case.fires}
    assert {alert.name for alert in alerts()} == fired | {"WatchtowerDeadMansSwitch"}


def test_alert_names_are_unique() -> None:
    """Two alerts with one name would share a section of the runbook and an inhibition."""
    names = [alert.name for alert in alerts()]
    assert sorted(set(names)) == sorted(names)


def test_selectors_name_what_towers_export() -> None:
    """Metric, label and every alternative of a matched value are in the catalog."""
    read = {each for rule in [*EVERY, *RECORDINGS] for each in selectors(rule.expression)}
    assert [] == [wrong for each in read if each.name not in RECORDED for wrong in mistakes(each)]


def test_groupings_and_templates_name_labels_that_exist() -> None:
    """A sum by, a join on, or a text with a label that no series has would be silently empty."""
    unknown = {rule.name: named_by(rule) - known_to(rule) for rule in [*EVERY, *RECORDINGS]}
    assert {} == {name: labels for name, labels in unknown.items() if labels}


def test_labels_of_texts_survive_the_expression() -> None:
    """What a summary names is still there when the expression sums."""
    missing = [
        (alert.name, label)
        for alert in alerts()
        for label in re.findall(r"\$labels\.(\w+)", alert.summary)
        if "by (" in alert.expression and label not in grouping_labels(alert.expression)
        if not alert.expression.startswith(("job_", "instance_"))
    ]
    assert [] == missing


def test_a_name_that_does_not_exist_is_found() -> None:
    """The check itself sees a wrong metric, a wrong label and a wrong value."""
    with pytest.raises(KeyError):
        labels_of("watchtower_no_such_metric")
    wrong = 'watchtower_phase{phase="watchin"} + watchtower_phase{stage="watching"}'
    expected = [["watchtower_phase: no phase is watchin"], ["watchtower_phase has no label stage"]]
    assert expected == [mistakes(each) for each in selectors(wrong)]


def test_baseline_holds_every_series_that_rules_read() -> None:
    """A rule that reads a series which the healthy tower lacks could not be seen to stay quiet."""
    read = set().union(*(read_by(alert.expression, RECORDED) for alert in alerts()))
    assert read == {name.partition("{")[0] for name in healthy()} | set(ABSENT)


def test_baseline_has_the_labels_of_the_catalog() -> None:
    """The healthy tower exports each series with exactly the labels and values that a tower has."""
    series = [(name.partition("{")[0], dict(re.findall(r'(\w+)="([^"]*)"', name))) for name in healthy()]
    wrong = [
        (name, labels)
        for name, labels in series
        if set(labels) != SCRAPED | set(labels_of(name))
        or any(allowed != OPEN and labels[label] not in allowed for label, allowed in labels_of(name).items())
    ]
    assert [] == wrong


def test_every_readiness_reason_reaches_somebody() -> None:
    """No reason for which protection is weaker goes without an alert."""
    elsewhere = {
        "node_unreachable": "WatchtowerNodeUnreachable",
        "store_unreachable": "WatchtowerStoreUnreachable",
        "tip_stale": "WatchtowerTipStale",
        "zmq_silent": "WatchtowerZmqDegraded",
        "standby": "WatchtowerNobodyLeads",
        "task_stalled": "WatchtowerTaskStalled",
    }
    covered = {*rules_tower.CRITICAL, *rules_tower.WAITING, *elsewhere}
    assert set(BLOCKING_REASONS + OTHER_REASONS) == covered
    assert set(elsewhere.values()) <= {alert.name for alert in alerts()}


def test_every_incident_reaches_somebody() -> None:
    """Each kind of alert that a channel can raise is in one alert of Prometheus."""
    single = {"funds_lost", "output_claimed_by_counterparty", "equivocation"}
    assert set(INCIDENTS) == {*rules_money.SPENDS, *rules_money.HINDERED, *rules_money.FOR_THE_PARTY, *single}


def test_networks_differ_in_thresholds_only() -> None:
    """Signet has all alerts; regtest lacks those that make no sense where blocks are made by hand."""
    per_network = [{alert.name for alert in alerts(network)} for network in NETWORKS]
    ages = {"CanaryStale", "AuditStale", "TipStale", "ZmqSilent", "ClientsSilent", "NodeIsolated", "NodeFewPeers"}
    assert per_network[0] == per_network[1]
    assert {f"Watchtower{name}" for name in ages} == per_network[0] - per_network[2]
    assert {alert.name for alert in alerts(REGTEST)} < {alert.name for alert in alerts(MAINNET)}
