"""A streaming replica: it can be read and audited, and takes over with everything that was acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from tests.support.postgres import PostgresServer
from tests.support.postgres_logs import TOWER, new_postgres_log
from tests.support.stores import CHAIN_HASH
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.postgres.checks import check_log
from watchtower.store.postgres.datastore import LogDatastore
from watchtower.store.postgres.recorder import PostgresRecorder
from watchtower.store.postgres.source import PostgresSource
from watchtower.store.verify import verify_source


@pytest.fixture(scope="module")
def pair(postgres: PostgresServer) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A primary that waits for its replica at every commit, and the replica. The last test kills it."""
    primary = PostgresServer.start(postgres.programs)
    try:
        new_postgres_log(primary, primary.create_database("log"))
        replica = primary.start_replica()
        with primary.connect() as owner:
            owner.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            owner.execute("SELECT pg_reload_conf()")
        yield primary, replica
        replica.close()
    finally:
        primary.close()


def both(primary: PostgresServer, replica: PostgresServer, database: str) -> str:
    """One address for two servers: whichever of them takes writes."""
    hosts = ",".join(quote(str(server.base), safe="") for server in (primary, replica))
    ports = f"{primary.port},{replica.port}"
    return f"postgresql://{TOWER}@/{database}?host={hosts}&port={ports}&target_session_attrs=read-write"


def job(first: int) -> list[StoredEvent]:
    """Two events of a stream."""
    return [StoredEvent("c1", version, "re06", b"\x90") for version in (first, first + 1)]


def test_replica_is_no_place_to_write(pair: tuple[PostgresServer, PostgresServer]) -> None:
    """A tower that is given the address of a replica does not start."""
    _, replica = pair
    (database,) = names(replica)
    datastore = LogDatastore(replica.url(database, TOWER))

    with pytest.raises(StoreCheckFailed, match="replica"):
        check_log(datastore, CHAIN_HASH)
    datastore.close()


def test_fault_primary_dies_and_the_replica_takes_over(pair: tuple[PostgresServer, PostgresServer]) -> None:
    """With synchronous replication nothing acknowledged is lost; the same address leads to the new primary."""
    primary, replica = pair
    (database,) = names(primary)
    datastore = LogDatastore(both(primary, replica, database))
    recorder = PostgresRecorder(datastore)
    for version in range(1, 40, 2):
        recorder.insert_jobs([job(version)])
    with PostgresSource(replica.url(database, TOWER)) as source:
        audited = verify_source(source)
    primary.kill()
    with pytest.raises(psycopg.OperationalError):
        recorder.insert_jobs([job(41)])
    replica.promote()
    with replica.connect() as owner:
        owner.execute("ALTER SYSTEM RESET synchronous_standby_names")
        owner.execute("SELECT pg_reload_conf()")
    recorder.resume()
    ids = recorder.insert_jobs([job(41)])
    datastore.close()

    assert (41, ()) == (audited.last_id, audited.findings)
    assert [[42, 43]] == [list(each) for each in ids]
    with PostgresSource(replica.url(database, TOWER)) as source:
        assert () == verify_source(source).findings


def names(server: PostgresServer) -> list[str]:
    """The databases with a log."""
    with server.connect() as connection:
        found = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'log%'").fetchall()
    return [str(row[0]) for row in found]
