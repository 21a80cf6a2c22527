"""What the database refuses, whoever asks: triggers for everybody, rights for the roles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from eventsourcing.persistence import IntegrityError, PersistenceError, StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

from tests.support.postgres import PostgresServer
from tests.support.postgres_logs import AUDITOR, TOWER
from tests.support.stores import CHAIN_HASH
from watchtower.audit.views import compare_views
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.postgres import schema
from watchtower.store.postgres.checks import check_log
from watchtower.store.postgres.connection import Connection, connect
from watchtower.store.postgres.datastore import LogDatastore
from watchtower.store.postgres.event_store import NO_STREAM_KEY, open_server_reader
from watchtower.store.postgres.migrate import migrate, schema_number
from watchtower.store.postgres.recorder import PostgresRecorder
from watchtower.store.postgres.source import PostgresSource

EVENT = "INSERT INTO watchtower.wt_events (originator_id, originator_version, topic, state, notification_id) VALUES "
COMMIT = (
    "INSERT INTO watchtower.commit_chain "
    "SELECT {number}, 1, 1, {last_id}, head, leaves FROM watchtower.commit_chain WHERE commit_no = 1"
)
COVERED = "FUNCTION watchtower.check_covered() RETURNS trigger"


@pytest.fixture
def owner(postgres: PostgresServer, database: str, log_url: str) -> Iterator[psycopg.Connection]:
    """A superuser's connection to a new log with one event."""
    with postgres.connect(database) as connection:
        yield connection


@pytest.fixture
def superuser(postgres: PostgresServer, unchanged_database: str) -> Iterator[psycopg.Connection]:
    """A superuser's connection to a log that no test changes."""
    with postgres.connect(unchanged_database) as connection:
        yield connection


@pytest.fixture
def tower(postgres: PostgresServer, unchanged_database: str) -> Iterator[Connection]:
    """The tower's own connection to the same log."""
    with connect(postgres.url(unchanged_database, TOWER)) as connection:
        yield connection


CHANGES = {
    "update an event": "UPDATE watchtower.wt_events SET state = '\\x90'",
    "delete an event": "DELETE FROM watchtower.wt_events",
    "truncate the events": "TRUNCATE watchtower.wt_events",
    "replace an event": EVENT + "('log', 1, 'lg01', '\\x90', 1) "
    "ON CONFLICT (originator_id, originator_version) DO UPDATE SET state = '\\x90'",
    "merge into the events": "UPDATE watchtower.wt_events SET notification_id = 7 WHERE notification_id = 1",
    "update a commit": "UPDATE watchtower.commit_chain SET head = leaves",
    "delete a commit": "DELETE FROM watchtower.commit_chain",
    "truncate the chain": "TRUNCATE watchtower.commit_chain",
    "update the name": "UPDATE watchtower.log_meta SET origin = 'other'",
    "delete the name": "DELETE FROM watchtower.log_meta",
    "truncate the name": "TRUNCATE watchtower.log_meta",
}


@pytest.mark.parametrize("statement", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("replication_role", ["origin", "replica"])
def test_nobody_changes_a_row(superuser: psycopg.Connection, statement: str, replication_role: str) -> None:
    """Not even a superuser, and not with `session_replication_role = replica`, which skips ordinary triggers."""
    superuser.execute(f"SET session_replication_role = {replication_role}")

    with pytest.raises(psycopg.IntegrityError, match="append-only"):
        superuser.execute(statement)


@pytest.mark.parametrize("statement", CHANGES.values(), ids=CHANGES)
def test_tower_has_no_right_to_change(tower: Connection, statement: str) -> None:
    """For the tower's user the refusal comes before any trigger."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        tower.execute(statement)


INSERTS = {
    "id ahead": (EVENT + "('c1', 1, 'pn01', '\\x90', 3)", "the id before 3 is missing"),
    "negative id": (EVENT + "('c1', 1, 'pn01', '\\x90', -1)", "the id before -1 is missing"),
    "id 0": (EVENT + "('c1', 1, 'pn01', '\\x90', 0)", "the id before 0 is missing"),
    "two ids with a gap": (
        EVENT + "('c1', 1, 'pn01', '\\x90', 2), ('c2', 1, 'pn01', '\\x90', 4)",
        "the id before 2 is missing",
    ),
    "id taken": (EVENT + "('c1', 1, 'pn01', '\\x90', 1)", "duplicate key"),
    "version taken": (EVENT + "('log', 1, 'lg01', '\\x90', 2)", "duplicate key"),
    "version gap": (EVENT + "('c1', 2, 'pn01', '\\x90', 2)", "a preceding version of c1 is missing"),
    "version gap inside": (
        EVENT + "('c1', 1, 'pn01', '\\x90', 2), ('c1', 3, 'pn01', '\\x90', 3)",
        "a preceding version of c1 is missing",
    ),
    "no chain row": (EVENT + "('c1', 1, 'pn01', '\\x90', 2)", "event 2 has no row in commit_chain"),
    "chain row without event": (
        COMMIT.format(number=2, last_id=2),
        "commit 2 does not follow",
    ),
    "chain row behind a gap": (
        COMMIT.format(number=3, last_id=2),
        "commit 3 does not follow",
    ),
    "no id": (
        "INSERT INTO watchtower.wt_events SELECT 'c1', 1, 'pn01', state FROM watchtower.wt_events",
        "null value",
    ),
}


@pytest.mark.parametrize(("statement", "said"), INSERTS.values(), ids=INSERTS)
def test_insert_that_leaves_a_gap_is_refused(tower: Connection, statement: str, said: str) -> None:
    """Ids, versions and commits follow each other; at the end of the transaction each event has its commit."""
    with pytest.raises(psycopg.IntegrityError, match=said):
        tower.execute(statement)


def test_second_name_is_refused(tower: Connection) -> None:
    """A log is named once; the table itself cannot be written by the tower."""
    zero = bytes(32)

    with pytest.raises(psycopg.IntegrityError):
        tower.execute("SELECT watchtower.name_log(%b, 'x', 0, 0, 1, %b, %b, 1)", (bytes(16), zero, zero))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        tower.execute("INSERT INTO watchtower.log_meta SELECT * FROM watchtower.log_meta")


@pytest.mark.parametrize(
    ("user", "table", "rights"),
    [
        (TOWER, "wt_events", {"SELECT"}),
        (TOWER, "commit_chain", {"SELECT", "INSERT"}),
        (TOWER, "log_meta", {"SELECT"}),
        (AUDITOR, "wt_events", {"SELECT"}),
        (AUDITOR, "commit_chain", {"SELECT"}),
        (AUDITOR, "log_meta", set()),
    ],
)
def test_rights_of_the_roles(superuser: psycopg.Connection, user: str, table: str, rights: set[str]) -> None:
    """Exactly these rights on whole tables; the tower's INSERT on events is on columns."""
    every = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]
    query = "SELECT r FROM unnest(%s::text[]) AS r WHERE has_table_privilege(%s, %s, r)"

    assert rights == {row[0] for row in superuser.execute(query, (every, user, f"watchtower.{table}"))}


def test_auditor_reads_everything_but_the_stream_key(postgres: PostgresServer, unchanged_database: str) -> None:
    """The key that links streams to channels stays with the tower."""
    with PostgresSource(postgres.url(unchanged_database, AUDITOR)) as source, connect(source.address.url) as auditor:
        assert ("test/log", 1) == (source.meta.origin, source.last_id())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            auditor.execute("SELECT stream_key FROM watchtower.log_meta")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            auditor.execute(EVENT + "('c1', 1, 'pn01', '\\x90', 2)")


def test_auditor_is_told_that_folding_needs_the_stream_key(
    postgres: PostgresServer, unchanged_database: str, tmp_path: Path
) -> None:
    """An audit beside live read models goes on without comparing them, and says why."""
    url = postgres.url(unchanged_database, AUDITOR)

    check, findings = compare_views(lambda: open_server_reader(url), tmp_path / "views.db", required=False)

    assert f"rights: {NO_STREAM_KEY}" == check.skipped
    assert [] == findings


def test_there_is_no_sequence(superuser: psycopg.Connection) -> None:
    """Ids come from the writer; nothing counts them beside it."""
    query = "SELECT relname FROM pg_class WHERE relkind = 'S' AND relnamespace = 'watchtower'::regnamespace"

    assert [] == superuser.execute(query).fetchall()


@pytest.mark.parametrize("user", ["postgres", TOWER])
def test_stock_writer_fails(postgres: PostgresServer, unchanged_database: str, user: str) -> None:
    """The library's own recorder can append nothing here, neither as the tower nor as a superuser."""
    datastore = PostgresDatastore(
        unchanged_database, str(postgres.base), postgres.port, user, "", schema="watchtower", originator_id_type="text"
    )
    recorder = PostgresApplicationRecorder(datastore, events_table_name="wt_events")
    try:
        with pytest.raises(PersistenceError):
            recorder.insert_events([StoredEvent("c1", 1, "pn01", b"\x90")])
        assert [1] == [notification.id for notification in recorder.select_notifications(1, 10)]
    finally:
        datastore.close()


@pytest.mark.parametrize("statement", ["VACUUM ANALYZE watchtower.wt_events", "ANALYZE watchtower.wt_events"])
def test_maintenance_beside_an_append(owner: psycopg.Connection, log_url: str, statement: str) -> None:
    """While a transaction of maintenance holds its lock, appends go on: no table lock is taken."""
    holding = "LOCK TABLE watchtower.wt_events IN SHARE UPDATE EXCLUSIVE MODE"  # what VACUUM and CREATE INDEX take
    datastore = LogDatastore(log_url)
    try:
        with owner.transaction():
            owner.execute(holding)
            ids = PostgresRecorder(datastore).insert_events([StoredEvent("c1", 1, "pn01", b"\x90")])
        owner.execute(statement)
    finally:
        datastore.close()

    assert [2] == ids


def test_index_can_be_made_beside_appends(postgres: PostgresServer, database: str, log_url: str) -> None:
    """CREATE INDEX CONCURRENTLY ends while appends go on, and they while it runs."""
    datastore = LogDatastore(log_url)
    recorder = PostgresRecorder(datastore)
    try:
        with postgres.connect(database) as owner:
            for version in range(1, 20):
                recorder.insert_events([StoredEvent("c1", version, "pn01", b"\x90")])
            owner.execute("CREATE INDEX CONCURRENTLY later ON watchtower.wt_events (topic)")
            recorder.insert_events([StoredEvent("c1", 20, "pn01", b"\x90")])
    finally:
        datastore.close()

    assert 21 == recorder.tip_id


class TestStart:
    """Start-up checks: each names itself."""

    def test_good_log_passes(self, log_url: str) -> None:
        """The checks say which log it is."""
        datastore = LogDatastore(log_url)

        meta, damaged = check_log(datastore, CHAIN_HASH)
        datastore.close()

        assert ("test/log", frozenset()) == (meta.origin, damaged)

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ("state = '\\x91' WHERE originator_id = 'c1' AND originator_version = 2", {"c1"}),
            ("originator_id = 'c2', originator_version = 9 WHERE notification_id = 3", {"c1", "c2"}),
            ("topic = 'xx99' WHERE originator_id = 'c2'", {"c2"}),
        ],
    )
    def test_fault_P7_changed_event_of_a_channel_is_told(
        self, owner: psycopg.Connection, log_url: str, change: str, expected: set[str]
    ) -> None:
        """One changed event stops its channels, not the tower."""
        datastore = LogDatastore(log_url)
        recorder = PostgresRecorder(datastore)
        recorder.insert_jobs([[StoredEvent("c1", version, "re06", b"\x90") for version in (1, 2, 3)]])
        recorder.insert_jobs([[StoredEvent("c2", 1, "re06", b"\x90")]])
        owner.execute("ALTER TABLE watchtower.wt_events DISABLE TRIGGER events_no_change")
        owner.execute(f"UPDATE watchtower.wt_events SET {change}")
        owner.execute("ALTER TABLE watchtower.wt_events ENABLE ALWAYS TRIGGER events_no_change")

        _, damaged = check_log(datastore, CHAIN_HASH)
        datastore.close()

        assert expected == damaged

    @pytest.mark.parametrize(
        ("damage", "check"),
        [
            ("DROP TRIGGER events_no_change ON watchtower.wt_events", "trigger events_no_change"),
            ("ALTER TABLE watchtower.wt_events DISABLE TRIGGER events_dense", "trigger events_dense"),
            ("ALTER TABLE watchtower.commit_chain ENABLE TRIGGER chain_follows", "trigger chain_follows"),
            (
                f"CREATE OR REPLACE {COVERED} LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
                "function check_covered",
            ),
            ("GRANT UPDATE ON watchtower.wt_events TO wt_app", "wt_events update"),
            ("GRANT TRUNCATE ON watchtower.commit_chain TO wt_app", "commit_chain truncate"),
            ("GRANT wt_owner TO tower", "member of wt_owner"),
            ("ALTER ROLE tower SET synchronous_commit = off", "synchronous_commit"),
            ("INSERT INTO watchtower.schema_steps VALUES (99, 'later')", "schema 99"),
            ("DROP SCHEMA watchtower CASCADE", "store migrate"),
        ],
    )
    def test_changed_database_is_refused(
        self, owner: psycopg.Connection, log_url: str, damage: str, check: str
    ) -> None:
        """A guard that was removed, a right too many, a commit that is not durable: the service does not start."""
        owner.execute(damage)
        datastore = LogDatastore(log_url)
        try:
            with pytest.raises(StoreCheckFailed, match=check):
                check_log(datastore, CHAIN_HASH)
        finally:
            datastore.close()
            owner.execute("REVOKE wt_owner FROM tower")
            owner.execute("ALTER ROLE tower RESET synchronous_commit")

    def test_superuser_is_refused(self, postgres: PostgresServer, database: str, log_url: str) -> None:
        """A user who may do everything is no user for a tower."""
        datastore = LogDatastore(postgres.url(database))

        with pytest.raises(StoreCheckFailed, match="rights"):
            check_log(datastore, CHAIN_HASH)
        datastore.close()

    def test_other_chain_is_refused(self, log_url: str) -> None:
        """A log of another network is not continued."""
        datastore = LogDatastore(log_url)

        with pytest.raises(StoreCheckFailed, match="chain"):
            check_log(datastore, bytes(32))
        datastore.close()


class TestMigration:
    """`store migrate`."""

    def test_twice_changes_nothing(self, postgres: PostgresServer, database: str) -> None:
        """The second run finds everything in place."""
        first, second = migrate(postgres.url(database)), migrate(postgres.url(database))

        assert (0, schema.newest()) == (first.before, first.after)
        assert (schema.newest(), ()) == (second.before, second.applied)

    def test_user_without_rights_is_told(self, postgres: PostgresServer, database: str) -> None:
        """Whoever may not make a schema learns who may."""
        postgres.create_user("nobody_special")

        with pytest.raises(StoreCheckFailed, match="wt_owner"):
            migrate(postgres.url(database, "nobody_special"))

    def test_owner_of_the_database_is_enough(self) -> None:
        """No superuser is needed: who owns the database and may make roles does it, and again for another database."""
        server = PostgresServer.start()
        try:
            server.create_user("dba")
            first, second = server.create_database(), server.create_database()
            with server.connect() as connection:
                connection.execute("ALTER ROLE dba CREATEROLE")
                connection.execute(f"ALTER DATABASE {first} OWNER TO dba")
                connection.execute(f"ALTER DATABASE {second} OWNER TO dba")

            done = [migrate(server.url(name, "dba")) for name in (first, second)]
        finally:
            server.close()

        assert [(schema.OWNER, schema.APP, schema.AUDIT), ()] == [each.roles for each in done]
        assert [schema.newest()] * 2 == [each.after for each in done]

    def test_newer_schema_is_left_alone(self, postgres: PostgresServer, database: str, log_url: str) -> None:
        """An older program touches nothing."""
        with postgres.connect(database) as owner:
            owner.execute("INSERT INTO watchtower.schema_steps VALUES (99, 'later')")

        with pytest.raises(StoreCheckFailed, match="update the program"):
            migrate(postgres.url(database))

    def test_fault_P15_crash_leaves_nothing(self, postgres: PostgresServer, database: str) -> None:
        """A migration that dies in the middle is as if it had not begun."""

        def die(name: str) -> None:
            raise KeyboardInterrupt(name)

        with pytest.raises(KeyboardInterrupt):
            migrate(postgres.url(database), die)

        with connect(postgres.url(database)) as connection:
            assert 0 == schema_number(connection)

    def test_other_encoding_is_refused(self, postgres: PostgresServer) -> None:
        """Names are UTF-8 in every hash."""
        with postgres.connect() as connection:
            connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        try:
            with pytest.raises(StoreCheckFailed, match="UTF8"):
                migrate(postgres.url("latin"))
        finally:
            postgres.drop_database("latin")


def test_conflict_in_a_group_leaves_the_others(log_url: str) -> None:
    """Of jobs that are tried together, those that do not continue their streams are refused, each by itself."""
    datastore = LogDatastore(log_url)
    recorder = PostgresRecorder(datastore)
    good, bad = [StoredEvent("c1", 1, "pn01", b"\x90")], [StoredEvent("c2", 5, "pn01", b"\x90")]
    twice = [StoredEvent("c1", 1, "pn01", b"\x91")]
    try:
        with pytest.raises(IntegrityError):
            recorder.insert_jobs([good, bad])
        answers = recorder.insert_isolated([good, bad, twice, [StoredEvent("c3", 1, "pn01", b"\x90")]])
    finally:
        datastore.close()

    assert [[2], IntegrityError, IntegrityError, [3]] == [
        IntegrityError if isinstance(answer, IntegrityError) else list(answer) for answer in answers
    ]
    assert recorder.meanings.is_conflict(answers[1])  # type: ignore[arg-type]
