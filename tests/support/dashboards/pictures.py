"""Pictures of the dashboards: `python -m tests.support.dashboards.pictures docs/pictures`.

A real tower lives through `play` with pauses while Prometheus scrapes it; its answers are drawn by Grafana's own
panel components (`grafana/render`, npm) in Chromium. `--again` draws the answers of the last run once more.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.support.dashboards.drift import PREFIX
from tests.support.dashboards.evaluate import VALUES
from tests.support.dashboards.files import dashboards, panels
from tests.support.dashboards.panel import Document
from tests.support.dashboards.play import REGTEST, play, watched_tower
from tests.support.dashboards.promql import substituted
from tests.support.dashboards.server import Prometheus
from tests.support.programs import find_program

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "grafana" / "render"
WORKSHOP = ROOT / "build" / "pictures"
PAUSE_SECONDS = 12.0
STEP_SECONDS = 1.0
WIDTH, HEIGHT = 1560, 900
DRAW_MS = 60_000
BUNDLE = (
    "main.jsx --bundle --minify --outfile=bundle.js --jsx=automatic --loader:.ttf=dataurl --log-level=warning"
    ' --define:process.env.NODE_ENV="production"'
)

Answers = dict[str, Any]


def collect(pause: float = PAUSE_SECONDS) -> list[Answers]:
    """For each dashboard: its document, the series by panel and query letter, and the times."""
    with tempfile.TemporaryDirectory() as place, watched_tower(Path(place), alerts=REGTEST) as (live, prometheus):
        began = time.time()
        play(live, pause)
        prometheus.wait_seen()
        ended = time.time()
        assert prometheus.query(f"{PREFIX}node_up")
        return [_answers(board, prometheus, began, ended) for board in dashboards()]


def _answers(board: Document, prometheus: Prometheus, start: float, end: float) -> Answers:
    answers: dict[int, dict[str, Any]] = {}
    for panel in panels(board):
        for target in panel["targets"]:
            expr = substituted(target["expr"], VALUES)
            found = (
                prometheus.query(expr, end)
                if target["instant"]
                else prometheus.query_range(expr, start, end, STEP_SECONDS)
            )
            answers.setdefault(panel["id"], {})[target["refId"]] = found
    return {"board": board, "answers": answers, "start": start, "end": end}


def bundle() -> Path:
    """The page that draws, with everything in it; needs Node.js 20 and npm once. Its packages stay below `build`."""
    WORKSHOP.mkdir(parents=True, exist_ok=True)
    for source in SOURCE.iterdir():
        shutil.copy(source, WORKSHOP)
    if not (WORKSHOP / "node_modules").exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=WORKSHOP, check=True)
    subprocess.run(["node_modules/.bin/esbuild", *BUNDLE.split()], cwd=WORKSHOP, check=True)
    return WORKSHOP / "index.html"


def draw(answers: list[Answers], target: Path) -> list[Path]:
    """One PNG for each dashboard; fails on an error in the page."""
    page_file = bundle()
    made = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_program("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        for each in answers:
            page.goto(page_file.as_uri())
            page.evaluate("document => window.draw(document)", each)
            page.wait_for_selector("body[data-drawn]", timeout=DRAW_MS)
            made.append(target / f"{each['board']['uid']}.png")
            page.screenshot(path=made[-1], full_page=True)
        browser.close()
    assert [] == errors
    return made


def main() -> int:
    """Collect unless `--again`, then draw."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.dashboards.pictures", description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("--again", action="store_true", help="draw the answers of the last run")
    chosen = parser.parse_args()
    WORKSHOP.mkdir(parents=True, exist_ok=True)
    kept = WORKSHOP / "answers.json"
    if not chosen.again:
        kept.write_text(json.dumps(collect()))
    chosen.target.mkdir(parents=True, exist_ok=True)
    answers = json.loads(kept.read_text())
    for each, board in zip(answers, dashboards(), strict=True):
        each["board"] = board
    for path in draw(answers, chosen.target):
        sys.stdout.write(f"{path}: {path.stat().st_size / 1000:.0f} kB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
