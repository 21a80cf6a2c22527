"""A real PostgreSQL server for the tests of this folder; skipped without one, unless STATE_CHANNEL_REQUIRE_NODE=1."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cutting_proxy import CuttingProxy
from tests.support.postgres import PostgresNotFound, PostgresServer
from tests.support.postgres_logs import new_postgres_log
from tests.support.programs import missing
from watchtower.store.postgres import connection


@pytest.fixture(scope="session", autouse=True)
def _patient() -> Iterator[None]:
    """A server is reached at once; what is waited for longer than in the service is a machine that stands still."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "_DEFAULTS", {**connection._DEFAULTS, "connect_timeout": "20"})
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server of this test process. A test that stops it has to launch it again."""
    try:
        server = PostgresServer.start()
    except PostgresNotFound as error:
        missing(error)
    yield server
    server.close()


@pytest.fixture(scope="session")
def _reused(postgres: PostgresServer) -> str:
    return postgres.create_database("reused")


@pytest.fixture
def database(postgres: PostgresServer, _reused: str) -> Iterator[str]:
    """Name of an empty database."""
    yield _reused
    postgres.empty_database(_reused)


@pytest.fixture
def log_url(postgres: PostgresServer, database: str) -> str:
    """Address of a new log for the tower's user."""
    return new_postgres_log(postgres, database)


@pytest.fixture(scope="module")
def unchanged_database(postgres: PostgresServer) -> Iterator[str]:
    """Name of a database with a new log, for the tests of a module that change nothing in it."""
    name = postgres.create_database("unchanged")
    new_postgres_log(postgres, name)
    yield name
    postgres.drop_database(name)


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[CuttingProxy]:
    """A proxy in front of the server."""
    with CuttingProxy(("127.0.0.1", postgres.port)) as made:
        yield made
