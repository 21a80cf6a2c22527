"""A log on a server that somebody with all rights has changed: the audit finds the same as in a file."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import psycopg
import pytest

from domain.log_chain import leaf
from tests.support.examples import examples
from tests.support.postgres import PostgresServer
from tests.support.postgres_logs import AUDITOR
from tests.support.tampering import (
    TAMPERINGS,
    Content,
    Tamper,
    audit,
    content_of,
    grown,
)
from watchtower.audit.findings import ExitCode
from watchtower.audit.known import KnownHead
from watchtower.audit.one_event import show
from watchtower.store.postgres.source import PostgresSource

TABLES = ("wt_events", "commit_chain")
ROUNDS = 100

pytestmark = pytest.mark.slow


class PostgresVictim:
    """A log on a server, and a superuser."""

    def __init__(self, server: PostgresServer, database: str) -> None:
        self._server, self._database = server, database

    def source(self) -> PostgresSource:
        """Open it as an auditor does."""
        return PostgresSource(self._server.url(self._database, AUDITOR))

    def replace(self, content: Content) -> None:
        """Put another content in place, with all guards on again afterwards."""
        with self._server.connect(self._database) as connection:
            for table in TABLES:
                connection.execute(f"ALTER TABLE watchtower.{table} DISABLE TRIGGER USER")
                connection.execute(f"DELETE FROM watchtower.{table}")
            with connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO watchtower.wt_events "
                    "(notification_id, originator_id, originator_version, topic, state) VALUES (%s, %s, %s, %s, %s)",
                    content.rows,
                )
                cursor.executemany(
                    "INSERT INTO watchtower.commit_chain VALUES (%s, %s, %s, %s, %s, %s)",
                    [msgspec.structs.astuple(commit) for commit in content.commits],
                )
            for table in TABLES:
                self._enable(connection, table)

    def _enable(self, connection: psycopg.Connection, table: str) -> None:
        query = "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal"
        for (name,) in connection.execute(query, (f"watchtower.{table}",)).fetchall():
            connection.execute(f"ALTER TABLE watchtower.{table} ENABLE ALWAYS TRIGGER {name}")


@pytest.fixture
def victim(postgres: PostgresServer, database: str, log_url: str) -> PostgresVictim:
    """A log of 13 commits."""
    made = PostgresVictim(postgres, database)
    with made.source() as source:
        honest = grown(source, random.Random(1))
    made.replace(honest)
    return made


def test_an_honest_log_passes(victim: PostgresVictim, tmp_path: Path) -> None:
    """Nothing is found in a log that nobody touched, and the auditor's role is enough."""
    with victim.source() as source:
        report = audit(source, tmp_path / "scratch")

    assert (ExitCode.PASSED, ()) == (report.exit_code, report.findings)


def test_single_events_are_shown_from_a_server(victim: PostgresVictim) -> None:
    """With the leaf and the head of the chain; one that was changed is named instead."""
    with victim.source() as source:
        honest = content_of(source)
        whole = show(source, 1, 9)
    row = honest.row(4)
    victim.replace(honest.with_row(4, (*row[:4], row[4][:-1] + bytes([row[4][-1] ^ 1]))))
    with victim.source() as source:
        changed = show(source, 1, 9)

    assert [leaf(*each[1:]).hex() for each in honest.rows[:9]] == [each.leaf for each in whole.events]
    assert ExitCode.PASSED == whole.exit_code
    assert (ExitCode.INTEGRITY, [4]) == (changed.exit_code, [each.position for each in changed.findings])
    assert tuple(each for each in whole.events if each.position != 4) == changed.events


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_every_edit_is_found_and_named(victim: PostgresVictim, tmp_path: Path, tamper: Tamper) -> None:
    """Random edits of one kind, with all guards on again: the exit code fits, the event is named."""
    with victim.source() as source:
        honest = content_of(source)
    chance = random.Random(tamper.__name__)

    for _ in range(examples(ROUNDS) // 5):
        tampered, expected = tamper(honest, chance)
        victim.replace(tampered)
        with victim.source() as source:
            report = audit(source, tmp_path / "scratch", stretch=chance.choice([4, 32_768]))

        assert expected.code == report.exit_code, report.findings
        assert expected.named <= {finding.position for finding in report.findings}


def test_another_history_is_found_with_a_known_head_only(victim: PostgresVictim, tmp_path: Path) -> None:
    """All hashes made anew: the log fits itself, but not the head that somebody outside has kept."""
    with victim.source() as source:
        commit = content_of(source).commits[4]
        other = grown(source, random.Random(1), seed=5)
    known = KnownHead(log_id=bytes(16), epoch=0, position=commit.last_id, head=commit.head, source="a test")
    victim.replace(other)

    with victim.source() as source:
        blind = audit(source, tmp_path / "scratch")
        seeing = audit(source, tmp_path / "scratch", known=(known,))

    assert (ExitCode.PASSED, ExitCode.FORK) == (blind.exit_code, seeing.exit_code)


def test_several_processes_read_the_same_log(victim: PostgresVictim, tmp_path: Path) -> None:
    """The address of a server goes to other processes."""
    with victim.source() as source:
        alone = audit(source, tmp_path / "one", stretch=3)
        together = audit(source, tmp_path / "two", stretch=3, jobs=2)

    assert alone == together


@pytest.mark.parametrize("how", ["DISABLE", "ENABLE"])
def test_a_guard_that_does_not_always_watch_is_found(
    postgres: PostgresServer, database: str, victim: PostgresVictim, tmp_path: Path, how: str
) -> None:
    """A trigger that is off, or that a session can step around."""
    with postgres.connect(database) as connection:
        connection.execute(f"ALTER TABLE watchtower.wt_events {how} TRIGGER events_dense")

    with victim.source() as source:
        report = audit(source, tmp_path / "scratch")

    assert ExitCode.INTEGRITY == report.exit_code
    assert "events_dense" in report.findings[0].sentence
