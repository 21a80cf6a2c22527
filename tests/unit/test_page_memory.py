"""What SQLite has cached is given back: else a tower's memory grows with its files until the caches are full."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.chain import chain_hash
from domain.events import AlertKind, AlertRaised, envelopes
from projections.catalog import PROJECTIONS
from watchtower.store import views
from watchtower.store.create import create_store, open_store
from watchtower.store.event_store import SqliteEventStore
from watchtower.store.views import new_views_file

SHRINK = "PRAGMA shrink_memory"


@pytest.fixture
def log(tmp_path: Path) -> SqliteEventStore:
    """A fresh log, open."""
    path = tmp_path / "events.db"
    create_store(
        path, origin="t", chain_hash=chain_hash("regtest"), log_id=bytes(16), stream_key=bytes(32), recorded_at=0
    )
    return open_store(path)


def test_the_log_gives_its_pages_back_in_a_quiet_moment(log: SqliteEventStore) -> None:
    """Once behind a commit, after the checkpoint; a close is such a moment."""
    said: list[str] = []
    with log._datastore.raw(commit=True) as connection:
        connection.set_trace_callback(said.append)
    event = AlertRaised(recorded_at=0, kind=AlertKind.UNKNOWN_SPEND, txid=None, sequence=None, height=1)
    log.append(envelopes("c" + "x" * 22, 0, [event]))
    log.close()

    assert [SHRINK] == [line for line in said if line == SHRINK]
    assert said.index("PRAGMA wal_checkpoint(TRUNCATE)") < said.index(SHRINK)


def test_the_views_give_their_pages_back_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind every third transaction here, outside of it."""
    monkeypatch.setattr(views, "BATCHES_PER_RELEASE", 3)
    rows = new_views_file(tmp_path / "views.db", bytes(16), PROJECTIONS)
    said: list[str] = []
    with rows.datastore.raw(commit=True) as connection:
        connection.set_trace_callback(said.append)
    for position in range(1, 8):
        with rows.batch() as batch:
            batch.advance("test", position)
    rows.close()

    kinds = [line.split()[0] for line in said if line.split()[0] in {"BEGIN", "COMMIT"} or line == SHRINK]
    assert (["BEGIN", "COMMIT"] * 3 + ["PRAGMA"]) * 2 + ["BEGIN", "COMMIT"] == kinds
