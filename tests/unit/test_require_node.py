"""A missing node skips the tests that need one, and fails them where a node is required."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDS_NODE = "tests/regtest/test_devnode.py::test_start_from_the_prepared_chain_mines_nothing"


@pytest.mark.slow
@pytest.mark.parametrize(("required", "code", "word"), [("1", 1, "1 error"), ("", 0, "1 skipped")])
def test_skip_becomes_a_failure(tmp_path: Path, required: str, code: int, word: str) -> None:
    """`STATE_CHANNEL_REQUIRE_NODE=1` turns the silent skip into a failure with the ways out."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "BITCOIND"},
        "PATH": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
        "STATE_CHANNEL_OFFLINE": "1",
        "STATE_CHANNEL_REQUIRE_NODE": required,
    }

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", NEEDS_NODE],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert code == done.returncode, done.stdout + done.stderr
    assert word in done.stdout
    assert "no usable bitcoind was found" in done.stdout
