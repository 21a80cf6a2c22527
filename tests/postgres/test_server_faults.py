"""The tower's store while its server restarts, dies, is cut off, is full or forbids writing."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.cutting_proxy import CuttingProxy
from tests.support.postgres import PostgresServer, silent_port
from tests.support.postgres_towers import end_leading_session, terms, through
from tests.support.stores import new_log, note
from watchtower.ports import StoreAway, StoreConflict, StoreError, StoreFull
from watchtower.store import group_commit
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.overflow import OverflowStore
from watchtower.store.postgres.event_store import PostgresEventStore, open_server_log, open_server_reader
from watchtower.store.postgres.source import PostgresSource
from watchtower.store.sqlite_source import SqliteSource
from watchtower.store.verify import verify_source

LONG = 60.0
"""Seconds that nobody waits for who is answered at once, however busy the machine is."""


class Cut:
    """A failpoint that does something at the next commits, one thing each."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], object]] = []

    def __call__(self, name: str) -> None:
        """Called in the writer's thread."""
        if name == "commit:before" and self._waiting:
            self._waiting.pop(0)()

    def at_next(self, *actions: Callable[[], object]) -> None:
        """Do the first before the next COMMIT is sent, the second before the one after it …"""
        self._waiting = list(actions)


@pytest.fixture
def fuse() -> Cut:
    """Not armed."""
    return Cut()


@pytest.fixture
def store(
    proxy: CuttingProxy, postgres: PostgresServer, log_url: str, tmp_path: Path, fuse: Cut
) -> Iterator[PostgresEventStore]:
    """A tower's store behind the proxy."""
    with open_server_log(through(proxy, postgres, log_url), tmp_path / "copy.db", failpoint=fuse) as opened:
        yield opened


def append_soon(store: PostgresEventStore, stream: str, version: int) -> int:
    """Send the same bytes until they are taken, as clients do."""
    for _ in range(1_200):
        try:
            return store.append([note(stream, version, version)])
        except StoreAway:
            time.sleep(0.05)
    raise AssertionError("the server did not come back")


def is_whole(url: str, copy: Path) -> None:
    """The log verifies on the server and in the copy, and both end with the same head."""
    with PostgresSource(url) as server, SqliteSource(copy) as own:
        assert () == verify_source(server).findings
        assert () == verify_source(own).findings
        assert server.last_commit() == own.last_commit()


def test_fault_commit_arrives_and_its_answer_is_lost(
    store: PostgresEventStore, proxy: CuttingProxy, fuse: Cut, log_url: str, tmp_path: Path
) -> None:
    """The connection breaks behind a COMMIT: the caller gets the ids, nothing is stored twice."""
    store.append([note("c1", 1)])

    def lose() -> None:
        proxy.lose_answers()
        threading.Thread(target=_cut_when_swallowed, args=(proxy,)).start()

    fuse.at_next(lose)
    assert store.append([note("c1", 2), note("c2", 1)]) == 4
    assert store.append([note("c1", 3)]) == 5
    assert [1] == terms(log_url)
    is_whole(log_url, tmp_path / "copy.db")


def _cut_when_swallowed(proxy: CuttingProxy) -> None:
    assert proxy.swallowed.wait(30)
    proxy.heal()
    proxy.cut()


def test_fault_commit_does_not_arrive(
    store: PostgresEventStore, proxy: CuttingProxy, fuse: Cut, log_url: str, tmp_path: Path
) -> None:
    """The connection breaks before a COMMIT: the job is written again under the same ids."""
    fuse.at_next(proxy.cut)

    assert store.append([note("c1", 1), note("c2", 1)]) == 3
    is_whole(log_url, tmp_path / "copy.db")


def test_fault_a_whole_group_is_answered_after_a_lost_commit(
    store: PostgresEventStore, proxy: CuttingProxy, fuse: Cut, log_url: str, tmp_path: Path
) -> None:
    """Thirty callers share the lost commit: each gets its own answer, and the one that conflicts its conflict."""
    goes_on = threading.Event()
    fuse.at_next(lambda: goes_on.wait(60), proxy.cut)
    first = store.submit([note("first", 1)])
    jobs = [store.submit([note(f"c{number}", 1)]) for number in range(30)]
    late = store.submit([note("c7", 1, height=9)])
    goes_on.set()

    ids = [job.result(60) for job in jobs]

    assert first.result() == 2
    assert set(range(3, 33)) == set(ids)
    with pytest.raises(StoreConflict):
        late.result(60)
    is_whole(log_url, tmp_path / "copy.db")


def test_fault_server_away_for_long(
    store: PostgresEventStore, proxy: CuttingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients are refused at once, all is read from the copy, and when the server is back the log goes on."""
    monkeypatch.setattr(group_commit, "PATIENCE", 0.2)
    for version in range(1, 6):
        store.append([note("c1", version)])
    proxy.refuse()
    with pytest.raises(StoreAway):
        store.append([note("c1", 6)])
    monkeypatch.setattr(group_commit, "PATIENCE", LONG)
    began = time.monotonic()
    with pytest.raises(StoreAway):
        store.append([note("c1", 6)])

    assert time.monotonic() - began < LONG / 2
    assert store.away_for() > 0
    assert len(store.read_stream("c1")) == 5
    assert store.version("c1") == 5
    assert [6] == [recorded.id for recorded in store.read_log(5, 10)]
    proxy.heal()
    assert append_soon(store, "c1", 6) == 7
    assert store.away_for() == 0


def test_fault_facts_of_the_chain_wait_for_the_server(
    store: PostgresEventStore, proxy: CuttingProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log_url: str
) -> None:
    """They are readable under the ids that they get, clients are refused meanwhile, and all is written in order."""
    monkeypatch.setattr(group_commit, "PATIENCE", 0.2)
    overflow = OverflowStore(store)
    overflow.append([note("c1", 1)])
    proxy.refuse()

    assert overflow.append([note("chain", 1), note("c1", 2)], chain=True) == 4
    assert overflow.append([note("c1", 3)], chain=True) == 5
    assert (3, 0) == (overflow.held, overflow.held_for_space)
    assert [1, 2, 3] == [event.version for event in overflow.read_stream("c1")]
    with pytest.raises(StoreAway):
        overflow.append([note("c2", 1)])
    proxy.heal()
    assert _flushed(overflow)
    assert overflow.append([note("c2", 1)]) == 6
    is_whole(log_url, tmp_path / "copy.db")


def _flushed(overflow: OverflowStore) -> bool:
    for _ in range(600):
        if overflow.flush():
            return True
        time.sleep(0.05)
    return False


def test_fault_restart_of_the_server_under_load(postgres: PostgresServer, log_url: str, tmp_path: Path) -> None:
    """Eight callers write on while the server restarts in order and after a crash: nothing acknowledged is lost."""
    with open_server_log(log_url, tmp_path / "copy.db") as store, ThreadPoolExecutor(8) as pool:
        ending = threading.Event()
        callers = [pool.submit(_write_until, ending, store, f"c{number}") for number in range(8)]
        _after(store, 100)
        postgres.restart()
        _after(store, 100)
        postgres.kill()
        postgres.launch()
        _after(store, 100)
        ending.set()
        told = {f"c{number}": caller.result(60) for number, caller in enumerate(callers)}

    with open_server_reader(log_url) as reader:
        assert told == {stream: reader.version(stream) for stream in told}
    is_whole(log_url, tmp_path / "copy.db")


def _write_until(ending: threading.Event, store: PostgresEventStore, stream: str) -> int:
    version = 0
    while not ending.is_set():
        append_soon(store, stream, version + 1)
        version += 1
    return version


def _after(store: PostgresEventStore, events: int) -> None:
    """So many events later."""
    assert store.wait_beyond(store.last_id() + events, 60)


def test_fault_no_server_at_the_start(tmp_path: Path) -> None:
    """A refused connection is `StoreAway`, and no file is left behind."""
    with pytest.raises(StoreAway, match="not available"):
        open_server_log(f"postgresql://tower@127.0.0.1:{silent_port()}/log", tmp_path / "copy.db")

    assert [] == list(tmp_path.iterdir())


def test_fault_wrong_password(postgres: PostgresServer, database: str, log_url: str, tmp_path: Path) -> None:
    """The sentence says what is wrong and holds no password."""
    with pytest.raises(StoreError) as caught:
        open_server_log(postgres.tcp_url(database, "tower", "not-this-one"), tmp_path / "copy.db")

    assert "not-this-one" not in str(caught.value)


def test_fault_the_server_is_a_replica(postgres: PostgresServer, log_url: str, tmp_path: Path) -> None:
    """A server that only reads is refused at the start."""
    with postgres.connect() as connection:
        connection.execute("ALTER ROLE tower SET default_transaction_read_only = on")
    try:
        with pytest.raises(StoreError, match="read-only"):
            open_server_log(log_url, tmp_path / "copy.db")
    finally:
        with postgres.connect() as connection:
            connection.execute("ALTER ROLE tower RESET default_transaction_read_only")


def test_fault_another_schema(postgres: PostgresServer, database: str, log_url: str, tmp_path: Path) -> None:
    """A database of a newer program is refused with what to do."""
    with postgres.connect(database) as connection:
        connection.execute("INSERT INTO watchtower.schema_steps (number, name) VALUES (9000, 'future')")

    with pytest.raises(StoreCheckFailed, match=r"schema 9000.*store migrate"):
        open_server_log(log_url, tmp_path / "copy.db")


def test_fault_no_space_on_the_server(
    postgres: PostgresServer, database: str, store: PostgresEventStore, log_url: str, tmp_path: Path
) -> None:
    """A full disk of the server is `StoreFull`; nothing is half written, and the store works again."""
    store.append([note("c1", 1)])
    with postgres.connect(database) as connection:
        connection.execute(
            "CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END$$"
        )
        connection.execute(
            "CREATE TRIGGER full_disk BEFORE INSERT ON watchtower.commit_chain "
            "FOR EACH STATEMENT EXECUTE FUNCTION public.full()"
        )
        with pytest.raises(StoreFull):
            store.append([note("c1", 2)])
        connection.execute("DROP TRIGGER full_disk ON watchtower.commit_chain")

    assert store.append([note("c1", 2)]) == 3
    is_whole(log_url, tmp_path / "copy.db")


def test_fault_the_copy_cannot_be_written(
    store: PostgresEventStore, monkeypatch: pytest.MonkeyPatch, log_url: str, tmp_path: Path
) -> None:
    """The disk of the tower is full: jobs are acknowledged, reading goes to the server, and the copy comes back."""
    store.append([note("c1", 1)])
    with monkeypatch.context() as patch:
        patch.setattr(store._copy, "add", _no_space)
        assert store.append([note("c1", 2)]) == 3
        assert store.append([note("c1", 3)]) == 4
        assert [1, 2, 3] == [event.version for event in store.read_stream("c1")]
        assert store.place(4).position == 4
    store._copying.look_after_copy()

    assert store.append([note("c1", 4)]) == 5
    is_whole(log_url, tmp_path / "copy.db")


def test_fault_a_tower_leads_although_its_copy_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, log_url: str, tmp_path: Path
) -> None:
    """A full disk at the start: the tower reads at the server what its copy lacks, and fills the copy later."""
    path = tmp_path / "copy.db"
    with open_server_log(log_url, path) as store:
        store.append([note("c1", 1)])
    with open_server_log(log_url, tmp_path / "other.db") as other:
        other.append([note("c1", 2)])
    with monkeypatch.context() as patch:
        patch.setattr("watchtower.store.local_copy.LocalCopy.add", _no_space)
        started = open_server_log(log_url, path)
        file, last = started.file, started.append([note("c1", 3)])
        read = [event.version for event in started.read_stream("c1")]
    started._copying.look_after_copy()
    started.close()

    assert (None, 4, [1, 2, 3]) == (file, last, read)
    is_whole(log_url, path)


def _no_space(*_: object) -> None:
    raise StoreFull("no space left on the device")


@pytest.mark.parametrize("damage", ["other history", "bytes", "changed event", "missing", "another log"])
def test_a_copy_that_does_not_fit_is_made_again(log_url: str, tmp_path: Path, damage: str) -> None:
    """Whatever the file in the data directory is, the tower reads what the server has; the old file is set aside."""
    path = tmp_path / "copy.db"
    with open_server_log(log_url, path) as store:
        store.append([note("c1", 1)])
    DAMAGES[damage](path)

    with open_server_log(log_url, path) as store:
        assert [1] == [event.version for event in store.read_stream("c1")]
    is_whole(log_url, path)


def _other_history(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER chain_no_update")
        connection.execute("UPDATE commit_chain SET head = zeroblob(32) WHERE commit_no = 2")
        connection.commit()


def _bytes(path: Path) -> None:
    path.write_bytes(bytes(4096) + path.read_bytes()[4096:])


def _changed_event(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER events_no_update")
        connection.execute("UPDATE stored_events SET state = x'90' WHERE originator_id = 'c1'")
        connection.commit()


def _missing(path: Path) -> None:
    path.unlink()


def _another_log(path: Path) -> None:
    path.unlink()
    new_log(path.parent, "other.db").rename(path)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "other history": _other_history,
    "bytes": _bytes,
    "changed event": _changed_event,
    "missing": _missing,
    "another log": _another_log,
}


def test_a_leader_follows_its_own_lost_commit_into_the_copy(
    store: PostgresEventStore,
    proxy: CuttingProxy,
    fuse: Cut,
    monkeypatch: pytest.MonkeyPatch,
    log_url: str,
    tmp_path: Path,
) -> None:
    """A commit that nobody heard of is in the copy as soon as the server is back, and its caller may ask again."""
    monkeypatch.setattr(group_commit, "PATIENCE", 0.0)

    def lose() -> None:
        proxy.lose_answers()
        threading.Thread(target=lambda: proxy.swallowed.wait(30) and proxy.refuse()).start()

    fuse.at_next(lose)
    with pytest.raises(StoreAway):
        store.append([note("c1", 1, 7)])
    proxy.heal()

    assert _soon(lambda: store.version("c1") == 1)
    assert store.append([note("c1", 1, 7)]) == 2
    assert store.append([note("c1", 2)]) == 3
    is_whole(log_url, tmp_path / "copy.db")


def _soon(holds: Callable[[], bool]) -> bool:
    for _ in range(600):
        if holds():
            return True
        time.sleep(0.05)
    return False


def test_fault_a_fact_whose_answer_was_lost_waits_under_the_id_that_it_has(
    store: PostgresEventStore,
    proxy: CuttingProxy,
    fuse: Cut,
    monkeypatch: pytest.MonkeyPatch,
    log_url: str,
    tmp_path: Path,
) -> None:
    """It is stored and nobody knows: it waits with what follows, and is not written twice."""
    monkeypatch.setattr(group_commit, "PATIENCE", 0.0)
    overflow = OverflowStore(store)

    def lose() -> None:
        proxy.lose_answers()
        threading.Thread(target=lambda: proxy.swallowed.wait(30) and proxy.refuse()).start()

    fuse.at_next(lose)
    assert overflow.append([note("chain", 1)], chain=True) == 2
    assert overflow.append([note("chain", 2)], chain=True) == 3
    proxy.heal()

    assert _flushed(overflow)
    assert [1, 2] == [event.version for event in store.read_stream("chain")]
    is_whole(log_url, tmp_path / "copy.db")


def test_followers_in_other_processes_are_told(log_url: str, tmp_path: Path) -> None:
    """A reader sleeps until the tower commits, however long that takes."""
    with open_server_log(log_url, tmp_path / "copy.db") as store, open_server_reader(log_url) as reader:
        assert reader.wait_beyond(1, 0.05) is False
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(reader.wait_beyond, 1, 60.0)
            store.append([note("c1", 1)])
            assert answer.result(60)
        end_leading_session(log_url)
        assert store.append([note("c1", 2)]) == 3
        assert reader.wait_beyond(2, 60)
