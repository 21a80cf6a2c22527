"""Appending to a server that others write to, that goes away, and that is full."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from domain.log_chain import leaf
from tests.postgres.writer import EVENTS
from tests.support.commands import CLEAN, ROOT
from tests.support.postgres import PostgresServer
from watchtower.ports import StoreAway, StoreBroken, StoreBusy, StoreError, StoreFull
from watchtower.store.datastore import no_failpoint
from watchtower.store.postgres.datastore import LogDatastore
from watchtower.store.postgres.errors import POSTGRES
from watchtower.store.postgres.listener import CommitListener
from watchtower.store.postgres.recorder import PostgresRecorder
from watchtower.store.postgres.source import PostgresSource
from watchtower.store.verify import verify_source

SECONDS = 60
"""Most that a test waits for something that happens at once."""

MakeRecorder = Callable[..., PostgresRecorder]


@pytest.fixture
def make(log_url: str) -> Iterator[MakeRecorder]:
    """Makes recorders of a new log."""
    made: list[LogDatastore] = []

    def recorder(failpoint: Callable[[str], None] = no_failpoint, *, exclusive: bool = True) -> PostgresRecorder:
        made.append(LogDatastore(log_url, failpoint=failpoint))
        return PostgresRecorder(made[-1], exclusive=exclusive)

    yield recorder
    for datastore in made:
        datastore.close()


def job(stream: str, *versions: int) -> list[StoredEvent]:
    """Events of a stream."""
    return [StoredEvent(stream, version, "re06", b"\x90") for version in versions]


def meant(error: BaseException) -> type[StoreError]:
    """What an error of the database means."""
    return type(POSTGRES.store_error(error))


def cut_sessions(postgres: PostgresServer, database: str) -> None:
    """End every connection to a database, as a restart of the server does."""
    with postgres.connect() as owner:
        owner.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (database,))


def ended(writers: list[subprocess.Popen[bytes]], give_up: Callable[[], None]) -> list[int]:
    """Exit codes of all; a reader must not wait for what one that failed did not write."""
    codes = [writer.wait(2 * SECONDS) for writer in writers]
    if any(codes):
        give_up()
    return codes


def test_reader_misses_nothing_of_six_writers(log_url: str, make: MakeRecorder) -> None:
    """Six processes write in turn; a reader that follows sees every id in order, each job in one piece."""
    jobs, names = 15, [f"w{number}" for number in range(6)]
    command = [sys.executable, "-m", "tests.postgres.writer", log_url]
    seen = []
    with make().subscribe(gt=1) as subscription, ThreadPoolExecutor(1) as pool:
        writers = [subprocess.Popen([*command, name, str(jobs)], env=CLEAN, cwd=ROOT) for name in names]
        ends = pool.submit(ended, writers, subscription.stop)
        for notification in subscription:
            seen.append(notification)
            if len(seen) == len(names) * jobs * EVENTS:
                break
        codes = ends.result(2 * SECONDS)

    assert [0] * len(names) == codes
    assert list(range(2, 2 + len(seen))) == [notification.id for notification in seen]
    pieces = [seen[start : start + EVENTS] for start in range(0, len(seen), EVENTS)]
    assert all(1 == len({notification.originator_id for notification in piece}) for piece in pieces)
    by_stream = [[n.originator_version for n in seen if n.originator_id == name] for name in names]
    assert all(later == earlier + 1 for versions in by_stream for earlier, later in pairwise(versions))
    with PostgresSource(log_url) as source:
        assert () == verify_source(source).findings


def test_place_of_recent_and_old_events(make: MakeRecorder) -> None:
    """The place that a receipt names is the same from memory and from the database; there is none behind the end."""
    writer, reader = make(), make()
    writer.insert_jobs([job("c1", 1, 2), job("c2", 1)])
    writer.insert_jobs([job("c1", 3)])

    places = [writer.place(event_id) for event_id in range(1, 6)]

    assert places == [reader.place(event_id) for event_id in range(1, 6)]
    assert leaf("c2", 1, "re06", b"\x90") == places[3].leaf  # type: ignore[union-attr]
    assert places[4].head != places[3].head == places[2].head  # type: ignore[union-attr]
    assert make().place(6) is None


def test_cut_while_idle_is_not_noticed(make: MakeRecorder, postgres: PostgresServer, database: str) -> None:
    """A connection that died between two commits is replaced; reading and writing go on."""
    recorder = make()
    recorder.insert_jobs([job("c1", 1)])
    assert 1 == recorder.version("c1")
    cut_sessions(postgres, database)

    assert [[3]] == [list(ids) for ids in recorder.insert_jobs([job("c1", 2)])]
    assert 2 == recorder.version("c1")


def test_cut_before_commit_leaves_nothing(make: MakeRecorder, postgres: PostgresServer, database: str) -> None:
    """A connection that dies in the transaction: nothing is stored, and the same job fits afterwards."""
    cut = [True]

    def at(name: str) -> None:
        if name == "commit:before" and cut and cut.pop():
            cut_sessions(postgres, database)

    recorder = make(at)
    with pytest.raises(psycopg.OperationalError) as failed:
        recorder.insert_jobs([job("c1", 1)])
    recorder.resume()

    assert StoreAway is meant(failed.value)
    assert 0 == recorder.version("c1")
    assert [[2]] == [list(ids) for ids in recorder.insert_jobs([job("c1", 1)])]


def test_lost_answer_of_a_commit_is_found_again(make: MakeRecorder) -> None:
    """The commit happened and its answer was lost: `resume` learns of it and tells the listeners."""
    lost = [True]

    def at(name: str) -> None:
        if name == "commit:after" and lost and lost.pop():
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    recorder = make(at)
    tips: list[int] = []
    recorder.on_commit.append(lambda: tips.append(recorder.tip_id))
    with pytest.raises(psycopg.OperationalError):
        recorder.insert_jobs([job("c1", 1)])
    recorder.resume()
    again = recorder.insert_jobs([job("c1", 2)])

    assert ([2, 3], [3]) == (tips, list(again[0]))


def test_fault_P9_exclusive_writer_stops_behind_another(make: MakeRecorder) -> None:
    """A tower that finds events which it did not write is not the writer any more, and stores nothing."""
    first, second = make(), make()
    first.insert_jobs([job("c1", 1)])
    second.insert_jobs([job("c2", 1)])

    with pytest.raises(StoreBroken, match="ends at event 3, not at 2"):
        first.insert_jobs([job("c1", 2)])
    with pytest.raises(StoreBroken):
        first.resume()
    assert (1, 3) == (second.version("c1"), second.max_notification_id())


def test_fault_P6_held_lock_means_busy(make: MakeRecorder, postgres: PostgresServer, database: str) -> None:
    """A foreign program that keeps the writers' lock delays an append by five seconds at most."""
    recorder = make()
    with postgres.connect(database) as owner, owner.transaction():
        owner.execute("SELECT pg_advisory_xact_lock(hashtextextended('watchtower.wt_events', 0))")
        with pytest.raises(psycopg.errors.LockNotAvailable) as failed:
            recorder.insert_jobs([job("c1", 1)])

    assert StoreBusy is meant(failed.value)
    assert [[2]] == [list(ids) for ids in recorder.insert_jobs([job("c1", 1)])]


@pytest.mark.parametrize(
    ("state", "meaning"), [("53100", StoreFull), ("58030", StoreBroken), ("57P03", StoreAway), ("53200", StoreBusy)]
)
def test_failing_server_stores_nothing(
    make: MakeRecorder, postgres: PostgresServer, database: str, state: str, meaning: type[StoreError]
) -> None:
    """Disk full, I/O error, start-up, no memory: an honest error, nothing half written, and appends fit afterwards."""
    recorder = make()
    with postgres.connect(database) as owner:
        owner.execute(
            "CREATE FUNCTION watchtower.fail() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$BEGIN RAISE EXCEPTION 'no luck' USING ERRCODE = '{state}'; END$$"
        )
        owner.execute(
            "CREATE TRIGGER a_failure AFTER INSERT ON watchtower.commit_chain FOR EACH ROW "
            "EXECUTE FUNCTION watchtower.fail()"
        )
        with pytest.raises(psycopg.Error) as failed:
            recorder.insert_jobs([job("c1", 1)])
        stored = recorder.max_notification_id()
        owner.execute("DROP TRIGGER a_failure ON watchtower.commit_chain")

    assert (meaning, 1) == (meant(failed.value), stored)
    assert [[2]] == [list(ids) for ids in recorder.insert_jobs([job("c1", 1)])]


def test_fault_P2_acknowledged_events_survive_the_death_of_the_server(
    make: MakeRecorder, postgres: PostgresServer, log_url: str
) -> None:
    """kill -9 of the whole server while it is written to: every acknowledged event is there, and no half commit."""
    recorder, acknowledged = make(), [0]
    enough = threading.Event()

    def write() -> None:
        for version in range(1, 100_000):
            recorder.insert_jobs([job("c1", 2 * version - 1, 2 * version)])
            acknowledged[0] = 2 * version
            if version == 25:
                enough.set()

    def write_until_it_fails() -> None:
        with pytest.raises(psycopg.OperationalError):
            write()

    writer = threading.Thread(target=write_until_it_fails)
    writer.start()
    assert enough.wait(SECONDS)
    postgres.kill()
    writer.join(SECONDS)
    postgres.launch()
    recorder.resume()

    stored = recorder.version("c1")
    assert stored in (acknowledged[0], acknowledged[0] + 2)
    assert [[stored + 2, stored + 3]] == [
        list(ids) for ids in recorder.insert_jobs([job("c1", stored + 1, stored + 2)])
    ]
    with PostgresSource(log_url) as source:
        assert () == verify_source(source).findings


def test_listener_hears_again_after_a_restart(make: MakeRecorder, postgres: PostgresServer, log_url: str) -> None:
    """A listener connects again by itself, and looks once more then."""
    woken = threading.Event()
    listener = CommitListener(log_url, woken.set)
    try:
        assert woken.wait(SECONDS)
        postgres.restart()
        woken.clear()
        assert woken.wait(SECONDS)
        recorder = make()
        while recorder.max_notification_id() != 2:
            woken.clear()
            recorder.insert_jobs([job("c1", 1)])
        assert woken.wait(SECONDS)
    finally:
        listener.close()


def test_closed_store_says_so(make: MakeRecorder) -> None:
    """After `close` nothing is read or written, and closing twice is no mistake."""
    recorder = make()
    recorder.datastore.close()
    recorder.datastore.close()

    with pytest.raises(POSTGRES.failures, match="closed"):
        recorder.version("c1")
    with pytest.raises(POSTGRES.failures, match="closed"):
        recorder.insert_jobs([job("c1", 1)])


def test_reader_cannot_write(log_url: str) -> None:
    """A store that was opened for reading has no writing connection, and its connections refuse to write."""
    datastore = LogDatastore(log_url, read_only=True)
    try:
        with pytest.raises(POSTGRES.failures, match="reading only"):
            PostgresRecorder(datastore).insert_jobs([job("c1", 1)])
        with datastore.reading() as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TEMPORARY TABLE x (y integer)")
    finally:
        datastore.close()
