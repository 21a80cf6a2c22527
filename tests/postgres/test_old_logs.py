"""Logs of released versions on a server: copied there they read as in a file; one of a newer program is refused."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from eventsourcing.persistence import StoredEvent

from tests.support.fixture_log import LOGS, seen, unpack
from tests.support.postgres import PostgresServer
from tests.support.postgres_logs import migrated
from watchtower.store.copying import FileEnd, copy_log
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.postgres.event_store import open_server_log, open_server_reader
from watchtower.store.postgres.target import ServerEnd
from watchtower.store.verify import verify_source

IN_ONE_FILE = sorted(path.parent for path in LOGS.glob("*/*/expected.json") if path.parent.name != "segments")


def ignore(*_: object) -> None:
    """Nobody looks at the progress."""


@pytest.mark.parametrize("fixture", IN_ONE_FILE, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_an_old_log_moves_to_a_server(postgres: PostgresServer, database: str, tmp_path: Path, fixture: Path) -> None:
    """Head, rows of the read models and timeline are those that the old version saw."""
    expected = json.loads((fixture / "expected.json").read_text())
    url = migrated(postgres, database)
    server = ServerEnd(url)

    copy_log(FileEnd(unpack(fixture, tmp_path)), server, ignore, ignore)

    with closing(server.source()) as source:
        assert expected["head"] == source.last_commit().head.hex()
        assert () == verify_source(source).findings
    with open_server_reader(url) as log:
        found = seen(log)
    assert {name: expected[name] for name in found} == found


def test_a_topic_of_a_newer_version_stops_the_start(log_url: str, tmp_path: Path) -> None:
    """As in a file: by name, with a sentence that says what to do."""
    with open_server_log(log_url, tmp_path / "copy.db") as store:
        store._recorder.insert_jobs([[StoredEvent("c1", 1, "zz99", b"\x91\x01")]])

    with pytest.raises(StoreCheckFailed, match=r"unknown topic 'zz99'.*run that version") as caught:
        open_server_log(log_url, tmp_path / "copy.db")

    assert "topics" == caught.value.check
