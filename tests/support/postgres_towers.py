"""What tests of several towers on one server share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.cutting_proxy import CuttingProxy
from tests.support.postgres import PostgresServer
from tests.support.postgres_logs import TOWER
from watchtower.store.postgres import leadership
from watchtower.store.postgres.connection import connect
from watchtower.store.postgres.event_store import PostgresEventStore, open_server_log

_HERE = "locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
_LEADING = f"SELECT pid FROM pg_locks WHERE granted AND {_HERE}"
_IN_LINE = f"SELECT pid FROM pg_locks WHERE NOT granted AND {_HERE}"


def through(proxy: CuttingProxy, postgres: PostgresServer, url: str) -> str:
    """The address of a log behind a proxy."""
    database = urlsplit(url).path.strip("/")
    return postgres.tcp_url(database, TOWER).replace(f":{postgres.port}/", f":{proxy.port}/")


def end_leading_session(url: str) -> int:
    """Let the server end the session that leads; its process id there."""
    with connect(url) as connection:
        (pid,) = connection.execute(_LEADING).fetchone() or (0,)
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    assert isinstance(pid, int)
    return pid


def wait_in_line(url: str, is_over: Callable[[], bool] = lambda: False) -> None:
    """Until a session waits for the lock of the one that leads, or `is_over`."""
    with connect(url) as connection:
        while not is_over() and not connection.execute(_IN_LINE).fetchone():
            time.sleep(0.02)


@contextmanager
def replacing_the_leader(url: str, path: Path) -> Iterator[PostgresEventStore]:
    """The log of another tower, which leads from now on.

    It stands in line for the lock before the server ends the leader's session: a leader that looks after its session
    every second would else take the lock back, if the other one opens slowly.
    """
    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patient:
        patient.setattr(leadership, "GONE_SECONDS", 60.0)
        opening = pool.submit(open_server_log, url, path)
        wait_in_line(url, opening.done)
        end_leading_session(url)
        opened = opening.result(60)
    with opened:
        yield opened


def terms(url: str) -> list[int]:
    """All terms that were begun."""
    with connect(url) as connection:
        found = connection.execute("SELECT term FROM watchtower.leadership ORDER BY term").fetchall()
    return [int(str(row[0])) for row in found]
