"""Views that are deleted, foreign, damaged or tampered with: rebuild and replay."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from projections.catalog import PROJECTIONS
from projections.preimages import TABLE as PREIMAGES
from projections.projector import Projector
from tests.support.histories import OTHER_STREAM, History, interleaved
from tests.support.stores import new_log
from watchtower.ports import StoreError
from watchtower.store import rebuild as rebuilding
from watchtower.store.create import open_store
from watchtower.store.event_store import SqliteEventStore
from watchtower.store.rebuild import digests, open_views, open_views_reader, rebuild, replay
from watchtower.store.rebuild_stream import NoSuchStream, StillStuck, rebuild_stream

STEPS = [1, 3, 11, 2, 5, 17, 9, 1, 2, 30, 40, 6]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteEventStore]:
    """An open log with two channels and some blocks."""
    with open_store(new_log(tmp_path)) as opened:
        for recorded in interleaved(History().play(STEPS).events, History(OTHER_STREAM).play(STEPS[3:]).events):
            opened.append([recorded.envelope], chain=True)
        yield opened


@pytest.fixture
def path(tmp_path: Path, store: SqliteEventStore) -> Path:
    """A views file, up to date and closed."""
    made = tmp_path / "views.db"
    open_views(made, store).close()
    return made


def digest_of(path: Path) -> rebuilding.Digests:
    """Digests of a views file."""
    rows = open_views_reader(path)
    found = digests(rows)
    rows.close()
    return found


def test_deleted_views_come_back_equal(store: SqliteEventStore, path: Path) -> None:
    """Live views, made page by page, and views rebuilt from position 0 have the same digests."""
    before = digest_of(path)
    path.unlink()
    rows = open_views(path, store)
    rows.close()

    assert before == digest_of(path)
    assert store.last_id() == before.position


def test_live_views_equal_their_replay(store: SqliteEventStore, path: Path, tmp_path: Path) -> None:
    """A replay at the position of the live views, even if the log has gone on, finds no difference."""
    rows = open_views(path, store)
    projector = Projector(store, rows, PROJECTIONS, page=3)
    history = History("c" + "u" * 22).play(STEPS)
    store.append(history.events[:9])
    list(projector.catch_up())
    store.append(history.events[9:])

    report = replay(store.path, path, tmp_path / "scratch.db")
    rows.close()

    assert report.is_identical
    assert (projector.position, store.last_id()) == (report.position, report.last_id)
    assert not (tmp_path / "scratch.db").exists()


def test_a_changed_row_is_named(store: SqliteEventStore, path: Path, tmp_path: Path) -> None:
    """A replay names the table that was tampered with; with `replace` the fresh views take its place."""
    connection = sqlite3.connect(path)
    connection.execute("UPDATE channel_info SET balance_a = balance_a + 1")
    connection.commit()
    connection.close()

    assert ("channel_info",) == replay(store.path, path, tmp_path / "scratch.db").differing
    replay(store.path, path, tmp_path / "scratch.db", replace=True)
    assert replay(store.path, path, tmp_path / "scratch.db").is_identical


def test_replay_without_live_views(store: SqliteEventStore, tmp_path: Path) -> None:
    """Without views there is nothing to compare, and the digests are still reported."""
    report = replay(store.path, tmp_path / "none.db", tmp_path / "scratch.db")

    assert (store.last_id(), True) == (report.position, report.is_identical)
    assert not (tmp_path / "none.db").exists()


DAMAGE = {
    "other version": "UPDATE views_meta SET layout = x'00'",
    "other log": "UPDATE views_meta SET log_id = zeroblob(15)",
    "ahead of the log": "UPDATE tracking SET notification_id = 1000000 WHERE application_name LIKE 'wt:%'",
    "positions differ": "UPDATE tracking SET notification_id = 1 WHERE application_name = 'wt:preimages'",
    "table missing": "DROP TABLE views_meta",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_views_that_do_not_fit_are_rebuilt(store: SqliteEventStore, path: Path, damage: str) -> None:
    """Another version, another log or positions that cannot be: the file is made again."""
    before = digest_of(path)
    connection = sqlite3.connect(path)
    connection.execute(damage)
    connection.commit()
    connection.close()

    open_views(path, store).close()

    assert before == digest_of(path)


def test_a_file_that_is_no_database_is_rebuilt(store: SqliteEventStore, path: Path) -> None:
    """Random bytes are replaced."""
    before = digest_of(path)
    path.write_bytes(os.urandom(20_000))

    open_views(path, store).close()

    assert before == digest_of(path)


def test_views_that_cannot_be_read_are_a_store_error(store: SqliteEventStore, path: Path) -> None:
    """Whoever asks a damaged table gets an error of the port, as the one who writes to it: the responder goes on."""
    rows = open_views(path, store)
    with rows.datastore.raw(commit=True) as connection:
        connection.execute(f"DROP TABLE {PREIMAGES.name}")

    with pytest.raises(StoreError):
        rows.find(PREIMAGES, "payment_hash", bytes(32))
    with pytest.raises(StoreError):
        rows.page(PREIMAGES, None, 1)
    rows.close()


def test_a_new_version_of_a_projection_rebuilds(store: SqliteEventStore, path: Path) -> None:
    """The layout of the file binds name and version of every projection."""

    class Newer(type(PROJECTIONS[0])):  # type: ignore[misc]
        """The same projection with another version."""

        version = PROJECTIONS[0].version + 1

    rows = open_views_reader(path)
    newer = (Newer(), *PROJECTIONS[1:])

    assert rows.fits(store.meta.log_id, PROJECTIONS, store.last_id())
    assert not rows.fits(store.meta.log_id, newer, store.last_id())
    rows.close()


@pytest.mark.slow
def test_a_killed_rebuild_leaves_the_old_views(store: SqliteEventStore, path: Path) -> None:
    """SIGKILL at any page of a rebuild: the old file is whole, and the next rebuild succeeds."""
    before = digest_of(path)
    program = """
import os, signal, sys
from pathlib import Path
from watchtower.store import rebuild
from watchtower.store.create import open_reader
rebuild.PAGE, pages = 3, []
def kill_later(self, page, apply=rebuild.Projector._apply):
    pages.append(page)
    if len(pages) > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return apply(self, page)
rebuild.Projector._apply = kill_later
rebuild.rebuild(Path(sys.argv[2]), open_reader(Path(sys.argv[1])))
"""
    for page in (0, 1, 4, 7):
        arguments = [sys.executable, "-c", program, str(store.path), str(path), str(page)]
        assert -signal.SIGKILL == subprocess.run(arguments, check=False).returncode
        assert before == digest_of(path)

    rebuild(path, store)

    assert before == digest_of(path)


def test_the_report_can_be_written_as_json(store: SqliteEventStore, path: Path, tmp_path: Path) -> None:
    """A replay's report is plain data."""
    report = replay(store.path, path, tmp_path / "scratch.db")

    assert report == msgspec.json.decode(msgspec.json.encode(report), type=type(report))


@pytest.mark.slow
def test_one_channel_is_made_again_and_leaves_its_quarantine(store: SqliteEventStore, path: Path) -> None:
    """Its rows were damaged and it was skipped; afterwards the views are those of a whole rebuild."""
    before = digest_of(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE channel_info SET balance_a = 1 WHERE stream = ?", (OTHER_STREAM,))
    connection.execute("DELETE FROM watch_index WHERE stream = ?", (OTHER_STREAM,))
    connection.execute("INSERT INTO quarantine VALUES ('channels', ?, 3, 'ValueError')", (OTHER_STREAM,))
    connection.commit()
    connection.close()
    rows = open_views(path, store)
    events = rebuild_stream(rows, store, OTHER_STREAM)
    skipped = rows.quarantined("channels")
    rows.close()

    assert (len(store.read_stream(OTHER_STREAM)), {}) == (events, skipped)
    assert before == digest_of(path)


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["c" + "0" * 22, "chain"])
def test_only_a_channel_of_the_log_can_be_made_again(store: SqliteEventStore, path: Path, stream: str) -> None:
    """Nothing is changed for another name."""
    rows = open_views(path, store)
    with pytest.raises(NoSuchStream):
        rebuild_stream(rows, store, stream)
    rows.close()


@pytest.mark.slow
def test_a_channel_that_still_cannot_be_folded_is_left_as_it_was(
    store: SqliteEventStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quarantine stays, and so do the rows of before."""
    before = digest_of(path)

    def fail(*_: object) -> None:
        raise ValueError("unknown")

    rows = open_views(path, store)
    monkeypatch.setattr(type(PROJECTIONS[0]), "apply", fail)
    with pytest.raises(StillStuck, match="channels"):
        rebuild_stream(rows, store, OTHER_STREAM)
    rows.close()

    assert before == digest_of(path)
