"""What was known when, in a log on a PostgreSQL server."""

from __future__ import annotations

from pathlib import Path

from tests.support.past import check_engine
from watchtower.store.postgres.event_store import open_server_log
from watchtower.store.rebuild import open_views


def test_points_of_a_log_on_a_server(log_url: str, tmp_path: Path) -> None:
    """Positions, ids, times, heights and blocks mean the same prefixes as in memory, and channels fold alike."""
    with open_server_log(log_url, tmp_path / "copy.db") as store:
        check_engine(store, tmp_path / "views.db", lambda path: open_views(path, store))
