"""One tower writes a log on a server: the lock, the term, and what becomes of a leader that lost its session."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.cutting_proxy import CuttingProxy
from tests.support.postgres import PostgresServer
from tests.support.postgres_towers import end_leading_session, replacing_the_leader, terms, through, wait_in_line
from tests.support.stores import note
from watchtower.ports import StoreAway, StoreBroken, StoreError, StoreLocked
from watchtower.store.postgres import leadership
from watchtower.store.postgres.connection import connect
from watchtower.store.postgres.event_store import PostgresEventStore, open_server_log, open_server_reader
from watchtower.store.postgres.leadership import LeadershipLost


@pytest.fixture
def leader(log_url: str, tmp_path: Path) -> Iterator[PostgresEventStore]:
    """A tower that leads."""
    with open_server_log(log_url, tmp_path / "first.db") as store:
        yield store


def test_a_second_tower_is_told_who_leads(
    leader: PostgresEventStore, log_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets `StoreLocked`, the first one is not disturbed."""
    monkeypatch.setattr(leadership, "GONE_SECONDS", 0.1)
    with pytest.raises(StoreLocked, match=r"another tower leads this log \(.*, term 1 since .*standby"):
        open_server_log(log_url, tmp_path / "second.db")

    assert leader.append([note("c1", 1)]) == 2


def test_each_leader_begins_a_term(log_url: str, tmp_path: Path) -> None:
    """A tower that is stopped and started again leads in the next term."""
    for _ in range(2):
        open_server_log(log_url, tmp_path / "copy.db").close()

    assert [1, 2] == terms(log_url)


def test_one_data_directory_serves_one_tower(leader: PostgresEventStore, log_url: str, tmp_path: Path) -> None:
    """Two processes never write one copy, even if the server forgot who leads."""
    leader.append([note("c1", 1)])
    end_leading_session(log_url)

    with pytest.raises(StoreLocked):
        open_server_log(log_url, tmp_path / "first.db")


def test_a_leader_that_lost_its_session_goes_on(leader: PostgresEventStore, log_url: str) -> None:
    """Nobody led meanwhile: the next append takes the lock again, in the same term."""
    leader.append([note("c1", 1)])
    end_leading_session(log_url)

    assert leader.append([note("c1", 2)]) == 3
    assert [1] == terms(log_url)
    assert not leader.broken.is_set()


def test_a_leader_that_was_replaced_ends(leader: PostgresEventStore, log_url: str, tmp_path: Path) -> None:
    """Another tower led meanwhile, even if it is gone again: the old one refuses for good and writes nothing."""
    with replacing_the_leader(log_url, tmp_path / "second.db") as other:
        other.append([note("c1", 1)])

    with pytest.raises((LeadershipLost, StoreBroken)):
        leader.append([note("c1", 2)])
    assert leader.broken.is_set()
    with open_server_reader(log_url) as reader:
        assert reader.version("c1") == 1


def test_a_quiet_leader_that_was_replaced_ends_too(leader: PostgresEventStore, log_url: str, tmp_path: Path) -> None:
    """It need not write to find out: it is heard every second."""
    with replacing_the_leader(log_url, tmp_path / "second.db"):
        assert leader.broken.wait(30)


def test_an_old_leader_cannot_commit(log_url: str, tmp_path: Path) -> None:
    """It hangs before its COMMIT, its session ends, another tower leads: what it had begun never happened."""
    hangs, goes_on = threading.Event(), threading.Event()

    def failpoint(name: str) -> None:
        if name == "commit:before" and not hangs.is_set():
            hangs.set()
            goes_on.wait(60)

    old = open_server_log(log_url, tmp_path / "first.db", failpoint=failpoint)
    answer = old.submit([note("c1", 1, height=1)])
    assert hangs.wait(30)
    end_leading_session(log_url)
    with open_server_log(log_url, tmp_path / "second.db") as new:
        assert new.append([note("c2", 1)]) == 2
        goes_on.set()
        with pytest.raises(StoreError):
            answer.result(30)
        assert new.append([note("c2", 2)]) == 3
        assert [] == new.read_stream("c1")
    assert old.broken.is_set()
    old.close()


def test_a_leader_takes_the_lock_from_its_own_lost_session(
    postgres: PostgresServer, proxy: CuttingProxy, log_url: str, tmp_path: Path
) -> None:
    """The connection broke without a word to the server: the tower ends its old session itself and goes on."""
    with open_server_log(through(proxy, postgres, log_url), tmp_path / "copy.db") as store:
        store.append([note("c1", 1)])
        proxy.lose_requests()
        proxy.abandon()
        proxy.heal()

        assert store.append([note("c1", 2)]) == 3
        assert [1] == terms(log_url)


def test_a_leader_that_makes_no_sound_is_replaced(
    log_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process hangs: the server ends its session, the next tower leads, and the first one ends when it wakes."""
    monkeypatch.setattr(leadership, "_SESSION", ("SET idle_session_timeout = '1s'",))
    hangs, goes_on = threading.Event(), threading.Event()
    with open_server_log(log_url, tmp_path / "first.db") as old:
        old.append([note("c1", 1)])
        with monkeypatch.context() as patch:
            patch.setattr(old._writer, "_on_idle", lambda: not (hangs.set() or goes_on.wait(60)))
            assert hangs.wait(30)
            turn = leadership.Leadership(log_url).wait(threading.Event())
            assert turn is not None
            goes_on.set()
        with pytest.raises(StoreBroken):
            old.append([note("c1", 2)])
        assert [1, 2] == terms(log_url)
        turn.close()


def test_while_another_session_holds_the_lock_jobs_are_refused_for_now(
    leader: PostgresEventStore, log_url: str
) -> None:
    """Somebody has the lock and no term yet: that may end, so the answer is to try again."""
    waiting = connect(log_url)
    taken = threading.Thread(
        target=waiting.execute, args=("SELECT pg_advisory_lock(hashtextextended('watchtower.leader', 0))",)
    )
    taken.start()
    wait_in_line(log_url)
    end_leading_session(log_url)
    taken.join()

    with pytest.raises(StoreAway):
        leader.append([note("c1", 1)])
    away = leader.away_for()  # the leader tries again each second, and may do so as soon as the lock is free
    waiting.close()

    assert away > 0
    assert _append_until_it_fits(leader) == 2


def _append_until_it_fits(store: PostgresEventStore) -> int:
    for _ in range(300):
        try:
            return store.append([note("c1", 1)])
        except StoreAway:
            threading.Event().wait(0.1)
    return 0


def test_terms_cannot_be_changed(leader: PostgresEventStore, postgres: PostgresServer, database: str) -> None:
    """Who led stays on record, also against the owner of the database."""
    assert leader.last_id() == 1
    with postgres.connect(database) as connection:
        for statement in ("UPDATE watchtower.leadership SET term = 9", "DELETE FROM watchtower.leadership"):
            with pytest.raises(psycopg.errors.IntegrityError):
                connection.execute(statement)
