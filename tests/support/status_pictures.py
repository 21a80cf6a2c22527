"""`python -m tests.support.status_pictures docs/pictures`: the pictures of the status page, of a real tower.

They are looked at by a person, not compared by a test: fonts and times differ from machine to machine.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from tests.support.browser import PHONE, WIDE, Watched, chromium
from tests.support.live_tower import LiveTower, live_tower

LIMIT = 300_000
"""Bytes of one picture."""

PICTURES = (
    ("status-light", "/", "light", WIDE, 1_330),
    ("status-dark", "/", "dark", WIDE, 1_000),
    ("status-phone", "/", "light", PHONE, 1_500),
    ("status-channel", "/channels/{id}", "light", WIDE, 1_000),
)
"""Name, path, color scheme, window, height in pixels of what is shown."""


def draw(folder: Path) -> list[Path]:
    """Play a small story on a private chain and take its pictures; raises `RuntimeError` for one that is too large."""
    with tempfile.TemporaryDirectory() as place, chromium() as browser, live_tower(Path(place)) as live:
        pairs = live.open_channels(8, updates=4)
        live.breach(pairs[0], in_block=True)
        live.breach(pairs[1])
        live.wait_height()
        return [_picture(browser, live, folder, *each) for each in PICTURES]


def _picture(
    browser: Browser,
    live: LiveTower,
    folder: Path,
    name: str,
    path: str,
    scheme: str,
    size: dict[str, int],
    height: int,
) -> Path:
    out = folder / f"{name}.png"
    with browser.new_context(viewport=size, color_scheme=scheme) as context:  # type: ignore[arg-type]
        page = Watched(context).open(live.admin_url + path.format(id=live.pairs[2].channel_id.hex()))
        page.screenshot(path=out, full_page=True, clip={"x": 0, "y": 0, "width": size["width"], "height": height})
    if out.stat().st_size > LIMIT:
        raise RuntimeError(f"{out.name} has {out.stat().st_size} bytes, more than {LIMIT}; show less")
    return out


if __name__ == "__main__":
    sys.stdout.writelines(f"{path}\n" for path in draw(Path(sys.argv[1])))
