"""A whole dashboard: variables, annotations, links, and the panels of its rows on the 24-column grid."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tests.support.dashboards.panel import SOURCE, Document, Panel, document, scoped

GRID = 24
SCHEMA_VERSION = 39
"""Of Grafana 11."""

TAG = "watchtower"
BUILD = "watchtower_build_info"


class Row(msgspec.Struct, frozen=True):
    """Panels below a heading, from left to right and then further down."""

    title: str
    panels: tuple[Panel, ...]


def dashboard(uid: str, title: str, description: str, rows: Sequence[Row]) -> Document:
    """The document of a dashboard, as Grafana reads it from a file."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "links": [_link()],
        "annotations": {"list": _annotations()},
        "templating": {"list": _variables()},
        "panels": _placed(rows),
    }


def _placed(rows: Sequence[Row]) -> list[Document]:
    """Panels stand side by side until 24 columns are full."""
    placed: list[Document] = []
    y = 0
    for row in rows:
        placed.append(_heading(row.title, len(placed) + 1, y))
        y += 1
        x = height = 0
        for panel in row.panels:
            width = panel.size[0]
            if x + width > GRID:
                x, y = 0, y + height
            placed.append(document(panel, len(placed) + 1, x, y))
            x, height = x + width, panel.size[1]
        y += height
    return placed


def _heading(title: str, number: int, y: int) -> Document:
    return {
        "id": number,
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": {"x": 0, "y": y, "w": GRID, "h": 1},
        "panels": [],
    }


def _link() -> Document:
    return {
        "title": "Watchtower",
        "type": "dashboards",
        "tags": [TAG],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _annotations() -> list[Document]:
    """The window of rates overlaps the one before by a scrape, so no change falls between two windows.

    A restart is told by the age of the process: an outage may have been longer than any window.
    """
    breach = "changes(watchtower_breaches_detected_total[$__rate_interval]) > 0"
    return [
        _annotation("Breach", "red", breach, "Breach seen"),
        _annotation("Restart", "blue", "time() - process_start_time_seconds < 60", "Tower restarted"),
    ]


def _annotation(name: str, color: str, expr: str, text: str) -> Document:
    return {
        "name": name,
        "datasource": SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "expr": scoped(expr),
        "titleFormat": text,
        "textFormat": "{{instance}}",
    }


def _variables() -> list[Document]:
    job = f"label_values({BUILD}, job)"
    instance = f'label_values({BUILD}{{job=~"$job"}}, instance)'
    source: Document = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
    }
    return [source, _choice("job", "Job", job), _choice("instance", "Tower", instance)]


def _choice(name: str, label: str, query: str) -> Document:
    """A variable over the values of a label; all of them unless chosen."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "allValue": ".+",
        "includeAll": True,
        "multi": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
    }
