"""The `EventStore` port on PostgreSQL: the suite of the fake and of SQLite, word by word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_event_store_contract import *  # noqa: F403 - the same tests with another store
from watchtower.store.postgres.event_store import PostgresEventStore, open_server_log


@pytest.fixture
def store(log_url: str, tmp_path: Path) -> Iterator[PostgresEventStore]:
    """A new store that holds `LogOpened` only."""
    with open_server_log(log_url, tmp_path / "copy.db") as opened:
        yield opened
