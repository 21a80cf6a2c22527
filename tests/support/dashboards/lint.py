"""Rules for a dashboard's document; each returns sentences about what breaks it.

They are those of Grafana's dashboard-linter that fit here, restated, and the grid. `$__rate_interval` is not forced:
objectives need fixed windows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tests.support.dashboards.files import panels
from tests.support.dashboards.panel import SOURCE, Document
from tests.support.dashboards.promql import CHANGES, EVERYTHING, Selector, selectors, substituted

GRID = 24
SCOPE = {"job": ("$job", "$job|"), "instance": ("$instance", "$instance|")}
MARKED = {name: f"MARK{name.strip('$_')}" for name in ("$job", "$instance")}
"""What stands for a variable while a query is parsed, so that the matchers can be told from written out ones."""

TEXTS = ("title", "description")


def problems(board: Document, counters: Collection[str]) -> list[str]:
    """All that is wrong with a dashboard; `counters` are the names of counters and of histograms' series."""
    found = [*_whole(board), *_variables(board), *_layout(board)]
    for panel in panels(board):
        found += [f"{panel['title']}: {text}" for text in _panel(panel)]
        for target in panel["targets"]:
            found += [f"{panel['title']} {target['refId']}: {text}" for text in _query(target["expr"], counters)]
    return found


def _whole(board: Document) -> Iterator[str]:
    if board["editable"]:
        yield "can be edited in the browser"
    if board["schemaVersion"] != 39:
        yield "is not for Grafana 11"
    for name in ("uid", *TEXTS):
        if not board.get(name):
            yield f"has no {name}"


def _variables(board: Document) -> Iterator[str]:
    by_name = {each["name"]: each for each in board["templating"]["list"]}
    if list(by_name) != ["datasource", "job", "instance"]:
        yield f"variables are {list(by_name)}"
        return
    for name in ("job", "instance"):
        variable = by_name[name]
        if not (variable["multi"] and variable["includeAll"] and variable["allValue"] == ".+"):
            yield f"variable {name} cannot mean all or several"
        if variable["refresh"] != 2:
            yield f"variable {name} is not read again when the time changes"
        if variable["datasource"] != SOURCE:
            yield f"variable {name} has another source"


def _layout(board: Document) -> Iterator[str]:
    numbers = [each["id"] for each in board["panels"]]
    if len(numbers) != len(set(numbers)):
        yield "ids are not unique"
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        if place["x"] + place["w"] > GRID:
            yield f"{panel['title']} stands outside of the grid"
        for field in ((x, y) for x in range(place["w"]) for y in range(place["h"])):
            other = taken.setdefault((place["x"] + field[0], place["y"] + field[1]), panel["title"])
            if other != panel["title"]:
                yield f"{panel['title']} overlaps {other}"
                break


def _panel(panel: Document) -> Iterator[str]:
    for name in TEXTS:
        if not panel.get(name):
            yield f"no {name}"
    if not panel["fieldConfig"]["defaults"].get("unit"):
        yield "no unit"
    if not panel["targets"]:
        yield "no query"
    if any(each["datasource"] != SOURCE for each in (panel, *panel["targets"])):
        yield "another source than the variable"
    if panel["type"] == "stat":
        yield from _stat(panel)


def _stat(panel: Document) -> Iterator[str]:
    if not all(each["instant"] for each in panel["targets"]):
        yield "a single number asks for a range"
    if panel["options"]["reduceOptions"]["calcs"] != ["lastNotNull"]:
        yield "a single number is not the last one"


def _query(expr: str, counters: Collection[str]) -> Iterator[str]:
    try:
        found = selectors(substituted(expr, EVERYTHING | MARKED))
    except ValueError as error:
        yield f"does not parse: {error}"
        return
    for selector in found:
        yield from _selector(selector, counters)


def _selector(selector: Selector, counters: Collection[str]) -> Iterator[str]:
    for label, allowed in SCOPE.items():
        wanted = {substituted(each, MARKED) for each in allowed}
        if not any(each.label == label and each.operator == "=~" and each.value in wanted for each in selector.matches):
            yield f"{selector.name} is not limited by the variable {label}"
    if selector.name in counters and selector.function not in CHANGES:
        yield f"the counter {selector.name} is shown as it is"
