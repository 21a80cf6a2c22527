"""A tower's copy of its log whose pages go bad, while the log on the server is as it should be."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.stores import note
from watchtower.ports import StoreBroken
from watchtower.store.postgres.event_store import open_server_log
from watchtower.store.postgres.source import PostgresSource
from watchtower.store.sqlite_source import SqliteSource
from watchtower.store.verify import verify_source

STREAMS, EVENTS, PAGE = 12, 400, 4096


def damage(path: Path) -> None:
    """Overwrite pages in the middle: the newest events, which are checked at a start, stay."""
    size, noise = path.stat().st_size, random.Random(1)
    with path.open("r+b") as file:
        for place in range(size // 6 // PAGE, size // 3 // PAGE):
            file.seek(place * PAGE)
            file.write(noise.randbytes(PAGE))


@pytest.fixture
def copy(log_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The damaged copy of a log that is whole."""
    monkeypatch.setattr("watchtower.store.local_copy.TAIL", 10)
    path = tmp_path / "copy.db"
    with open_server_log(log_url, path) as store:
        for number in range(STREAMS):
            store.append([note(f"c{number}", version) for version in range(1, 1 + EVENTS)])
    damage(path)
    return path


def test_fault_what_the_copy_cannot_read_is_read_from_the_server(log_url: str, copy: Path) -> None:
    """The tower neither ends nor leaves a channel out, and stores as before."""
    with open_server_log(log_url, copy) as store:
        found = [len(store.read_stream(f"c{number}")) for number in range(STREAMS)]
        last = store.append([note("c0", 1 + EVENTS)])
        versions = (store.file, store.version("c0"), len(store.read_log(last - 1, 9)))

    assert STREAMS * [EVENTS] == found
    assert (None, 1 + EVENTS, 1) == versions


def test_fault_a_damaged_copy_is_made_again_by_the_next_start(log_url: str, copy: Path) -> None:
    """It is whole then; what was damaged is beside it."""
    with open_server_log(log_url, copy) as store:
        for number in range(STREAMS):
            store.read_stream(f"c{number}")
    with open_server_log(log_url, copy) as store:
        file = store.file

    with PostgresSource(log_url) as server, SqliteSource(copy) as own:
        assert server.last_commit() == own.last_commit()
        assert () == verify_source(own).findings
    beside = [copy.with_name(copy.name + suffix).exists() for suffix in (".set-aside", ".damaged")]
    assert (copy, [True, False]) == (file, beside)


def test_fault_a_copy_that_cannot_be_tidied_does_not_end_the_tower(
    log_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk fails in a quiet moment: the log is on the server, and stays in use."""

    def fail() -> None:
        raise StoreBroken("disk I/O error")

    with open_server_log(log_url, tmp_path / "copy.db") as store:
        monkeypatch.setattr(store._copy, "tidy", fail)
        store._copying.look_after_copy()
        monkeypatch.undo()

        assert (2, False) == (store.append([note("c1", 1)]), store.broken.is_set())
        assert 1 == len(store.read_stream("c1"))
