"""`watchtower audit verify`: every exit code has a test that produces it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from domain.contract import keys
from domain.contract.receipts import LogReceipt, SignedReceipt, sign_receipt
from tests.support.stores import new_log, note
from tests.support.tampering import (
    SqliteVictim,
    grown_victim,
    state,
)
from tests.support.verified import content, edited, mark, verify, verify_log
from watchtower.audit.known import UnreadableHeads
from watchtower.audit.receipts import read_kept
from watchtower.cli import _main
from watchtower.config import load
from watchtower.store.create import open_store
from watchtower.store.high_water import mark_of, write_high_water
from watchtower.store.sqlite_source import SqliteSource

SECRET = bytes(31) + b"\x07"


@pytest.fixture
def victim(tmp_path: Path) -> SqliteVictim:
    """A log of seven commits."""
    return grown_victim(tmp_path)


def receipt(victim: SqliteVictim, position: int, **changed: object) -> bytes:
    """A signed receipt for an event of the log, with other values."""
    held = content(victim)
    commit = next(each for each in held.commits if each.first_id <= position <= each.last_id)
    place = 32 * (position - commit.first_id)
    made = LogReceipt(
        tower_id=keys.public_key(SECRET)[1:],
        subject=bytes(32),
        seq=1,
        upload_sha256=bytes(32),
        tip_height=1,
        log_id=bytes(16),
        epoch=0,
        position=position,
        leaf=commit.leaves[place : place + 32],
        head=commit.head,
    )
    body = msgspec.structs.replace(made, **changed).encode()
    return SignedReceipt(body, sign_receipt(SECRET, body)).encode()


def test_exit_0_for_an_honest_log(victim: SqliteVictim, tmp_path: Path) -> None:
    """The text says what was looked at; the file of the report holds the document."""
    report = tmp_path / "report.json"

    result = verify("--log", victim.path, "--no-domain-rules", "--report", report)

    assert 0 == result.exit_code
    assert "Verdict: all requested checks passed (exit code 0)" in result.stdout
    assert "none were given" in result.stdout
    assert "all requested checks passed" == json.loads(report.read_bytes())["verdict"]


def test_exit_0_beside_a_tower_that_writes(tmp_path: Path) -> None:
    """The end is fixed at the start: what is appended meanwhile is no finding."""
    path = new_log(tmp_path)
    with open_store(path) as store:
        store.append([note("c1", version) for version in range(1, 9)])
        result = verify("--log", path, "--json", "--no-domain-rules")
        store.append([note("c1", 9)])

    assert 0 == result.exit_code
    assert 9 == json.loads(result.stdout)["log"]["last_position"]


@pytest.mark.slow
def test_the_log_of_the_settings_is_compared_with_its_mark(tmp_path: Path) -> None:
    """Without `--log`: the tower's own log, and the high-water file that its settings name."""
    home = tmp_path / "tower"
    CliRunner().invoke(_main, ["init", "--network", "regtest", "--data-dir", str(home)], catch_exceptions=False)
    with SqliteSource(Path(load({}, config_path=str(home / "config.toml")).settings.event_log_path)) as source:
        marked = mark_of(source, 0)
    write_high_water(home / "high-water", marked)
    good = verify("--config", home / "config.toml")
    write_high_water(home / "high-water", msgspec.structs.replace(marked, position=99))
    behind = verify("--config", home / "config.toml")

    assert (0, 41) == (good.exit_code, behind.exit_code)
    assert "heads from outside compared" in good.stdout


def test_nothing_is_made_beside_a_copy(victim: SqliteVictim) -> None:
    """A copy is opened so that SQLite creates no file next to it."""
    before = {path.name for path in victim.path.parent.iterdir()}

    verify("--log", victim.path)

    assert before == {path.name for path in victim.path.parent.iterdir()}


def test_exit_1_if_the_report_cannot_be_written(victim: SqliteVictim, tmp_path: Path) -> None:
    """A file that cannot be made is no finding about the log."""
    result = verify("--log", victim.path, "--report", tmp_path / "nowhere" / "report.json")

    assert 1 == result.exit_code
    assert "cannot be written" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--from", 2, "--tail", 3), ("--views", "nowhere.db"), ("--no-views", "--views", "x"), ("--jobs", 0)],
    ids=["from and tail", "no views", "views and no views", "no jobs"],
)
def test_exit_2_for_wrong_arguments(victim: SqliteVictim, arguments: tuple[object, ...]) -> None:
    """Nothing is looked at."""
    assert 2 == verify("--log", victim.path, *arguments).exit_code


@pytest.mark.parametrize("text", [b"", b"origin x\nlog_id 00\n", b"RCP2", b"zz", b"\xff\xfe"])
def test_exit_2_for_a_file_without_heads(victim: SqliteVictim, tmp_path: Path, text: bytes) -> None:
    """A file that proves nothing must not look like a proof."""
    known = tmp_path / "known"
    known.write_bytes(text)

    assert 2 == verify("--log", victim.path, "--known", known).exit_code


def test_exit_2_for_heads_of_another_log(victim: SqliteVictim, tmp_path: Path) -> None:
    """They say nothing about this one."""
    known = mark(victim, tmp_path / "known", log_id=bytes([1]) * 16)

    result = verify("--log", victim.path, "--known", known)

    assert 2 == result.exit_code
    assert "is about log 0101" in result.stderr


@pytest.mark.parametrize("statement", ["PRAGMA user_version = 99", None], ids=["no log", "missing"])
def test_exit_3_without_a_log(tmp_path: Path, statement: str | None) -> None:
    """No file, or a database that is no event log."""
    path = tmp_path / "other.db"
    if statement:
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.close()

    assert "StoreCheckFailed" == _error(path)


def test_exit_3_for_a_newer_log(victim: SqliteVictim) -> None:
    """A log of a later version is not called damaged."""
    edited(victim.path, "DROP TRIGGER meta_no_update; UPDATE log_meta SET schema = 99; PRAGMA user_version = 99")

    assert "StoreCheckFailed" == _error(victim.path)


def test_exit_20_for_a_changed_event(victim: SqliteVictim) -> None:
    """The event is named with its stream and topic."""
    held = content(victim)
    event_id, stream, version, topic, _ = held.rows[4]
    victim.replace(held.with_row(event_id, (event_id, stream, version, topic, state(77))))

    code, document = verify_log(victim)

    assert 20 == code
    assert [{"code": 20, "position": 5, "stream": stream, "topic": topic}] == [
        {name: found[name] for name in ("code", "position", "stream", "topic")} for found in document["findings"]
    ]


def test_exit_20_for_a_file_that_is_no_database(tmp_path: Path) -> None:
    """Whatever stands in the place of the log was not committed by a tower."""
    path = tmp_path / "log.db"
    path.write_bytes(b"no database" * 1_000)

    assert 20 == verify("--log", path).exit_code


def test_exit_20_for_another_name_of_the_log(victim: SqliteVictim) -> None:
    """The row that names the log is bound by the first head and by the first event."""
    edited(victim.path, "DROP TRIGGER meta_no_update; UPDATE log_meta SET origin = 'another/log'")

    code, document = verify_log(victim)

    assert 20 == code
    assert "the row log_meta names another log" in str(document["findings"])


def test_exit_21_for_a_missing_event(victim: SqliteVictim) -> None:
    """A hole in the middle."""
    victim.replace(content(victim).with_row(4))

    code, document = verify_log(victim)

    assert 21 == code
    assert "event 4 is missing" in str(document["findings"])


def test_exit_31_for_a_receipt_with_a_wrong_signature(victim: SqliteVictim, tmp_path: Path) -> None:
    """It proves nothing against the log; the auditor has to know."""
    known = tmp_path / "receipts"
    known.write_text(receipt(victim, 4)[:-1].hex() + "00\n")

    assert 31 == verify_log(victim, "--receipts", known)[0]


def test_receipts_in_a_directory_are_read_whatever_their_names(victim: SqliteVictim, tmp_path: Path) -> None:
    """A file that was left out without a word would pass for one that was compared."""
    (tmp_path / "receipts").mkdir()
    (tmp_path / "receipts" / "from-bob.txt").write_text(receipt(victim, 4)[:-1].hex() + "00\n")

    assert 31 == verify_log(victim, "--receipts", tmp_path / "receipts")[0]


def test_a_directory_without_receipts_is_refused(tmp_path: Path) -> None:
    """Who gives receipts shall not believe that they were compared."""
    with pytest.raises(UnreadableHeads, match="holds no receipt"):
        read_kept(tmp_path)


def test_exit_41_for_a_receipt_of_an_event_that_is_no_upload(victim: SqliteVictim, tmp_path: Path) -> None:
    """The event stands where the tower signed it, but it does not hold what was receipted."""
    known = tmp_path / "receipts"
    known.write_text(receipt(victim, 4).hex() + "\n")

    code, document = verify_log(victim, "--receipts", known)

    assert 41 == code
    assert "does not hold the upload" in str(document["findings"])


@pytest.mark.parametrize("changed", [{"head": bytes(32)}, {"leaf": bytes(32)}], ids=["head", "leaf"])
def test_exit_40_for_a_receipt_of_another_history(victim: SqliteVictim, tmp_path: Path, changed: dict) -> None:
    """The tower signed something that the log does not hold."""
    known = tmp_path / "receipts"
    known.write_text(receipt(victim, 4, **changed).hex() + "\n")

    assert 40 == verify_log(victim, "--receipts", known)[0]


def _error(path: Path) -> str:
    """The class of the error that `main` turns into an exit code."""
    return type(CliRunner().invoke(_main, ["audit", "verify", "--log", str(path)]).exception).__name__
