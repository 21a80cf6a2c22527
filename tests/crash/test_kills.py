"""Random SIGKILL of processes that write: nothing acknowledged is lost, nothing is half written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def kill_writers(directory: Path, kills: int, seed: int, *url: str) -> dict[str, int]:
    """Run the program; its counts."""
    program = (sys.executable, "-m", "tests.crash.kills", str(directory), str(kills), str(seed), *url)
    done = subprocess.run(program, capture_output=True, text=True, timeout=580, check=False)
    assert 0 == done.returncode, done.stderr
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return counts


def test_fault_P2_killed_writers_lose_nothing(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Forty processes, sixteen callers each, killed one after the other on the same log."""
    counts = kill_writers(tmp_path, 40, 1)
    record_property("kills", counts["kills"])
    record_property("acknowledged", counts["acknowledged"])

    assert 40 == counts["kills"]
    assert counts["acknowledged"] > 1_000


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_fault_P2_a_thousand_killed_writers_lose_nothing(
    tmp_path: Path, seed: int, record_property: Callable[[str, object], None]
) -> None:
    """A third of twelve hundred kills."""
    counts = kill_writers(tmp_path, 400, seed)
    record_property("kills", counts["kills"])
    record_property("acknowledged", counts["acknowledged"])

    assert 400 == counts["kills"]
