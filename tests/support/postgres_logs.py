"""Making logs on a PostgreSQL server for tests."""

from __future__ import annotations

from tests.fakes.store import STREAM_KEY
from tests.support.postgres import PostgresServer
from tests.support.stores import CHAIN_HASH
from watchtower.store.postgres.create import create_store
from watchtower.store.postgres.migrate import migrate

TOWER, AUDITOR = "tower", "auditor"
"""Users who are members of wt_app and of wt_audit."""


def migrated(server: PostgresServer, database: str) -> str:
    """Schema and roles in a new database; the address for the tower's user, over the socket."""
    migrate(server.url(database))
    server.create_user(TOWER, "wt_app")
    server.create_user(AUDITOR, "wt_audit")
    return server.url(database, TOWER)


def new_postgres_log(server: PostgresServer, database: str, log_id: bytes = bytes(16)) -> str:
    """A new log with `LogOpened`, equal to that of `new_log`; its address for the tower's user."""
    url = migrated(server, database)
    create_store(url, origin="test/log", chain_hash=CHAIN_HASH, log_id=log_id, stream_key=STREAM_KEY, recorded_at=0)
    return url
