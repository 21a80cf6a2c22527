"""Every query of a dashboard, asked of a real Prometheus: what fails, and what shows nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import msgspec

from tests.support.dashboards.files import panels
from tests.support.dashboards.panel import Document
from tests.support.dashboards.promql import EVERYTHING, substituted
from tests.support.dashboards.server import Prometheus, QueryFailed, Series

VALUES = EVERYTHING | {"$__rate_interval": "10s", "$__interval": "5s"}
"""Windows that suit a scrape every second."""

STEP_SECONDS = 1.0
_NAMED = re.compile(r"\{\{(\w+)\}\}")
_VARIABLE = re.compile(r"label_values\((?P<selector>.+), (?P<label>\w+)\)")


class Window(msgspec.Struct, frozen=True):
    """Unix times between which something happened."""

    start: float
    end: float


class Findings(msgspec.Struct, frozen=True):
    """`failed` are complaints, `empty` the queries without any number: (panel or other place, letter or name)."""

    failed: list[str]
    empty: set[tuple[str, str]]
    asked: int


def evaluate(board: Document, prometheus: Prometheus, window: Window) -> Findings:
    """Panels, annotations and variables of a dashboard. Single numbers are asked for at the window's end."""
    failed: list[str] = []
    empty: set[tuple[str, str]] = set()
    asked = 0
    for place, expr, legend, instant in _queries(board):
        asked += 1
        try:
            found = _ask(prometheus, expr, window, instant=instant)
        except QueryFailed as error:
            failed.append(f"{place}: {error}")
            continue
        if not found:
            empty.add(place)
        failed += [f"{place}: no label {each} for the legend" for each in _unnamed(legend, found)]
    for name, values in variables(board, prometheus).items():
        asked += 1
        if not values:
            empty.add(("variable", name))
    return Findings(failed, empty, asked)


def variables(board: Document, prometheus: Prometheus) -> Mapping[str, list[str]]:
    """What the choices of a dashboard offer."""
    found = {}
    for each in board["templating"]["list"]:
        if each["type"] == "query":
            match = _VARIABLE.fullmatch(each["query"]["query"])
            assert match is not None, each
            found[each["name"]] = prometheus.label_values(match["label"], substituted(match["selector"], VALUES))
    return found


def _queries(board: Document) -> Iterator[tuple[tuple[str, str], str, str, bool]]:
    for panel in panels(board):
        for target in panel["targets"]:
            place = (panel["title"], target["refId"])
            yield place, target["expr"], target["legendFormat"], target["instant"]
    for annotation in board["annotations"]["list"]:
        yield ("annotation", annotation["name"]), annotation["expr"], "", False


def _ask(prometheus: Prometheus, expr: str, window: Window, *, instant: bool) -> list[Series]:
    """The series that have a number; NaN is none."""
    expr = substituted(expr, VALUES)
    if instant:
        found = prometheus.query(expr, window.end)
        return [each for each in found if not math.isnan(float(each["value"][1]))]
    found = prometheus.query_range(expr, window.start, window.end, STEP_SECONDS)
    return [each for each in found if any(not math.isnan(float(value)) for _, value in each["values"])]


def _unnamed(legend: str, found: list[Series]) -> set[str]:
    """Labels of a legend that a series does not have."""
    return {label for label in _NAMED.findall(legend) for each in found if label not in each["metric"]}
