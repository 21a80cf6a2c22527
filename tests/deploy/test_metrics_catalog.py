"""The catalog of metrics is kept: code sets every row, and asks for no other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from watchtower.telemetry.catalog import CATALOG

ROOT = Path(__file__).parents[2]
SETTERS = ("count", "observe", "one_of", "put", "set")
"""Methods of `Metrics`, and names that some give to them."""

BY_KIND = {
    "counter": {"count"},
    "histogram": {"observe"},
    "gauge": {"set", "put", "one_of"},
    "optional": {"set", "put"},
}


def calls() -> Iterator[tuple[str, str]]:
    """Setter and metric of every call in the service that names a metric first."""
    rows = {row.name for row in CATALOG}
    for path in sorted((ROOT / "watchtower").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            setter = str(getattr(node.func, "attr", getattr(node.func, "id", ""))).lstrip("_")
            for text in ast.walk(node.args[0]):
                if setter in SETTERS and isinstance(text, ast.Constant) and text.value in rows:
                    yield setter, text.value


def test_code_sets_every_metric() -> None:
    """A row that nothing sets would always show 0, and so hide that a feature is missing."""
    found = {name for _setter, name in calls()}

    assert [] == [row.name for row in CATALOG if row.name not in found and row.name != "build_info"]


def test_every_metric_is_set_as_what_it_is() -> None:
    """Counters are counted, histograms observed, gauges set."""
    kinds = {row.name: row.kind for row in CATALOG}

    assert [] == [(setter, name) for setter, name in calls() if setter not in BY_KIND[kinds[name]]]
