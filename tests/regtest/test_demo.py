"""The demonstration as users run it: its verdict, its JSON document, and an end that leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service import ROOT
from watchtower.devnode.provision import Found

ACTS = [
    "updates",
    "breach_in_mempool",
    "breach_mined_unseen",
    "tower_asleep",
    "honest_unilateral_close",
    "cooperative_close",
]
SECONDS = 110.0
"""Below pytest's own limit; a quiet machine needs 15."""


def start(place: Path, node: Found, *options: str) -> subprocess.Popen[str]:
    """`watchtower demo` with `place` for all its temporary files."""
    return subprocess.Popen(
        [sys.executable, "-m", "watchtower", "demo", *options],
        cwd=ROOT,
        env={**os.environ, "BITCOIND": str(node.path), "TMPDIR": str(place)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory for one demo, whose processes all end with the test."""
    yield tmp_path
    for pid in processes_in(tmp_path):
        os.kill(pid, signal.SIGKILL)


def processes_in(place: Path) -> list[int]:
    """Processes that were started with a path below `place`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
        except OSError:
            continue  # it ended meanwhile
        if os.fsencode(place) + b"/" in command:
            found.append(int(entry.name))
    return found


def test_all_six_acts_succeed(place: Path, bitcoind_path: Found) -> None:
    """One JSON document on stdout; breach and penalty share a block; no deadline is missed."""
    demo = start(place, bitcoind_path, "--json")
    output, timeline = demo.communicate(timeout=SECONDS)
    assert 0 == demo.returncode, timeline
    document = json.loads(output)
    acts = {act["name"]: act for act in document["acts"]}
    breaches = [acts[name] for name in ("breach_in_mempool", "breach_mined_unseen", "tower_asleep")]
    assert document["ok"]
    assert ACTS == [act["name"] for act in document["acts"] if act["ok"]]
    assert breaches[0]["breach_height"] == breaches[0]["penalty_height"]
    assert [] == [act for act in breaches if not act["penalty_height"] <= act["deadline"]]
    assert [] == [act for act in breaches if not act["recovered_sat"] > 900_000]
    assert [] == processes_in(place)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_node_and_tower_too(place: Path, bitcoind_path: Found, number: signal.Signals) -> None:
    """Ended in the middle of an act, it leaves no process and no file."""
    demo = start(place, bitcoind_path)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "ten payments later" in line:
            break
    running = processes_in(place)
    demo.send_signal(number)
    demo.communicate(timeout=SECONDS)
    assert len(running) >= 2  # node and tower
    assert 0 != demo.returncode
    assert [] == processes_in(place)
    assert [] == list(place.iterdir())


def test_knots_own_policy_and_kept_data(place: Path, bitcoind_path: Found) -> None:
    """All acts succeed under Knots' defaults too; the commands that `--keep` prints work on what it kept.

    A directory with content is refused.
    """
    kept = place / "kept"
    demo = start(place, bitcoind_path, "--knots-defaults", "--keep", str(kept))
    output, timeline = demo.communicate(timeout=SECONDS)
    assert 0 == demo.returncode, timeline
    commands = [line.split("watchtower ", 1)[1].split() for line in output.splitlines() if f"--config {kept}" in line]
    answers = [
        subprocess.run(
            [sys.executable, "-m", "watchtower", *command], cwd=ROOT, capture_output=True, check=False, timeout=60
        )
        for command in commands
    ]
    again = start(place, bitcoind_path, "--keep", str(kept))
    refusal = again.communicate(timeout=SECONDS)[1]
    assert [0, 0, 0] == [answer.returncode for answer in answers]
    assert 1 == again.returncode
    assert "is not empty; give --keep a new directory" in refusal
