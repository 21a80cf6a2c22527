"""One panel of a dashboard, and the document that Grafana 11 wants for it.

Queries are written without matchers and with `[R]` for the window that follows the scrape interval:
`sum(rate(watchtower_http_requests_total[R]))`.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

Kind = Literal["stat", "timeseries", "state-timeline", "heatmap"]
Document = dict[str, Any]

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
MATCHERS = 'job=~"$job",instance=~"$instance"'
OF_ALERTS = 'job=~"$job|",instance=~"$instance|"'
"""An alert over an absent series or a sum has neither label; it must be counted all the same."""

RED, ORANGE, YELLOW, GREEN, BLUE = "red", "orange", "yellow", "green", "blue"

_SOFT_MAX = {"none": 1, "cps": 0.1, "reqps": 0.1}
"""So that an axis over nothing but zeros does not end at 100."""

_SELECTOR = re.compile(r"\b((?:\w+:)?watchtower_\w+(?::\w+)?|process_\w+|ALERTS)\b(\{)?")
_STRINGS = re.compile(r'("[^"]*")')


class Query(msgspec.Struct, frozen=True):
    """An expression and its legend; without a legend the panel shows one number."""

    expr: str
    legend: str = ""


class Panel(msgspec.Struct, frozen=True):
    """A row of the table. `steps` are thresholds: the first color, then (from, color) pairs.

    `colors` fixes the color of series by a pattern of their names; `empty` is shown instead of a number that is absent.
    `from_zero` is False where only differences matter; a `long_legend` stands at the side.
    """

    title: str
    kind: Kind
    unit: str
    description: str
    queries: tuple[Query, ...]
    base: str = ""
    steps: tuple[tuple[float, str], ...] = ()
    yes_no: bool = False
    empty: str = ""
    size: tuple[int, int] = (8, 8)
    colors: tuple[tuple[str, str], ...] = ()
    stacked: bool = False
    decimals: int | None = None
    stepped: bool = False
    from_zero: bool = True
    long_legend: bool = False


def q(expr: str, legend: str = "") -> Query:
    """A query of a panel."""
    return Query(expr, legend)


def quantile(share: float, metric: str, by: str = "le", window: str = "[R]", where: str = "") -> str:
    """`histogram_quantile` over the rates of a histogram's buckets."""
    return f"histogram_quantile({share:g}, sum by ({by}) (rate({metric}_bucket{where}{window})))"


def scoped(expr: str) -> str:
    """The expression with the variables' matchers on every metric and Grafana's window for `[R]`."""

    def matched(found: re.Match[str]) -> str:
        name, brace = found.group(1), found.group(2)
        matchers = OF_ALERTS if name == "ALERTS" else MATCHERS
        return f"{name}{{{matchers}," if brace else f"{name}{{{matchers}}}"

    parts = _STRINGS.split(expr)  # text in quotes names no metric
    parts[::2] = [_SELECTOR.sub(matched, part) for part in parts[::2]]
    return "".join(parts).replace("[R]", "[$__rate_interval]")


def document(panel: Panel, number: int, x: int, y: int) -> Document:
    """The panel's document at a place of the grid."""
    width, height = panel.size
    made: Document = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": height},
        "fieldConfig": {"defaults": _defaults(panel), "overrides": [_fixed(*each) for each in panel.colors]},
        "options": _options(panel),
        "targets": [_target(panel, each, chr(ord("A") + place)) for place, each in enumerate(panel.queries)],
    }
    return made


def _options(panel: Panel) -> Document:
    made = dict(_OPTIONS[panel.kind])
    if panel.kind == "stat" and any(each.legend for each in panel.queries):
        made["textMode"] = "value_and_name"
    if panel.long_legend:
        made["legend"] = _LEGEND | {"placement": "right"}
    return made


def _target(panel: Panel, query: Query, letter: str) -> Document:
    made: Document = {
        "refId": letter,
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": scoped(query.expr),
        "legendFormat": query.legend or panel.title,
        "instant": panel.kind == "stat",
        "range": panel.kind != "stat",
    }
    if panel.kind == "heatmap":
        made["format"] = "heatmap"
    return made


def _defaults(panel: Panel) -> Document:
    made: Document = {"unit": panel.unit, "custom": _custom(panel)}
    if panel.kind == "stat":
        del made["custom"]
        made["color"] = {"mode": "thresholds"}
    elif panel.kind != "heatmap":
        made["color"] = {"mode": "palette-classic"}
    steps = [{"color": panel.base or BLUE, "value": None}]
    made["thresholds"] = {
        "mode": "absolute",
        "steps": steps + [{"color": color, "value": value} for value, color in panel.steps],
    }
    if panel.yes_no:
        made["mappings"] = [_yes_no()]
    if panel.empty:
        made["noValue"] = panel.empty
    if panel.decimals is not None:
        made["decimals"] = panel.decimals
    return made


def _custom(panel: Panel) -> Document:
    if panel.kind == "heatmap":
        return {"hideFrom": {"legend": False, "tooltip": False, "viz": False}}
    if panel.kind == "state-timeline":
        return {"fillOpacity": 80, "lineWidth": 0}
    made: Document = {
        "drawStyle": "line",
        "lineInterpolation": "stepAfter" if panel.stepped else "linear",
        "lineWidth": 2 if not panel.stacked else 1,
        "fillOpacity": 60 if panel.stacked else 10,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
    }
    if panel.from_zero:
        made["axisSoftMin"] = 0
    if panel.unit in _SOFT_MAX:
        made["axisSoftMax"] = _SOFT_MAX[panel.unit]
    return made


def _yes_no() -> Document:
    return {
        "type": "value",
        "options": {
            "0": {"text": "NO", "color": RED, "index": 0},
            "1": {"text": "YES", "color": GREEN, "index": 1},
        },
    }


def _fixed(pattern: str, color: str) -> Document:
    return {
        "matcher": {"id": "byRegexp", "options": f"/{pattern}/"},
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
    }


_LEGEND = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
_OPTIONS: dict[Kind, Document] = {
    "stat": {
        "colorMode": "background_solid",
        "graphMode": "none",
        "justifyMode": "center",
        "orientation": "auto",
        "textMode": "value",
        "wideLayout": True,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    },
    "timeseries": {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    "state-timeline": {
        "alignValue": "left",
        "mergeValues": True,
        "rowHeight": 0.9,
        "showValue": "never",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    },
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "orange"},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "tooltip": {"mode": "single", "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "unit": "s"},
    },
}
