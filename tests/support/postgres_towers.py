"""What tests of several towers on one server share."""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.support.cutting_proxy import CuttingProxy
from tests.support.postgres import PostgresServer
from tests.support.postgres_logs import TOWER
from watchtower.store.postgres.connection import connect

_LEADING = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


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


def terms(url: str) -> list[int]:
    """All terms that were begun."""
    with connect(url) as connection:
        found = connection.execute("SELECT term FROM watchtower.leadership ORDER BY term").fetchall()
    return [int(str(row[0])) for row in found]
