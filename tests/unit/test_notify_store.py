"""The outbox: what belongs together is stored together, nobody is told the past, a full disk does not silence it."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from watchtower.ports import StoreBusy, StoreError
from watchtower.store import notices
from watchtower.store.notices import Delivery, Entry, NoticeStore, remove

LOG_ID = bytes(16)


def opened(directory: Path, position: int = 7, log_id: bytes = LOG_ID) -> NoticeStore:
    """The outbox of a log that ends at `position`."""
    return NoticeStore(directory / "notify.db", log_id, position)


def entry(number: int, rank: int = 1) -> Entry:
    """A notice."""
    return Entry(f"id{number}", rank, b"%d" % number)


def test_a_new_outbox_stands_at_the_end_of_the_log(tmp_path: Path) -> None:
    """And only its owner may read it."""
    store = opened(tmp_path)

    assert (True, 7, {}) == (store.is_new, store.position(), store.facts())
    assert 0o600 == stat.S_IMODE((tmp_path / "notify.db").stat().st_mode)
    store.close()


def test_what_was_recorded_is_there_after_a_restart(tmp_path: Path) -> None:
    """Position, facts and notices of the same commit."""
    first = opened(tmp_path)
    first.set_targets(["webhook"])
    first.record(9, {"a": b"1", "b": b"2"}, [entry(1)])
    first.record(10, {"a": None}, [])
    first.close()
    second = opened(tmp_path, position=12)

    assert (False, 10, {"b": b"2"}) == (second.is_new, second.position(), second.facts())
    assert (1, 0, [b"1"]) == second.waiting("webhook")
    second.close()


@pytest.mark.parametrize(("end", "log_id"), [(8, LOG_ID), (12, bytes(15) + b"\1")])
def test_an_outbox_of_events_that_are_gone_is_made_anew(tmp_path: Path, end: int, log_id: bytes) -> None:
    """The log was rolled back behind it, or is another one."""
    first = opened(tmp_path)
    first.record(9, {}, [])
    first.close()
    second = opened(tmp_path, end, log_id)

    assert (True, end) == (second.is_new, second.position())
    second.close()


def test_a_file_that_is_no_outbox_is_replaced(tmp_path: Path) -> None:
    """It is disposable."""
    (tmp_path / "notify.db").write_bytes(b"x" * 5_000)
    store = opened(tmp_path)

    assert (True, 7) == (store.is_new, store.position())
    store.close()


def test_a_new_target_is_told_nothing_of_the_past(tmp_path: Path) -> None:
    """One that stays keeps what it has not got."""
    store = opened(tmp_path)
    store.set_targets(["webhook"])
    store.record(8, {}, [entry(1)])
    store.set_targets(["webhook", "email"])
    store.record(9, {}, [entry(2)])

    assert ([b"1", b"2"], [b"2"]) == (store.waiting("webhook")[2], store.waiting("email")[2])
    store.close()


def test_deliveries_keep_their_order_until_they_are_done(tmp_path: Path) -> None:
    """They survive a restart with the same bytes, and notices that all targets have are removed."""
    first = opened(tmp_path)
    first.set_targets(["webhook"])
    first.record(8, {}, [entry(1), entry(2)])
    first.cut("webhook", 2, [("m1", b"one"), ("m2", b"two")])
    first.tried(1)
    first.close()
    store = opened(tmp_path, position=8)
    before = store.next_delivery("webhook")
    store.done(1)

    assert Delivery(1, "m1", b"one", 1) == before
    assert Delivery(2, "m2", b"two", 0) == store.next_delivery("webhook")
    assert (2, 0, []) == store.waiting("webhook")
    assert 1 == store.depth()
    store.close()


def test_a_notice_that_is_recorded_twice_is_kept_once(tmp_path: Path) -> None:
    """The id says that it is the same."""
    store = opened(tmp_path)
    store.set_targets(["webhook"])
    store.record(8, {}, [entry(1)])
    store.record(8, {}, [entry(1)])

    assert [b"1"] == store.waiting("webhook")[2]
    store.close()


def test_a_full_queue_drops_the_least_urgent_first_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each target counts what it had not got."""
    monkeypatch.setattr(notices, "QUEUE_MAX", 3)
    store = opened(tmp_path)
    store.set_targets(["webhook", "email"])
    store.record(8, {}, [entry(1, rank=2), entry(2, rank=1)])
    store.cut("email", 2, [])
    store.record(9, {}, [entry(3, rank=2), entry(4, rank=2), entry(5, rank=2)])

    assert (5, 2, [b"3", b"4", b"5"]) == store.waiting("webhook")
    assert (5, 0, [b"3", b"4", b"5"]) == store.waiting("email")
    store.close()


def test_a_target_that_is_gone_takes_its_deliveries_along(tmp_path: Path) -> None:
    """Nobody waits for it any more."""
    store = opened(tmp_path)
    store.set_targets(["webhook"])
    store.record(8, {}, [entry(1)])
    store.cut("webhook", 1, [("m", b"m")])
    store.set_targets(["email"])

    assert (None, 0) == (store.next_delivery("webhook"), store.depth())
    store.close()


def test_on_a_full_disk_it_goes_on_in_memory_and_comes_back(tmp_path: Path) -> None:
    """Nothing that was recorded meanwhile is lost once there is space."""
    store = opened(tmp_path)
    store.set_targets(["webhook"])
    limit = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {limit}")
    store.record(8, {"fact": bytes(50_000)}, [entry(1)])
    trouble = store.trouble
    store.record(9, {"fact": None}, [entry(2)])
    back = store.return_to_file()
    store.close()
    again = opened(tmp_path, position=20)

    assert ("database or disk is full", True, "") == (trouble, back, store.trouble)
    assert (9, [b"1", b"2"]) == (again.position(), again.waiting("webhook")[2])
    again.close()


def test_a_directory_that_takes_no_file_is_no_reason_for_silence(tmp_path: Path) -> None:
    """It works in memory from the beginning."""
    store = NoticeStore(tmp_path / "gone" / "notify.db", LOG_ID, 7)
    store.set_targets(["webhook"])
    store.record(8, {}, [entry(1)])

    assert ([b"1"], False) == (store.waiting("webhook")[2], store.return_to_file())
    assert "No such file or directory" in store.trouble or "unable to open" in store.trouble
    store.close()


def test_a_damaged_file_is_an_error_of_the_store(tmp_path: Path) -> None:
    """Which ends a turn of the notifier, not the process."""
    store = opened(tmp_path)
    with sqlite3.connect(tmp_path / "notify.db") as other:
        other.execute("DROP TABLE facts")
    other.close()

    with pytest.raises(StoreError, match="no such table"):
        store.facts()
    store.close()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE])
def test_a_start_on_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """SQLite needs room beside the file even to read it; what waits there is told all the same."""
    store = opened(tmp_path)
    store.set_targets(["webhook"])
    store.record(8, {"fact": b"x"}, [entry(1)])
    store.close()

    def full(_path: Path) -> sqlite3.Connection:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(notices, "_connect", full)
        again = opened(tmp_path, position=20)
    kept = (again.is_new, again.position(), again.facts(), again.waiting("webhook")[2], again.trouble)
    again.record(9, {}, [entry(2)])
    again.close()
    later = opened(tmp_path, position=20)

    assert (False, 8, {"fact": b"x"}, [b"1"], "disk I/O error") == kept
    assert (9, [b"1", b"2"]) == (later.position(), later.waiting("webhook")[2])
    later.close()


def test_a_file_that_is_locked_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program looks at it: that is no reason to forget what waits."""
    monkeypatch.setattr(notices, "BUSY_SECONDS", 0.01)
    store = opened(tmp_path)
    store.record(8, {}, [entry(1)])
    store.close()
    other = sqlite3.connect(tmp_path / "notify.db", isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(StoreBusy):
        opened(tmp_path, position=20)
    other.close()
    again = opened(tmp_path, position=20)

    assert (False, 8) == (again.is_new, again.position())
    again.close()


def test_removing_leaves_nothing(tmp_path: Path) -> None:
    """Also what is beside the file; once more is nothing."""
    opened(tmp_path).close()
    remove(tmp_path / "notify.db")
    remove(tmp_path / "notify.db")

    assert [] == list(tmp_path.iterdir())
