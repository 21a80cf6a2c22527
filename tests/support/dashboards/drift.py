"""What dashboards and rules say about metrics, held against the catalog."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml

from tests.support.dashboards.files import panels
from tests.support.dashboards.panel import Document
from tests.support.dashboards.promql import Match, Selector, selectors, substituted
from watchtower.telemetry.catalog import CATALOG, OPEN, Metric

PREFIX = "watchtower_"
RULES = Path(__file__).parents[3] / "deploy" / "prometheus" / "rules"
PROCESS = frozenset(
    {
        "process_start_time_seconds",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    }
)
"""Of the metrics client itself."""

ALERTS = "ALERTS"
"""Prometheus' own series of the alerts."""

SCOPE = ("job", "instance")
_PLAIN = re.compile(r"[\w|]+")


def exposed(catalog: Iterable[Metric] = CATALOG) -> dict[str, Metric]:
    """Every series name that the service has, with its row."""
    made: dict[str, Metric] = {}
    for row in catalog:
        ends = ("_bucket", "_sum", "_count") if row.kind == "histogram" else ("",)
        made |= {f"{PREFIX}{row.name}{end}": row for end in ends}
    return made


def counters(catalog: Iterable[Metric] = CATALOG) -> set[str]:
    """Names of series that only grow."""
    rows = exposed(catalog).items()
    return {name for name, row in rows if row.kind in ("counter", "histogram")} | {"process_cpu_seconds_total"}


def queries(board: Document) -> Iterator[tuple[str, str]]:
    """(where, expression with variables) of all panels, and of annotations."""
    for panel in panels(board):
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for annotation in board["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]


def rule_expressions(folder: Path = RULES) -> Iterator[tuple[str, str]]:
    """(name of the record or alert, expression) of all rule files."""
    yield from _rules(folder)


@functools.cache
def _rules(folder: Path) -> tuple[tuple[str, str], ...]:
    files = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.y*ml"))]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"]]
    return tuple((rule.get("record") or rule["alert"], rule["expr"]) for rule in rules)


def recorded(folder: Path = RULES) -> set[str]:
    """Names that the recording rules make."""
    return {name for name, _ in rule_expressions(folder) if ":" in name}


def misnamed(named: Iterable[tuple[str, str]], also: Iterable[str]) -> list[str]:
    """Metrics, labels and label values in expressions that nothing exposes; `also` are further known names."""
    known, others = exposed(), {*also, ALERTS, *PROCESS, "up"}
    found: list[str] = []
    for where, expr in named:
        for selector in selectors(substituted(expr)):
            row = known.get(selector.name)
            if row is not None:
                found += [f"{where}: {text}" for text in _mismatches(selector, row)]
            elif selector.name not in others:
                found.append(f"{where}: there is no {selector.name}")
    return found


def used(named: Iterable[tuple[str, str]]) -> set[str]:
    """Names of the catalog's rows, without prefix, that expressions read."""
    known = exposed()
    chosen = (selector.name for _, expr in named for selector in selectors(substituted(expr)))
    return {known[name].name for name in chosen if name in known}


def _mismatches(selector: Selector, row: Metric) -> Iterator[str]:
    labels: Mapping[str, tuple[str, ...]] = dict(row.labels)
    for match in selector.matches:
        if match.label in SCOPE or (match.label == "le" and selector.name.endswith("_bucket")):
            continue
        if match.label not in labels:
            yield f"{selector.name} has no label {match.label}"
        elif labels[match.label] != OPEN:
            yield from (f"{match.label} is never {each!r}" for each in _named(match) if each not in labels[match.label])


def _named(match: Match) -> list[str]:
    """The values that a matcher writes out; none for a real pattern."""
    return match.value.split("|") if _PLAIN.fullmatch(match.value) else []
