"""What a log is asked before a tower starts on it: each check has something here that makes it fail."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from eventsourcing.persistence import StoredEvent

from tests.support.stores import new_log, note
from watchtower.store import checks, datastore
from watchtower.store.create import open_store
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.mapper import EnvelopeMapper
from watchtower.store.postgres import checks as server_checks


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A closed log with two events."""
    path = new_log(tmp_path)
    with open_store(path) as store:
        store.append([note("c1", 1)])
    return path


def refused(path: Path) -> str:
    """The name of the check that refuses a log."""
    with pytest.raises(StoreCheckFailed) as caught:
        open_store(path)
    return caught.value.check


def edit(path: Path, *statements: str) -> None:
    """Change what the triggers protect, and put them back."""
    connection = sqlite3.connect(path, isolation_level=None)
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    for each in (*statements, *(sql for _, sql in triggers)):
        connection.execute(each)
    connection.close()


FILES = {
    "application_id": ("PRAGMA application_id = 1",),
    "schema": ("PRAGMA user_version = 3",),
    "log_meta": ("DELETE FROM log_meta",),
    "log_opened": ("UPDATE log_meta SET origin = 'another'",),
    "page_size": ("PRAGMA journal_mode = DELETE", "PRAGMA page_size = 4096", "VACUUM", "PRAGMA journal_mode = WAL"),
    "chain_tail": ("DELETE FROM commit_chain WHERE commit_no = 2",),
    "row_missing": ("DELETE FROM stored_events WHERE rowid = 2",),
}


@pytest.mark.parametrize("check", FILES)
def test_a_file_that_is_not_as_it_was_made_is_refused(log: Path, check: str) -> None:
    """By the name of the check that found it."""
    edit(log, *FILES[check])

    assert check == refused(log)


def test_two_numbers_for_the_schema_are_refused(log: Path) -> None:
    """The file and its own row have to agree."""
    edit(log, "UPDATE log_meta SET schema = 2")

    assert "schema" == refused(log)


def test_an_added_table_is_refused(log: Path) -> None:
    """Tables and triggers are the shipped ones, no more and no less."""
    edit(log, "CREATE TABLE added (x)")

    assert "triggers" == refused(log)


def test_another_major_version_of_the_library_is_refused(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tables would be others."""
    monkeypatch.setattr(checks, "version", lambda name: "10.0.0")

    assert "library_version" == refused(log)


def test_a_compressor_of_the_library_is_refused(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it wrote could not be read as it stands, and no audit would know it."""

    class Compressing(EnvelopeMapper):
        def __init__(self) -> None:
            super().__init__()
            self.compressor = zlib

    monkeypatch.setattr("watchtower.store.log.EnvelopeMapper", Compressing)

    with pytest.raises(StoreCheckFailed, match="library: snapshots, a cipher or a compressor"):
        open_store(log)


def test_a_reader_that_could_write_is_refused(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two connections that write at a time can damage a file."""
    connect = datastore.connect
    monkeypatch.setattr(datastore, "connect", lambda path, **options: connect(path, **{**options, "read_only": False}))

    assert "read_only" == refused(log)


class _Lax(sqlite3.Connection):
    """A SQLite that does not take the setting that makes commits durable."""

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Understand FULL as NORMAL."""
        return super().execute(sql.replace("synchronous = 2", "synchronous = 1"), *values)


def test_a_database_that_does_not_sync_is_refused(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection is asked what its setting became."""
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **options: connect(*given, **options, factory=_Lax))

    assert "synchronous" == refused(log)


@pytest.mark.parametrize("stream", ["c1", "c2", "log"])
def test_a_topic_of_a_newer_version_stops_the_start(log: Path, stream: str) -> None:
    """The channel is not set aside as damaged: what is not understood may be a breach. The sentence says what to do."""
    with open_store(log) as store:
        version = store.version(stream) + 1
        store._recorder.insert_events([StoredEvent(stream, version, "zz99", b"\x91\x01")])

    with pytest.raises(StoreCheckFailed, match=r"event 3 has the unknown topic 'zz99'.*run that version") as caught:
        open_store(log)

    assert "topics" == caught.value.check


# ── a server ─────────────────────────────────────────────────────────────────────────────────────────────

GOOD = {"version": 150_000, "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "recovery": False}


class _Server:
    """A connection to a server with these settings."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        encoding = settings.get("encoding", "UTF8")
        self.info = SimpleNamespace(server_version=settings["version"], parameter_status=lambda name: encoding)

    def execute(self, query: str, parameters: tuple[str, ...]) -> SimpleNamespace:
        """The one value that is asked for."""
        row = (self._settings[parameters[0] if parameters else "recovery"],)
        return SimpleNamespace(fetchone=lambda: row)


@pytest.mark.parametrize(
    ("check", "setting", "value"),
    [
        ("server_version", "version", 120_011),
        ("fsync", "fsync", "off"),
        ("full_page_writes", "full_page_writes", "off"),
        ("synchronous_commit", "synchronous_commit", "local"),
        ("encoding", "encoding", "LATIN1"),
        ("recovery", "recovery", True),
    ],
)
def test_a_server_that_could_lose_commits_is_refused(check: str, setting: str, value: object) -> None:
    """By name, before anything is read from it; with good settings it passes."""
    server_checks.check_server(_Server(GOOD))  # type: ignore[arg-type]

    with pytest.raises(StoreCheckFailed) as caught:
        server_checks.check_server(_Server({**GOOD, setting: value}))  # type: ignore[arg-type]

    assert check == caught.value.check
