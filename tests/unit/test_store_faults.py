"""Faults of the store, each with its honest error and the way back."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.support.stores import new_log, note
from watchtower.ports import StoreBroken, StoreBusy, StoreFull
from watchtower.store import group_commit
from watchtower.store.create import open_reader, open_store
from watchtower.store.event_store import SqliteEventStore
from watchtower.store.verify import verify_log

SECONDS = 30
"""How long a commit may take on a busy machine."""


class Switch:
    """A failpoint that does what the test says at one named point, once."""

    def __init__(self) -> None:
        self.name = ""
        self.error: Exception | None = None
        self.hold: threading.Event | None = None
        self.reached = threading.Event()

    def __call__(self, name: str) -> None:
        """Wait or fail if this is the named point."""
        if name != self.name:
            return
        self.name = ""
        self.reached.set()
        if self.hold is not None:
            self.hold.wait(2 * SECONDS)
        if self.error is not None:
            raise self.error


@pytest.fixture
def switch() -> Switch:
    """The store's failpoint."""
    return Switch()


@pytest.fixture
def store(tmp_path: Path, switch: Switch) -> Iterator[SqliteEventStore]:
    """An open store with a short lock timeout."""
    with open_store(new_log(tmp_path), failpoint=switch) as opened:
        with opened._datastore.raw(commit=True) as writer:
            writer.execute("PRAGMA busy_timeout = 50")
        yield opened


def test_fault_failed_commit_leaves_nothing(store: SqliteEventStore, switch: Switch) -> None:
    """Failed: the job is not stored, the next one is."""
    switch.name, switch.error = "commit:before", StoreFull("no space")

    with pytest.raises(StoreFull):
        store.append([note("c1", 1)])

    assert store.read_stream("c1") == []
    assert store.append([note("c1", 1)]) == 2


def test_fault_failed_but_committed_is_answered_on_repeat(store: SqliteEventStore, switch: Switch) -> None:
    """Failed but happened: the job is stored once, and sending it again gives its id."""
    switch.name, switch.error = "commit:after", StoreFull("answer lost")

    with pytest.raises(StoreFull):
        store.append([note("c1", 1)])

    assert store.append([note("c1", 1)]) == 2
    assert store.append([note("c1", 2)]) == 3
    assert len(store.read_stream("c1")) == 2


def test_fault_unknown_failure_ends_the_writer(store: SqliteEventStore, switch: Switch) -> None:
    """A mistake in the writer is not survived: this job and all later ones fail, `broken` is set."""
    switch.name, switch.error = "commit:before", RuntimeError("a mistake")

    with pytest.raises(RuntimeError):
        store.append([note("c1", 1)])

    assert store.broken.wait(SECONDS)
    with pytest.raises(StoreBroken):
        store.append([note("c1", 1)])


def test_fault_locked_by_another_program(store: SqliteEventStore) -> None:
    """A foreign lock means `StoreBusy`; after it the store works again."""
    foreign = sqlite3.connect(store.path, isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreBusy):
        store.append([note("c1", 1)])
    foreign.execute("ROLLBACK")
    foreign.close()

    assert store.append([note("c1", 1)]) == 2


def test_fault_disk_full(store: SqliteEventStore) -> None:
    """A full disk means `StoreFull`; with space again the same job is stored and the chain is whole."""
    with store._datastore.raw(commit=True) as writer:
        writer.execute("PRAGMA max_page_count = 1")
    job = [note("c1", version) for version in range(1, 900)]

    with pytest.raises(StoreFull):
        store.append(job)
    with store._datastore.raw(commit=True) as writer:
        writer.execute("PRAGMA max_page_count = 1000000")

    assert store.append(job) == 900
    with store.connection() as connection:
        assert verify_log(connection).findings == ()


def test_fault_foreign_writer_is_noticed(store: SqliteEventStore) -> None:
    """An event without a chain row, written by another program, stops our appends."""
    foreign = sqlite3.connect(store.path, isolation_level=None)
    foreign.execute("INSERT INTO stored_events VALUES (2, 'c9', 1, 're06', x'90')")
    foreign.close()

    with pytest.raises(Exception, match="commit chain at 1"):
        store.append([note("c1", 1)])

    assert store.read_stream("c1") == []


def test_fault_write_error(tmp_path: Path) -> None:
    """A write error means `StoreBroken`; after a restart every acknowledged event is there."""
    path = new_log(tmp_path)
    program = """
import resource, sys
from pathlib import Path
from tests.support.stores import note
from watchtower.ports import StoreBroken
from watchtower.store.create import open_store
store = open_store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
for version in range(1, 10_000):
    try:
        store.append([note("c1", version)])
    except StoreBroken:
        print(version - 1)
        break
store.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=2 * SECONDS, check=True
    )

    acknowledged = int(done.stdout)

    assert acknowledged > 10
    with open_store(path) as store, store.connection() as connection:
        assert len(store.read_stream("c1")) in (acknowledged, acknowledged + 1)
        assert verify_log(connection).findings == ()


def test_chain_jobs_overtake_waiting_clients(store: SqliteEventStore, switch: Switch) -> None:
    """While a thousand client jobs wait, the chain's job is the next commit."""
    switch.name, switch.hold = "commit:before", threading.Event()
    first = store.submit([note("first", 1)])
    assert switch.reached.wait(SECONDS)
    clients = [store.submit([note(f"c{name}", 1)]) for name in range(1_000)]
    block = store.submit([note("chain", 1)], chain=True)

    switch.hold.set()

    assert [2, 3] == [first.result(SECONDS), block.result(SECONDS)]
    assert sorted(client.result(SECONDS) for client in clients) == list(range(4, 1_004))


def test_two_conflicting_jobs_in_one_commit(store: SqliteEventStore, switch: Switch) -> None:
    """Of two jobs for one version that share a commit the first wins and no neighbor fails."""
    switch.name, switch.hold = "commit:before", threading.Event()
    store.submit([note("first", 1)])
    assert switch.reached.wait(SECONDS)
    jobs: list[Future[int]] = [store.submit([note("c1", 1, height=height)]) for height in (1, 2)]
    neighbor = store.submit([note("c2", 1)])

    switch.hold.set()

    assert jobs[0].result(SECONDS) == 3
    assert "is at version 1, not 0" in str(jobs[1].exception(SECONDS))
    assert neighbor.result(SECONDS) == 4


def test_unknown_streams_that_conflict_are_isolated(tmp_path: Path, switch: Switch) -> None:
    """After a restart versions are not remembered; a conflict in a shared commit still hits only its job."""
    path = new_log(tmp_path)
    with open_store(path) as store:
        store.append([note("c1", 1)])
    with open_store(path, failpoint=switch) as store:
        switch.name, switch.hold = "commit:before", threading.Event()
        store.submit([note("first", 1)])
        assert switch.reached.wait(SECONDS)
        jobs = [store.submit([note(name, 1, height=5)]) for name in ("c0", "c1", "c2")]

        switch.hold.set()

        assert [4, 5] == [jobs[0].result(SECONDS), jobs[2].result(SECONDS)]
        assert "stream c1 is at version 1, not 0" in str(jobs[1].exception(SECONDS))
        with store.connection() as connection:
            assert verify_log(connection).findings == ()


def test_a_full_queue_is_busy(store: SqliteEventStore, switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    """More waiting jobs than the queue holds are refused, and the chain's queue is its own."""
    monkeypatch.setattr(group_commit, "CLIENT_QUEUE", 2)
    switch.name, switch.hold = "commit:before", threading.Event()
    store.submit([note("first", 1)])
    assert switch.reached.wait(SECONDS)
    waiting = [store.submit([note(name, 1)]) for name in ("c1", "c2")]

    with pytest.raises(StoreBusy):
        store.submit([note("c3", 1)])
    block = store.submit([note("chain", 1)], chain=True)
    switch.hold.set()

    assert block.result(SECONDS) == 3
    assert [4, 5] == [job.result(SECONDS) for job in waiting]


def test_closing_writes_what_is_queued(tmp_path: Path, switch: Switch) -> None:
    """Jobs accepted before `close` are durable after it; later ones are refused."""
    path = new_log(tmp_path)
    store = open_store(path, failpoint=switch)
    switch.name, switch.hold = "commit:before", threading.Event()
    jobs = [store.submit([note(f"c{name}", 1)]) for name in range(20)]
    switch.hold.set()

    store.close()

    assert [job.result(0) for job in jobs] == list(range(2, 22))
    with pytest.raises(StoreBusy):
        store.submit([note("late", 1)])
    with open_reader(path) as reader:
        assert reader.last_id() == 21


def test_the_log_is_folded_into_the_file_when_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a quiet time the writer empties the write-ahead log by itself."""
    monkeypatch.setattr(group_commit, "IDLE_SECONDS", 0.01)
    folded = threading.Event()
    monkeypatch.setattr(SqliteEventStore, "_checkpoint_if_free", _and_set(SqliteEventStore._checkpoint_if_free, folded))
    path = new_log(tmp_path)
    with open_store(path) as store:
        store.append([note("c1", 1)])

        assert folded.wait(SECONDS)
        assert path.with_name("log.db-wal").stat().st_size == 0


def test_fault_P4_a_log_that_cannot_be_folded_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without space the main file cannot grow; what is in the write-ahead log is safe, and the writer must not end."""
    monkeypatch.setattr(group_commit, "IDLE_SECONDS", 0.01)
    tried = threading.Event()

    def no_space(_store: SqliteEventStore) -> None:
        tried.set()
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with open_store(new_log(tmp_path)) as store:
        with monkeypatch.context() as patch:
            patch.setattr(SqliteEventStore, "_checkpoint_if_free", no_space)
            store._writer._on_idle = store._checkpoint_if_free
            store.append([note("c1", 1)])
            assert tried.wait(SECONDS)
            store._writer._on_idle = lambda: None

        assert 3 == store.append([note("c1", 2)])
        assert not store.broken.is_set()


def _and_set(method, event):  # type: ignore[no-untyped-def]
    def wrapped(self):  # type: ignore[no-untyped-def]
        method(self)
        event.set()

    return wrapped


def test_observations_name_operation_and_kind(tmp_path: Path) -> None:
    """Durations of appends, commits and reads are handed to whoever counts."""
    seen: list[tuple[str, str]] = []
    with open_store(
        new_log(tmp_path), observe=lambda operation, seconds, kind: seen.append((operation, kind))
    ) as store:
        store.append([note("c1", 1)], chain=True)
        store.append([note("c1", 2)])
        store.read_stream("c1")

    assert {("append", "chain"), ("append", "client"), ("commit", "chain"), ("read_stream", "")} <= set(seen)


@pytest.mark.slow
def test_a_program_that_forgets_to_close_still_ends(tmp_path: Path) -> None:
    """The writer does not keep a process alive whose main thread is gone; what it had accepted is durable."""
    path = new_log(tmp_path)
    program = """
import sys
from pathlib import Path
from tests.support.stores import note
from watchtower.store.create import open_store
store = open_store(Path(sys.argv[1]))
store.append([note("c1", 1)])
raise SystemExit(7)
"""

    done = subprocess.run([sys.executable, "-c", program, str(path)], timeout=2 * SECONDS, check=False)

    assert 7 == done.returncode
    with open_reader(path) as reader:
        assert reader.last_id() == 2
