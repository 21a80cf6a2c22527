"""A server that is frozen: connections stay open, and nobody gets an answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from tests.support.postgres_towers import terms
from tests.support.stores import note
from watchtower.ports import StoreAway
from watchtower.store.overflow import OverflowStore
from watchtower.store.postgres import connection, leadership, silence, source
from watchtower.store.postgres.event_store import open_server_log
from watchtower.store.postgres.secrets import SealedSecrets
from watchtower.store.postgres.source import PostgresSource
from watchtower.store.postgres.standby import StandbyLog
from watchtower.store.sqlite_source import SqliteSource

SHORT = 0.7
"""The limit for a frozen server only: one that works may be slow on a busy machine, and has the service's 8 s."""

SOON = 20.0
"""Seconds; nobody would ever hear of a frozen server without a limit."""


@contextmanager
def ticking(look: Callable[[], object]) -> Iterator[None]:
    """What the service does every second, more often."""
    over = threading.Event()

    def tick() -> None:
        while not over.wait(0.1):
            look()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(tick)
        try:
            yield
        finally:
            over.set()
            done.result(SOON)


@contextmanager
def frozen(postgres: PostgresServer) -> Iterator[None]:
    """Nobody is answered meanwhile, and nobody waits long for it."""
    with pytest.MonkeyPatch.context() as hasty:
        hasty.setattr(silence, "LIMIT", SHORT)
        hasty.setattr(connection, "_DEFAULTS", {**connection._DEFAULTS, "connect_timeout": "2"})
        postgres.pause()
        try:
            yield
        finally:
            postgres.resume()


def flushed(overflow: OverflowStore) -> bool:
    """Whether what waits can be written within some seconds."""
    for _ in range(300):
        if overflow.flush():
            return True
        time.sleep(0.1)
    return False


def test_fault_a_frozen_server_keeps_no_fact_of_the_chain(
    postgres: PostgresServer, log_url: str, tmp_path: Path
) -> None:
    """The pass goes on with the fact in memory, and writes it in its place when the server answers again."""
    with open_server_log(log_url, tmp_path / "copy.db") as store, ticking(store.lose_patience):
        overflow = OverflowStore(store)
        overflow.append([note("c1", 1)], chain=True)
        with frozen(postgres):
            began = time.monotonic()
            ids = [overflow.append([note("c1", version)], chain=True) for version in (2, 3)]
            seconds, held = time.monotonic() - began, overflow.held
            with pytest.raises(StoreAway):
                overflow.append([note("c2", 1)])

        assert flushed(overflow)
        assert 5 == overflow.append([note("c2", 1)])
    assert seconds < SOON
    assert ([3, 4], 2, [1]) == (ids, held, terms(log_url))
    with PostgresSource(log_url) as server, SqliteSource(tmp_path / "copy.db") as own:
        assert server.last_commit() == own.last_commit()


def test_fault_a_frozen_server_keeps_no_erasure_waiting(postgres: PostgresServer, log_url: str) -> None:
    """Also behind a client whose secret is being stored: whoever asks hears that the server is away."""
    secrets = SealedSecrets(log_url)
    secrets.put([(b"name", b"sealed")])
    with ticking(secrets.look), ThreadPoolExecutor(1) as pool, frozen(postgres):
        began = time.monotonic()
        stored = pool.submit(secrets.put, [(b"other", b"sealed")])
        with pytest.raises(StoreAway):
            secrets.remove([b"name"])
        with pytest.raises(StoreAway):
            stored.result(SOON)
        seconds = time.monotonic() - began
    secrets.close()

    assert seconds < SOON


def test_a_large_block_gets_more_time(log_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit of many events may need longer than one of a few."""
    monkeypatch.setattr(silence, "LIMIT", SHORT)
    monkeypatch.setattr(silence, "EVENTS_PER_SECOND", 100)
    waits = [1.5]

    def slow(name: str) -> None:
        if name == "commit:before" and waits:
            time.sleep(waits.pop())

    job = [note("c1", version) for version in range(1, 2_001)]
    with open_server_log(log_url, tmp_path / "copy.db", failpoint=slow) as store, ticking(store.lose_patience):
        last = store.append(job, chain=True)

    assert (2_001, [], [1]) == (last, waits, terms(log_url))


def test_fault_a_standby_gets_off_a_frozen_server(
    postgres: PostgresServer, log_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It neither follows nor waits for its turn on a dead connection: another server may be at the address by then."""
    monkeypatch.setattr(leadership, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(source, "PAGE_EVENTS", 0)
    leader = open_server_log(log_url, tmp_path / "leader.db")
    standby = StandbyLog(log_url, tmp_path / "standby.db")
    standby.follow()
    with ticking(standby.look), ThreadPoolExecutor(1) as pool:
        with monkeypatch.context() as hasty:
            hasty.setattr(silence, "LIMIT", SHORT)  # also for a question that was asked just before
            turn = pool.submit(standby.lead)
            with frozen(postgres):
                began = time.monotonic()
                with pytest.raises(StoreAway):
                    standby.follow()
                seconds = time.monotonic() - began
        leader.close()
        led = turn.result(SOON)
    standby.close()

    assert seconds < SOON
    assert led is not None
    led[1].close()
