"""What the log refuses: edits, second instances, damaged or foreign files."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.stores import CHAIN_HASH, new_log, note
from watchtower.ports import StoreError, StoreLocked
from watchtower.store.create import create_store, open_reader, open_store
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.verify import verify_log

EDITS = {
    "update": "UPDATE stored_events SET state = x'90' WHERE rowid = 2",
    "update by key": "UPDATE OR REPLACE stored_events SET rowid = 1 WHERE rowid = 2",
    "delete": "DELETE FROM stored_events WHERE rowid = 3",
    "truncate": "DELETE FROM stored_events",
    "replace by key": "INSERT OR REPLACE INTO stored_events VALUES (4, 'c1', 1, 're06', x'90')",
    "replace by id": "INSERT OR REPLACE INTO stored_events VALUES (2, 'c9', 1, 're06', x'90')",
    "upsert": "INSERT INTO stored_events VALUES (4, 'c1', 1, 're06', x'90') "
    "ON CONFLICT (originator_id, originator_version) DO UPDATE SET state = x'90'",
    "id ahead": "INSERT INTO stored_events VALUES (9, 'c9', 1, 're06', x'90')",
    "negative id": "INSERT INTO stored_events VALUES (-5, 'c9', 1, 're06', x'90')",
    "version gap": "INSERT INTO stored_events (originator_id, originator_version, topic, state) "
    "VALUES ('c1', 9, 're06', x'90')",
    "stock writer": "INSERT INTO stored_events VALUES ('c9', 1, 're06', x'90')",
    "chain update": "UPDATE commit_chain SET head = zeroblob(32)",
    "chain delete": "DELETE FROM commit_chain",
    "chain replace": "INSERT OR REPLACE INTO commit_chain VALUES (1, 0, 1, 1, zeroblob(32), zeroblob(32))",
    "meta update": "UPDATE log_meta SET origin = 'other'",
    "meta delete": "DELETE FROM log_meta",
    "meta replace": "INSERT OR REPLACE INTO log_meta VALUES (1, x'00', 'o', 0, 0, 1, x'00', x'00', 1)",
}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A closed log with three events."""
    path = new_log(tmp_path)
    with open_store(path) as store:
        store.append([note("c1", 1), note("c1", 2)])
    return path


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_the_log_is_append_only(log: Path, edit: str) -> None:
    """Every statement that would change history is refused by the file itself."""
    connection = sqlite3.connect(log, isolation_level=None)

    with pytest.raises(sqlite3.Error):
        connection.execute(edit)

    assert connection.execute("SELECT count(*), max(rowid) FROM stored_events").fetchone() == (3, 3)
    connection.close()


TAMPERING = {
    "state": ("leaf", "UPDATE stored_events SET state = x'93000100' WHERE rowid = 2"),
    "stream": ("leaf", "UPDATE stored_events SET originator_id = 'c2' WHERE rowid = 3"),
    "version": ("leaf", "UPDATE stored_events SET originator_version = 5 WHERE rowid = 3"),
    "type": ("leaf", "UPDATE stored_events SET state = 'text' WHERE rowid = 3"),
    "row removed": ("row_missing", "DELETE FROM stored_events WHERE rowid = 2"),
    "row added": ("chain_tail", "INSERT INTO stored_events VALUES (4, 'c9', 1, 're06', x'90')"),
    "tail cut": ("row_missing", "DELETE FROM stored_events WHERE rowid = 3"),
    "head": ("chain_link", "UPDATE commit_chain SET head = zeroblob(32) WHERE commit_no = 2"),
    "leaves": ("chain_link", "UPDATE commit_chain SET leaves = zeroblob(64) WHERE commit_no = 2"),
}


@pytest.mark.parametrize(("check", "edit"), TAMPERING.values(), ids=TAMPERING.keys())
def test_an_edit_behind_the_triggers_is_found(log: Path, check: str, edit: str) -> None:
    """Whoever drops the triggers, edits and restores them is found by the commit chain."""
    connection = sqlite3.connect(log, isolation_level=None)
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(edit)
    for _, sql in triggers:
        connection.execute(sql)

    findings = verify_log(connection).findings
    connection.close()

    assert check in {finding.check for finding in findings}
    with pytest.raises(StoreError), open_store(log) as store:
        store.append([note("c1", 3)])


def test_a_dropped_trigger_stops_the_start(log: Path) -> None:
    """The start-up check compares every trigger with the shipped text."""
    connection = sqlite3.connect(log, isolation_level=None)
    connection.execute("DROP TRIGGER events_no_update")
    connection.close()

    with pytest.raises(StoreCheckFailed, match="events_no_update") as caught:
        open_store(log)

    assert caught.value.check == "triggers"


@pytest.mark.parametrize(
    ("check", "edit"),
    [
        ("application_id", "PRAGMA application_id = 1"),
        ("schema", "PRAGMA user_version = 99"),
        ("journal_mode", "PRAGMA journal_mode = DELETE"),
    ],
)
def test_a_foreign_file_is_refused_by_name_of_the_check(log: Path, check: str, edit: str) -> None:
    """Another application, another schema or another journal is not opened for reading."""
    connection = sqlite3.connect(log, isolation_level=None)
    connection.execute(edit)
    connection.close()

    with pytest.raises(StoreCheckFailed) as caught:
        open_reader(log)

    assert check == caught.value.check


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Random bytes are named as such."""
    path = tmp_path / "log.db"
    path.write_bytes(os.urandom(8192))

    with pytest.raises(StoreCheckFailed, match="restore it from a backup") as caught:
        open_store(path)

    assert caught.value.check == "readable"


def test_a_log_of_another_chain_is_refused(log: Path) -> None:
    """A store made for one network is not opened for another."""
    with pytest.raises(StoreCheckFailed) as caught:
        open_store(log, chain_hash=bytes(32))

    assert caught.value.check == "chain"
    open_store(log, chain_hash=CHAIN_HASH).close()


def test_a_missing_log_is_not_made_by_opening(tmp_path: Path) -> None:
    """Opening never makes a file; a wrong path must not look like an empty log."""
    with pytest.raises(StoreCheckFailed) as caught:
        open_store(tmp_path / "log.db")

    assert caught.value.check == "exists"
    assert list(tmp_path.iterdir()) == []


def test_a_log_is_not_made_twice(log: Path) -> None:
    """`create_store` never overwrites."""
    before = log.read_bytes()

    with pytest.raises(StoreError, match="exists already"):
        new_log(log.parent)

    assert before == log.read_bytes()


def test_a_half_made_log_is_made_again(tmp_path: Path) -> None:
    """What a crash during `create_store` left behind does not disturb the next one."""
    (tmp_path / "log.db.new").write_bytes(b"half")

    path = new_log(tmp_path)

    assert [path, tmp_path / "log.db.lock"] == sorted(tmp_path.iterdir())


@pytest.mark.parametrize("field", ["log_id", "stream_key", "chain_hash", "origin"])
def test_wrong_lengths_are_refused_before_a_file_exists(tmp_path: Path, field: str) -> None:
    """Lengths of the log's constants are checked first."""
    fields = {"log_id": bytes(16), "stream_key": bytes(32), "chain_hash": bytes(32), "origin": "x"}
    fields[field] = ""

    with pytest.raises(StoreError):
        create_store(tmp_path / "log.db", recorded_at=0, **fields)  # type: ignore[arg-type]

    assert list(tmp_path.iterdir()) == []


def test_only_its_owner_can_read_a_new_log(log: Path) -> None:
    """The file holds the key that links streams to channels."""
    assert log.stat().st_mode & 0o777 == 0o600


def test_the_stream_key_is_not_shown(log: Path) -> None:
    """The repr of the log's constants leaves the key out."""
    with open_reader(log) as reader:
        assert reader.meta.stream_key.hex() not in repr(reader.meta)
        assert repr(reader.meta.stream_key) not in repr(reader.meta)


def test_a_second_instance_fails_at_once_and_names_the_first(log: Path) -> None:
    """One process per store: the second one is told who holds it, and waits for nothing."""
    program = (
        "import sys; from pathlib import Path; from watchtower.store.create import open_store\n"
        "store = open_store(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read(); store.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        started = time.monotonic()

        with pytest.raises(StoreLocked, match=f"pid {holder.pid}"):
            open_store(log)

        assert time.monotonic() - started < 60  # it does not wait for the first one, which stays
        holder.communicate("")
    open_store(log).close()


def test_a_reader_sees_what_the_running_service_commits(log: Path) -> None:
    """A reader of the live file reads each commit and waits for the next one."""
    with open_store(log) as store, open_reader(log) as reader:
        assert reader.last_id() == 3
        store.append([note("c2", 1)])

        assert reader.wait_beyond(3, 5) is True
        assert reader.wait_beyond(4, 0.01) is False
        assert store.read_log(0, 10) == reader.read_log(0, 10)


def test_a_reader_cannot_write(log: Path) -> None:
    """Neither an insert nor a checkpoint goes through a reading connection."""
    with open_reader(log) as reader, reader.connection() as connection, pytest.raises(sqlite3.OperationalError):
        connection.execute("INSERT INTO stored_events VALUES (4, 'c9', 1, 're06', x'90')")


def test_no_connection_may_be_left_behind(log: Path) -> None:
    """After closing, the write-ahead log is folded and gone."""
    with open_store(log) as store:
        store.append([note("c2", 1)])

    assert [log, log.with_name("log.db.lock")] == sorted(log.parent.iterdir())


def test_verification_of_the_tail_covers_its_commits(log: Path) -> None:
    """A tail check starts at the commit that holds its first event."""
    with open_reader(log) as reader, reader.connection() as connection:
        whole, tail = verify_log(connection), verify_log(connection, tail=1)

    assert (1, 3, 3, ()) == (whole.first_id, whole.last_id, whole.events, whole.findings)
    assert (2, 3, 2, whole.head) == (tail.first_id, tail.last_id, tail.events, tail.head)
