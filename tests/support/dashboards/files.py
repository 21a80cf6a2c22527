"""The dashboards as files, and where they lie."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.dashboards.internals import internals
from tests.support.dashboards.overview import overview
from tests.support.dashboards.panel import Document

FOLDER = Path(__file__).parents[3] / "grafana" / "dashboards"


def dashboards() -> tuple[Document, Document]:
    """Overview and internals."""
    return overview(), internals()


def text(document: Document) -> str:
    """The content of the file of a dashboard."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> None:
    """One file for each dashboard, named by its uid."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in dashboards():
        (folder / f"{each['uid']}.json").write_text(text(each), encoding="utf-8")


def panels(document: Document) -> list[Document]:
    """The panels that show something: all but the headings of rows."""
    return [each for each in document["panels"] if each["type"] != "row"]
