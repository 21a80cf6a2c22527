"""An auditor finds every change that was made behind the guards, and is told which event it concerns."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import msgspec
import pytest

from tests.support.examples import examples
from tests.support.tampering import (
    TAMPERINGS,
    SqliteVictim,
    Tamper,
    audit,
    chained,
    content_of,
    grown,
    row,
    state,
)
from watchtower.audit.findings import ExitCode
from watchtower.audit.known import KnownHead
from watchtower.store.segments.source import open_log_files
from watchtower.store.source import Commit, Unreadable

pytestmark = pytest.mark.slow

ROUNDS = 100
"""Random edits per kind in the long run; a few in the fast gate."""


@pytest.fixture
def victim(tmp_path: Path) -> SqliteVictim:
    """A log of 13 commits."""
    made = SqliteVictim(tmp_path)
    with made.source() as source:
        honest = grown(source, random.Random(1))
    made.replace(honest)
    return made


def test_an_honest_log_passes(victim: SqliteVictim, tmp_path: Path) -> None:
    """Nothing is found in a log that nobody touched."""
    with victim.source() as source:
        report = audit(source, tmp_path / "scratch")

    assert (ExitCode.PASSED, ()) == (report.exit_code, report.findings)


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
@pytest.mark.parametrize("stretch", [4, 32_768], ids=["cut", "whole"])
def test_every_edit_is_found_and_named(victim: SqliteVictim, tmp_path: Path, tamper: Tamper, stretch: int) -> None:
    """Random edits of one kind, with all guards on again: the exit code fits, the event is named."""
    with victim.source() as source:
        honest = content_of(source)
    chance = random.Random(f"{tamper.__name__} {stretch}")

    for _ in range(examples(ROUNDS) // 5):
        tampered, expected = tamper(honest, chance)
        victim.replace(tampered)
        with victim.source() as source:
            report = audit(source, tmp_path / "scratch", stretch=stretch)

        assert expected.code == report.exit_code, report.findings
        assert expected.named <= {finding.position for finding in report.findings}


@pytest.mark.parametrize("stretch", [4, 32_768], ids=["cut", "whole"])
def test_a_changed_head_is_the_only_finding(victim: SqliteVictim, tmp_path: Path, stretch: int) -> None:
    """The commits behind a changed head still follow from what was committed: they are not accused."""
    with victim.source() as source:
        honest = content_of(source)
    commit = honest.commits[5]
    victim.replace(honest.with_commit(6, msgspec.structs.replace(commit, head=bytes(32))))

    with victim.source() as source:
        report = audit(source, tmp_path / "scratch", stretch=stretch)

    assert [commit.first_id] == [finding.position for finding in report.findings]


def test_a_tail_cut_at_a_commit_is_found_with_a_known_head_only(victim: SqliteVictim, tmp_path: Path) -> None:
    """The shorter log fits itself; whoever knows a later head has the proof."""
    with victim.source() as source:
        honest = content_of(source)
        known = _known(honest.commits[-1], source.meta.log_id)
    cut = honest.commits[-3].last_id
    victim.replace(type(honest)(tuple(row for row in honest.rows if row[0] <= cut), honest.commits[:-2]))

    with victim.source() as source:
        blind = audit(source, tmp_path / "scratch")
        seeing = audit(source, tmp_path / "scratch", known=(known,))

    assert ExitCode.PASSED == blind.exit_code
    assert ExitCode.ROLLBACK == seeing.exit_code


def test_another_history_is_found_with_a_known_head_only(victim: SqliteVictim, tmp_path: Path) -> None:
    """All hashes made anew: the log fits itself, but not the head that somebody outside has kept."""
    with victim.source() as source:
        known = _known(content_of(source).commits[4], source.meta.log_id)
        victim.replace(grown(source, random.Random(1), seed=5))

    with victim.source() as source:
        blind = audit(source, tmp_path / "scratch")
        seeing = audit(source, tmp_path / "scratch", known=(known,))

    assert ExitCode.PASSED == blind.exit_code
    assert ExitCode.FORK == seeing.exit_code


@pytest.mark.parametrize(
    ("versions", "said"),
    [((1, 2, 4), "version 4 follows on version 2"), ((2, 3, 4), "begins with version 2"), ((1, 1), "comes again")],
    ids=["gap", "late begin", "double"],
)
@pytest.mark.parametrize("stretch", [1, 32_768], ids=["cut", "whole"])
def test_versions_out_of_order_are_found(
    victim: SqliteVictim, tmp_path: Path, versions: tuple[int, ...], said: str, stretch: int
) -> None:
    """A writer that breaks the order of a stream, with a chain that fits: found within and between stretches."""
    with victim.source() as source:
        opened = source.rows(1, 1)
        meta = source.meta
    rows = [*opened, *(row(at, "cX", version, state(at)) for at, version in enumerate(versions, start=2))]
    _allow_doubles(victim.path)
    victim.replace(chained(meta, rows, [1] * len(rows)))

    with victim.source() as source:
        report = audit(source, tmp_path / "scratch", stretch=stretch, storage=False)

    found = [finding for finding in report.findings if finding.code == ExitCode.ORDER]
    assert said in found[0].sentence
    assert "cX" == found[0].stream


@pytest.mark.parametrize("guard", ["events_no_update", "chain_no_delete", "meta_no_replace"])
def test_a_dropped_guard_is_found(victim: SqliteVictim, tmp_path: Path, guard: str) -> None:
    """Somebody who leaves the triggers away is found even if nothing was edited yet."""
    connection = sqlite3.connect(victim.path, isolation_level=None)
    connection.execute(f"DROP TRIGGER {guard}")
    connection.close()

    with victim.source() as source:
        report = audit(source, tmp_path / "scratch")

    assert ExitCode.INTEGRITY == report.exit_code
    assert guard in report.findings[0].sentence


@pytest.mark.parametrize("name", ["sqlitexguard", "stored_events", "sqlite_guard"])
def test_a_guard_under_a_name_of_somebody_else_is_found(victim: SqliteVictim, tmp_path: Path, name: str) -> None:
    """One that reads as a name of SQLite's, one of SQLite's itself, one that a table has."""
    connection = sqlite3.connect(victim.path, isolation_level=None)
    text = f"CREATE TRIGGER {name} AFTER INSERT ON stored_events BEGIN SELECT 1; END"
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("INSERT INTO sqlite_master VALUES ('trigger', ?, 'stored_events', 0, ?)", (name, text))
    connection.close()

    with victim.source() as source:
        report = audit(source, tmp_path / "scratch")

    assert ExitCode.INTEGRITY == report.exit_code
    assert f"trigger {name}" in report.findings[0].sentence


ENDS = ["last_id = 'zz'", "head = 'zz'", "leaves = 5", "leaf_count = 'x'", f"last_id = {2**61}"]


@pytest.mark.parametrize("change", ENDS)
@pytest.mark.parametrize("tail", [None, 3])
def test_values_that_nobody_writes_at_the_end_of_the_chain(
    victim: SqliteVictim, tmp_path: Path, change: str, tail: int | None
) -> None:
    """The audit neither fails nor goes on for years: it names the commit."""
    connection = sqlite3.connect(victim.path, isolation_level=None)
    guard = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'chain_no_update'").fetchone()[0]
    number = connection.execute("SELECT max(commit_no) FROM commit_chain").fetchone()[0]
    connection.execute("DROP TRIGGER chain_no_update")
    connection.execute(f"UPDATE commit_chain SET {change} WHERE commit_no = {number}")
    connection.execute(guard)
    connection.close()

    with victim.source() as source:
        report = audit(source, tmp_path / "scratch", tail=tail)

    assert ExitCode.INTEGRITY == report.exit_code
    assert any(f"commit {number}" in finding.sentence for finding in report.findings)


@pytest.mark.parametrize(
    "change", [f"first_id = {2**63 - 1}", f"segment = {2**63 - 1}", "segment = -1", "origin = CAST(x'ff' AS TEXT)"]
)
def test_a_name_with_numbers_that_nobody_writes(victim: SqliteVictim, change: str) -> None:
    """Said at once: nobody looks for so many segments."""
    connection = sqlite3.connect(victim.path, isolation_level=None)
    connection.execute("DROP TRIGGER meta_no_update")
    connection.execute(f"UPDATE log_meta SET {change}")
    connection.close()

    with pytest.raises(Unreadable, match="log_meta"):
        open_log_files(victim.path)


@pytest.mark.parametrize("change", ["last_id = 100000", "last_id = 'zz'"])
def test_a_changed_number_is_no_other_history(victim: SqliteVictim, tmp_path: Path, change: str) -> None:
    """Wherever it stands, known heads that the chain has are not said to be missing."""
    with victim.source() as source:
        last, log_id = source.last_commit(), source.meta.log_id
        known = tuple(_known(each, log_id) for each in source.commits(1, 100) if each.commit_no % 3 == 0)
    connection = sqlite3.connect(victim.path, isolation_level=None)
    connection.execute("DROP TRIGGER chain_no_update")
    connection.execute(f"UPDATE commit_chain SET {change} WHERE commit_no = {(1 + last.commit_no) // 2}")
    connection.close()

    with victim.source() as source:
        report = audit(source, tmp_path / "scratch", known=known)

    assert ExitCode.INTEGRITY == report.exit_code
    assert str(int(ExitCode.FORK)) not in report.counts


def _known(commit: Commit, log_id: bytes) -> KnownHead:
    return KnownHead(log_id=log_id, epoch=0, position=commit.last_id, head=commit.head, source="a test")


def _allow_doubles(path: Path) -> None:
    """Take the uniqueness of versions away, as somebody could who writes the file himself."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("DELETE FROM sqlite_master WHERE name LIKE 'sqlite_autoindex_stored%'")
    connection.execute(
        "UPDATE sqlite_master SET sql = replace(sql, 'UNIQUE (originator_id, originator_version)', 'CHECK (1)') "
        "WHERE name = 'stored_events'"
    )
    connection.close()
