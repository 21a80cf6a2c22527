"""An audit of a log in several files: what lies outside of their bounds, what the newest one knows of the others."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.support.exports import long_log
from tests.support.stores import CHAIN_HASH, note
from watchtower.audit.findings import ExitCode, Finding
from watchtower.audit.segments import check_segments
from watchtower.store.create import open_store
from watchtower.store.segments.archive import archive_segment
from watchtower.store.segments.cut import close_segment
from watchtower.store.segments.names import segment_file
from watchtower.store.segments.source import open_log_files

OLD, NEW = "k" + "0" * 21 + "6", "k" + "z" * 22
LATER = 1_700_000_100_000_000
EVENT = "INSERT INTO stored_events VALUES (?, ?, ?, 're06', x'9101')"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log in three segments that no test changes."""
    path = long_log(tmp_path_factory.mktemp("three"))
    for number in range(2):
        close_segment(path, LATER)
        with open_store(path, chain_hash=CHAIN_HASH) as store:
            store.append([note(OLD, store.version(OLD) + 1, number)])
            store.append([note(NEW, number + 1)])
    return path


@pytest.fixture
def log(three: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(three.parent, tmp_path / "log")
    return tmp_path / "log" / three.name


def _edit(path: Path, statement: str, *values: object) -> None:
    """Change a file and put its guards back."""
    path.chmod(0o644)
    connection = sqlite3.connect(path, isolation_level=None)
    guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in guards:
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(statement, values)
    for _, text in guards:
        connection.execute(text)
    connection.close()


def _findings(log: Path) -> list[Finding]:
    with open_log_files(log) as source:
        return check_segments(source)


def test_an_honest_log_in_segments_has_no_findings(log: Path) -> None:
    """As files, and with one of them packed."""
    as_files = _findings(log)
    archive_segment(log, 0, lambda _: None)

    assert ([], []) == (as_files, _findings(log))


@pytest.mark.parametrize("event_id", [-7, 0, 10**6])
@pytest.mark.slow
@pytest.mark.parametrize("segment", [0, 1])
def test_an_event_outside_of_a_closed_file_is_found(log: Path, segment: int, event_id: int) -> None:
    """No commit of the file holds it, and no number of the log leads to it."""
    _edit(segment_file(log, segment), EVENT, event_id, "kX", 1)

    found = [finding for finding in _findings(log) if finding.position == event_id]

    assert [(ExitCode.INTEGRITY, "kX")] == [(finding.code, finding.stream) for finding in found]


def test_an_event_before_the_newest_file_is_found(log: Path) -> None:
    """The tower would read it as part of its stream: it asks by stream, not by number."""
    _edit(log, EVENT, -7, OLD, 3)

    (finding,) = _findings(log)

    assert (ExitCode.INTEGRITY, -7, OLD) == (finding.code, finding.position, finding.stream)


def test_a_commit_before_the_first_one_of_a_file_is_found(log: Path) -> None:
    """Its number is below 1."""
    _edit(
        log,
        "INSERT INTO commit_chain SELECT -3, first_leaf, leaf_count, last_id, head, leaves FROM commit_chain LIMIT 1",
    )

    (finding,) = _findings(log)

    assert "commit -3" in finding.sentence


META = {
    f"log_id = x'{'01' * 16}'": "another log",
    "origin = 'another'": "another log",
    "prev_head = zeroblob(32)": "where segment 1 ends",
}


@pytest.mark.parametrize("change", META)
def test_a_file_that_says_another_name_is_found(log: Path, change: str) -> None:
    """The chain is followed under the name of the first file; the others have to say the same."""
    _edit(log, f"UPDATE log_meta SET {change}")

    (finding,) = _findings(log)

    assert META[change] in finding.sentence


BASES = {
    "UPDATE stream_base SET version = version - 1 WHERE stream = ?": "knows version",
    "UPDATE stream_base SET segment = 0 WHERE stream = ?": "knows version",
    "DELETE FROM stream_base WHERE stream = ?": "other streams",
}


@pytest.mark.parametrize("is_packed", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("statement", BASES)
def test_what_the_newest_file_knows_of_older_streams_is_compared(log: Path, statement: str, is_packed: bool) -> None:
    """With a wrong row a channel could be registered a second time, or its past would not be found."""
    for number in range(2 if is_packed else 0):
        archive_segment(log, number, lambda _: None)
    _edit(log, statement, OLD)

    (finding,) = _findings(log)

    assert ExitCode.INTEGRITY == finding.code
    assert BASES[statement] in finding.sentence


@pytest.mark.slow
def test_what_a_closed_file_knows_is_compared_too(log: Path) -> None:
    """Nobody reads it any more, but it was changed."""
    _edit(segment_file(log, 1), "UPDATE stream_base SET version = version + 1 WHERE stream = ?", OLD)

    found = [finding.sentence for finding in _findings(log)]

    assert any(words.startswith("segment 1 knows version") for words in found)
