"""What is known about a PostgreSQL log without a server: addresses, meanings of errors, the missing driver."""

from __future__ import annotations

import sys

import psycopg
import pytest
from eventsourcing.persistence import IntegrityError

from watchtower.ports import StoreAway, StoreBroken, StoreBusy, StoreError, StoreFull
from watchtower.store.ends import end_of
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.postgres.connection import checked_url, shown
from watchtower.store.postgres.errors import VersionTaken, is_conflict, store_error
from watchtower.store.postgres.source import PostgresAddress

URL = "postgresql://tower:geheim@db.example:5433/logs?sslmode=verify-full"


def server_said(state: str) -> psycopg.Error:
    """An error with a SQLSTATE, whose second line holds values."""
    return psycopg.errors.lookup(state)("refused\nDETAIL: Key (originator_id)=(c1) holds a value")


@pytest.mark.parametrize(
    ("state", "meaning"),
    [
        ("53100", StoreFull),
        ("55P03", StoreBusy),
        ("57014", StoreBusy),
        ("40P01", StoreBusy),
        ("08006", StoreAway),
        ("57P01", StoreAway),
        ("57P03", StoreAway),
        ("53300", StoreAway),
        ("25006", StoreBroken),
        ("58030", StoreBroken),
        ("XX001", StoreBroken),
        ("42P01", StoreError),
        ("22P05", StoreError),
    ],
)
def test_states_have_meanings(state: str, meaning: type[StoreError]) -> None:
    """Only what is known as final ends the process."""
    meant = store_error(server_said(state))

    assert meaning is type(meant)
    assert "c1" not in str(meant)


def test_no_answer_means_away() -> None:
    """A connection that was cut has no SQLSTATE; nor has one that could not be made."""
    assert StoreAway is type(store_error(psycopg.OperationalError("server closed the connection unexpectedly")))


@pytest.mark.parametrize("state", ["28P01", "28000", "3D000", "42501"])
def test_refused_access_says_what_to_do(state: str) -> None:
    """Wrong user, password, database or right: the sentence says where to look."""
    assert any(word in str(store_error(server_said(state))) for word in ("check", "create", "member", "refused"))


def test_refused_rows_are_conflicts() -> None:
    """Constraints, triggers and the look before them; not a lost connection."""
    wrapped = IntegrityError("refused")
    wrapped.__cause__ = server_said("23505")

    assert [True, True, True, False] == [
        is_conflict(error) for error in (wrapped, server_said("23000"), VersionTaken("c1"), server_said("57P01"))
    ]


def test_shown_address_has_no_credentials() -> None:
    """Host, port and database; never user, password or options."""
    assert "postgresql://db.example:5433/logs" == shown(URL)
    assert "PostgresAddress(postgresql://db.example:5433/logs)" == repr(PostgresAddress(URL))
    assert "geheim" not in shown("postgresql://tower:geheim@[broken")


def test_given_options_win_over_defaults() -> None:
    """Ours fill in what an address leaves open."""
    info = checked_url("postgresql://tower@db.example/logs?connect_timeout=9")

    assert "connect_timeout=9" in info
    assert "application_name=watchtower" in info


@pytest.mark.parametrize("url", ["mysql://x/y", "postgresql://tower:geheim@[db/x", "postgresql://u@h/d?nonsense=1"])
def test_bad_address_is_refused_without_its_password(url: str) -> None:
    """The text names no part of it."""
    with pytest.raises(StoreCheckFailed) as refused:
        checked_url(url)

    assert "geheim" not in f"{refused.value}{refused.value.__cause__}"


def test_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg a file can be used all the same, and a server's address says what to install."""
    for name in [name for name in sys.modules if name.startswith("watchtower.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)

    assert "events.db" == end_of("sqlite:events.db").name
    with pytest.raises(StoreCheckFailed, match=r"state-channel-watchtower\[postgres\]"):
        end_of(URL)
