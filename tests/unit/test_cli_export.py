"""`audit export`, `audit verify-export`, `store close-segment` and `store archive-segment`, as commands."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.exports import long_log
from watchtower.cli import _main

pytestmark = pytest.mark.slow

BYTES = ("--jobs", 1, "--no-domain-rules")
"""The blocks of these logs are made up: only what bytes and chain show is asked for."""


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    """The data directory of a stopped tower with some hundred events."""
    (tmp_path / "tower").mkdir()
    long_log(tmp_path / "tower").rename(tmp_path / "tower" / "events.db")
    (tmp_path / "tower" / "tower.key").write_text("11" * 32)
    return tmp_path / "tower"


def run(tower: Path | None, *arguments: object) -> Result:
    """A command with the settings of a tower, or without any."""
    settings = {} if tower is None else {"STATE_CHANNEL_DATA_DIR": str(tower), "STATE_CHANNEL_NETWORK": "regtest"}
    return CliRunner().invoke(_main, [str(each) for each in arguments], env=settings)


@pytest.fixture
def made(tower: Path) -> Path:
    """A signed export."""
    result = run(tower, "audit", "export", "--out", tower.with_name("made"), "--sign", "--progress", "none")
    assert 0 == result.exit_code, result.output
    return tower.with_name("made")


def test_an_export_is_made_and_checked(made: Path, tmp_path: Path) -> None:
    """The check needs no settings; its document can go to a file; the text ends with the verdict."""
    text = run(None, "audit", "verify-export", made, "--report", tmp_path / "report.json", *BYTES)
    document = json.loads((tmp_path / "report.json").read_bytes())

    assert 0 == text.exit_code, text.output
    assert text.stdout.endswith("(exit code 0)\n")
    assert "by tower" in text.stdout
    assert "rights compared with the shipped one (an export is no database)" in text.stdout
    assert ("audit verify-export", 0, []) == (document["command"], document["exit_code"], document["findings"])


def test_a_flipped_byte_ends_with_10_and_names_the_event(made: Path) -> None:
    """On stdout as one document, too."""
    file = made / "events" / "000000000001.zst"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 4
    file.write_bytes(raw)
    result = run(None, "audit", "verify-export", made, "--json", "--jobs", 1)
    finding = json.loads(result.stdout)["findings"][0]

    assert 10 == result.exit_code
    assert f"event {finding['position']} (stream" in finding["sentence"]


def test_codes_of_the_other_endings(tower: Path, made: Path, tmp_path: Path) -> None:
    """80 without payloads, 0 if that is allowed, 2 for a wrong usage, 20 for a damaged log."""
    entries = tmp_path / "entries"
    codes = [
        run(tower, "audit", "export", "--out", entries, "--entries-only", "--json", "--progress", "json").exit_code,
        run(None, "audit", "verify-export", entries).exit_code,
        run(None, "audit", "verify-export", entries, "--allow-incomplete").exit_code,
        run(tower, "audit", "export", "--out", made).exit_code,
        run(tower, "audit", "export", "--out", tmp_path / "x", "--until", 10**6).exit_code,
        run(tower, "audit", "export", "--out", tmp_path / "x", "--until", 5, "--height", 7).exit_code,
        run(None, "audit", "verify-export", tmp_path / "nowhere").exit_code,
        run(None, "audit", "verify-export", made, "--known", tower / "tower.key").exit_code,
        run(None, "audit", "verify-export", tower).exit_code,
    ]
    connection = sqlite3.connect(tower / "events.db")
    connection.execute("DROP TRIGGER events_no_update")
    connection.execute("UPDATE stored_events SET state = x'90' WHERE rowid = 7")
    connection.commit()
    connection.close()
    damaged = run(tower, "audit", "export", "--out", tmp_path / "y", "--progress", "none")

    assert [0, 80, 0, 2, 2, 2, 2, 2, 10] == codes
    assert (20, True) == (damaged.exit_code, "event 7" in damaged.stderr)


def test_a_point_names_the_end_of_an_export(tower: Path, tmp_path: Path) -> None:
    """As every command that looks at the past understands it."""
    result = run(tower, "audit", "export", "--out", tmp_path / "then", "--id", 50, "--json", "--progress", "none")

    assert 50 <= json.loads(result.stdout)["last_position"] < 60


def test_segments_are_closed_and_packed(tower: Path, made: Path, tmp_path: Path) -> None:
    """Both say what they did, refuse what cannot be done, and an export across them still verifies."""
    closed = run(tower, "store", "close-segment", "--json")
    again = run(tower, "store", "close-segment")
    packed = run(tower, "store", "archive-segment", 0, "--json")
    twice = run(tower, "store", "archive-segment", 0)
    early = run(tower, "store", "archive-segment", 1)
    export = run(tower, "audit", "export", "--out", tmp_path / "across", "--progress", "none")
    verified = run(None, "audit", "verify-export", tmp_path / "across", *BYTES)
    audited = run(tower, "audit", "verify", *BYTES)

    assert 1 == json.loads(closed.stdout)["segment"]
    assert json.loads(packed.stdout)["bytes_after"] < json.loads(packed.stdout)["bytes_before"]
    assert [0, 0, 0, 0, 0] == [each.exit_code for each in (closed, packed, export, verified, audited)]
    assert "nothing to close" in str(again.exception)
    assert "archived already" in str(twice.exception)
    assert "is not closed" in str(early.exception)


def test_a_log_on_a_server_has_no_segments(tmp_path: Path) -> None:
    """The server takes care of its files."""
    settings = {"STATE_CHANNEL_DATA_DIR": str(tmp_path), "STATE_CHANNEL_STORE__URL": "postgresql://nobody@nowhere/db"}
    results = [
        CliRunner().invoke(_main, ["store", *verb], env=settings)
        for verb in (["close-segment"], ["archive-segment", "0"])
    ]

    assert [2, 2] == [result.exit_code for result in results]
