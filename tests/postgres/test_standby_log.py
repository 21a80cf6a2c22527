"""Following a log that another tower leads, keys beside it, and new logs on a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from tests.support.postgres_logs import migrated
from tests.support.postgres_towers import end_leading_session, terms
from tests.support.stores import note
from watchtower.config import StoreSettings, load
from watchtower.new_tower import create
from watchtower.ports import StoreAway, StoreError
from watchtower.store.places import open_log, open_log_reader, open_secrets, open_source, open_standby
from watchtower.store.postgres.event_store import PostgresEventStore, open_server_log, open_server_reader
from watchtower.store.postgres.secrets import SealedSecrets
from watchtower.store.postgres.standby import StandbyLog


@pytest.fixture
def leader(log_url: str, tmp_path: Path) -> Iterator[PostgresEventStore]:
    """A tower that leads."""
    with open_server_log(log_url, tmp_path / "leader.db") as store:
        yield store


@pytest.fixture
def standby(leader: PostgresEventStore, log_url: str, tmp_path: Path) -> Iterator[StandbyLog]:
    """One that stands by for it."""
    log = StandbyLog(log_url, tmp_path / "standby.db")
    yield log
    log.close()


def soon(holds: Callable[[], bool]) -> bool:
    """Whether something comes true within some seconds."""
    for _ in range(600):
        if holds():
            return True
        time.sleep(0.05)
    return False


def test_a_standby_hears_of_each_commit(leader: PostgresEventStore, standby: StandbyLog) -> None:
    """It sleeps until then, and reads what was stored from its own copy."""
    standby.follow()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(standby.wait, 20.0)
        leader.append([note("c1", 1), note("c1", 2)])
        waiting.result(30)

    assert soon(lambda: standby.follow() == 3)
    assert [1, 2] == [event.version for event in standby.log.read_stream("c1")]


def test_the_turn_comes_when_the_leader_is_gone(
    leader: PostgresEventStore, standby: StandbyLog, log_url: str, tmp_path: Path
) -> None:
    """Not before; and the session that waited is the one that leads then."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(standby.lead)
        assert not answer.done()
        leader.append([note("c1", 1)])
        leader.close()
        turn = answer.result(30)
    assert turn is not None
    standby.follow()
    standby.close()

    with open_server_log(log_url, tmp_path / "standby.db", lead=turn) as store:
        assert store.append([note("c1", 2)]) == 3
    assert [1, 2] == terms(log_url)


def test_a_standby_can_be_stopped(standby: StandbyLog) -> None:
    """It waits for its turn and gives up at once when it is told."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(standby.lead)
        standby.stop()

        assert answer.result(30) is None


def test_the_first_of_two_standbys_leads_and_the_other_waits_on(
    leader: PostgresEventStore, standby: StandbyLog, log_url: str, tmp_path: Path
) -> None:
    """Exactly one of them gets the turn."""
    other = StandbyLog(log_url, tmp_path / "other.db")
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(standby.lead), pool.submit(other.lead)]
        end_leading_session(log_url)
        leader.close()
        assert soon(lambda: any(answer.done() for answer in answers))
        assert 1 == sum(answer.done() for answer in answers)
        for answer in sorted(answers, key=lambda answer: not answer.done()):
            turn = answer.result(30)
            assert turn is not None
            turn[1].close()
    other.close()

    assert [1, 2, 3] == terms(log_url)


def test_a_standby_waits_out_a_restart_of_the_server(
    postgres: PostgresServer, leader: PostgresEventStore, standby: StandbyLog
) -> None:
    """It cannot follow meanwhile, and goes on by itself."""
    leader.append([note("c1", 1)])
    postgres.stop()
    with pytest.raises(StoreAway):
        standby.follow()
    postgres.launch()

    assert soon(lambda: _followed(standby) >= 2)
    assert [1] == [event.version for event in standby.log.read_stream("c1")]


def _followed(standby: StandbyLog) -> int:
    try:
        return standby.follow()
    except StoreAway:
        return 0


def test_sealed_secrets_are_seen_once_and_none_is_missed(log_url: str, postgres: PostgresServer, database: str) -> None:
    """A row of a transaction that began early and ended late is seen as well."""
    table = SealedSecrets(log_url)
    follower = SealedSecrets(log_url)
    table.put([(b"a", b"1")])
    assert [(b"a", b"1")] == follower.fresh()
    with postgres.connect(database, "tower") as slow:
        slow.execute("BEGIN")
        slow.execute("INSERT INTO watchtower.sealed_secrets (name, sealed) VALUES ('slow', '2')")
        table.put([(b"b", b"3")])
        before = {name for name, _ in follower.fresh()}
        slow.execute("COMMIT")
    after = {name for name, _ in follower.fresh()}
    table.remove([b"a", b"unknown"])

    assert b"b" in before
    assert b"slow" in before | after
    assert frozenset({b"b", b"slow"}) == table.names()
    table.close()
    follower.close()


def test_secrets_survive_a_lost_connection(log_url: str, postgres: PostgresServer) -> None:
    """One call fails with `StoreAway`, the next one connects again."""
    table = SealedSecrets(log_url)
    table.put([(b"a", b"1")])
    postgres.restart()
    with pytest.raises(StoreAway):
        table.put([(b"b", b"2")])
    table.put([(b"b", b"2")])

    assert frozenset({b"a", b"b"}) == table.names()
    table.close()


def test_a_new_tower_begins_its_log_on_the_server(postgres: PostgresServer, database: str, tmp_path: Path) -> None:
    """`init` and all openers agree on the place; a second tower is refused before it has files."""
    url = migrated(postgres, database)
    made = create(tmp_path / "t", tmp_path / "t" / "config.toml", "regtest", store=StoreSettings(url=url))
    settings = load({}, config_path=str(made.config_path)).settings
    with pytest.raises(StoreError, match="holds a log already"):
        create(tmp_path / "u", tmp_path / "u" / "config.toml", "regtest", store=StoreSettings(url=url))

    with open_log(settings) as log, open_log_reader(settings) as reader:
        log.append([note("c1", 1)])
        assert (2, 2) == (log.last_id(), reader.last_id())
    source, secrets = open_source(settings), open_secrets(settings)
    assert source.last_id() == 2
    assert secrets is not None
    assert frozenset() == secrets.names()
    source.close()
    secrets.close()
    standby = open_standby(settings)
    assert standby.follow() == 2
    standby.close()
    assert [] == list((tmp_path / "u").iterdir())


def test_readers_in_threads_share_what_they_hear(leader: PostgresEventStore, log_url: str) -> None:
    """Several waiters of one reader are all told."""
    with open_server_reader(log_url) as reader, ThreadPoolExecutor(4) as pool:
        started = threading.Barrier(5)

        def wait() -> bool:
            started.wait(30)
            return reader.wait_beyond(1, 60.0)

        answers = [pool.submit(wait) for _ in range(4)]
        started.wait(30)
        leader.append([note("c1", 1)])

        assert [True] * 4 == [answer.result(60) for answer in answers]
