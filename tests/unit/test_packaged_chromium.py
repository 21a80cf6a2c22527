"""What an unpacked Chromium needs beside the wrapper of every packaged program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import chromium
from watchtower.devnode import debian

LOADER = """#!/bin/sh
echo "$(basename "$0")" "$(basename "$FONTCONFIG_FILE")" "$@"
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Unpacked packages whose loader only tells how it was called."""
    monkeypatch.setattr(debian, "architecture", lambda: "amd64")
    for folder in ("usr/lib/chromium", "usr/lib/x86_64-linux-gnu", "etc/fonts"):
        (tmp_path / folder).mkdir(parents=True)
    loader = tmp_path / "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    loader.write_text(LOADER)
    loader.chmod(0o755)
    return tmp_path


def test_the_loader_beside_the_browser_starts_it_and_its_children(tree: Path) -> None:
    """Children are started by the same script, not by a loader that does not know their options."""
    chromium.mend(tree)

    start = tree / chromium.START
    said = subprocess.run([start, "--headless"], capture_output=True, text=True, check=True).stdout.split()

    assert ["ld-linux-x86-64.so.2", "packaged.conf"] == said[:2]
    assert {"--no-zygote", f"--browser-subprocess-path={start}", "--headless"} <= set(said)


def test_mending_again_changes_nothing(tree: Path) -> None:
    """Every test run calls it on the tree of the one before."""
    chromium.mend(tree)
    before = (tree / chromium.START).stat().st_mtime_ns

    chromium.mend(tree)

    assert before == (tree / chromium.START).stat().st_mtime_ns
