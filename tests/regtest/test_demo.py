"""The demonstration as users run it: its verdict, its JSON document, and an end that leaves nothing behind."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import zstandard

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
SECONDS = 280.0
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
        with suppress(ProcessLookupError):  # it ended meanwhile
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


class Kept(NamedTuple):
    """What a demo with `--keep` left: the directory, and what it printed."""

    directory: Path
    output: str


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, bitcoind_path: Found) -> Kept:
    """A demo that was played to its end under Knots' own policy."""
    place = tmp_path_factory.mktemp("demo")
    demo = start(place, bitcoind_path, "--knots-defaults", "--keep", str(place / "kept"))
    output, timeline = demo.communicate(timeout=SECONDS)
    assert 0 == demo.returncode, timeline
    return Kept(place / "kept", output)


def watchtower(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", "watchtower", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=SECONDS, text=True)


def test_knots_own_policy_and_kept_data(place: Path, bitcoind_path: Found, kept: Kept) -> None:
    """All acts succeed under Knots' defaults too; the commands that `--keep` prints work on what it kept.

    A directory with content is refused.
    """
    lines = [line for line in kept.output.splitlines() if f"--config {kept.directory}" in line]
    answers = [watchtower(*line.split("watchtower ", 1)[1].split()) for line in lines]
    again = start(place, bitcoind_path, "--keep", str(kept.directory))
    refusal = again.communicate(timeout=SECONDS)[1]
    assert [0, 0, 0] == [answer.returncode for answer in answers]
    assert 1 == again.returncode
    assert "is not empty; give --keep a new directory" in refusal


def test_the_log_of_the_demo_is_checked_without_the_tower(kept: Kept, tmp_path: Path) -> None:
    """Exported and signed, copied away, verified; one byte flipped, and the event is named."""
    config = kept.directory / "tower" / "config.toml"
    export = watchtower("--config", config, "audit", "export", "--out", tmp_path / "made", "--sign", "--json")
    copy = shutil.copytree(tmp_path / "made", tmp_path / "elsewhere" / "copy")
    verified = watchtower("audit", "verify-export", copy, "--json")
    file = copy / "events" / "000000000001.zst"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    damaged = watchtower("audit", "verify-export", copy, "--json")
    report, finding = json.loads(verified.stdout), json.loads(damaged.stdout)["findings"][0]

    assert 0 == export.returncode, export.stderr
    assert (0, []) == (verified.returncode, report["findings"]), verified.stdout
    assert json.loads(export.stdout)["last_position"] == report["events"] == report["log"]["last_position"]
    assert 10 == damaged.returncode
    assert 1 < finding["position"] <= report["events"]
    assert f"event {finding['position']} (stream {finding['stream']}, topic" in finding["sentence"]


def test_no_secret_is_in_an_export(kept: Kept, tmp_path: Path) -> None:
    """Keys, token, passphrase and the key of stream names stay with the tower, in every spelling."""
    tower = kept.directory / "tower"
    made = watchtower("--config", tower / "config.toml", "audit", "export", "--out", tmp_path / "made", "--sign")
    readable = b"".join(path.read_bytes() for path in (tmp_path / "made").rglob("*") if path.is_file())
    for path in (tmp_path / "made").rglob("*.zst"):
        with path.open("rb") as file:
            readable += zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()
    with closing(sqlite3.connect(tower / "events.db")) as connection:
        stream_key = connection.execute("SELECT stream_key FROM log_meta").fetchone()[0]
    texts = [(tower / name).read_text().strip() for name in ("tower.key", "api.token", "keystore.passphrase")]
    secrets = [stream_key, bytes.fromhex(texts[0]), *(text.encode() for text in texts)]
    spelled = [spelling for secret in secrets for spelling in (secret, secret.hex().encode(), base64.b64encode(secret))]

    assert 0 == made.returncode, made.stderr
    assert b"lg01" in readable
    assert [] == [spelling for spelling in spelled if spelling in readable]


def test_the_log_of_the_demo_in_segments_is_the_same_log(kept: Kept, tmp_path: Path) -> None:
    """Closed, packed, audited across, exported and checked; the tower's read models still follow from it."""
    shutil.copytree(kept.directory / "tower", tmp_path / "tower")
    config = tmp_path / "tower" / "config.toml"
    config.write_text(config.read_text().replace(str(kept.directory), str(tmp_path)))
    steps = (
        ("store", "close-segment"),
        ("audit", "verify"),
        ("store", "archive-segment", 0),
        ("audit", "verify"),
        ("replay",),
        ("audit", "export", "--out", tmp_path / "made"),
    )
    done = [watchtower("--config", config, *step) for step in steps]
    verified = watchtower("audit", "verify-export", tmp_path / "made")

    assert [0] * 7 == [each.returncode for each in (*done, verified)], [each.stderr for each in (*done, verified)]
    assert not (tmp_path / "tower" / "events.db.segments" / "000000.db").exists()
