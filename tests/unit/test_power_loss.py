"""The power goes at any moment: the log keeps every commit that was told, whole; views are caught up or made again.

What our code says to SQLite in a real run is said again through a file system that notes writes and syncs. From the
notes follow the states in which a disk can be left. A control run with a weaker setting has to lose something.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from projections.catalog import PROJECTIONS
from projections.projector import Projector
from tests.support.histories import OTHER_STREAM, History, interleaved
from tests.support.power import Cut, Image, Run, Sync, Write, driven, images, recorded
from tests.support.stores import new_log, note
from watchtower.ports import StoreConflict
from watchtower.store.create import open_store
from watchtower.store.rebuild import digests, open_views, open_views_reader, rebuild
from watchtower.store.verify import verify_log
from watchtower.store.views import SqliteRows, new_views_file

pytestmark = pytest.mark.slow

SMALL_WAL = "PRAGMA wal_autocheckpoint = 12"
"""Checkpoints come within a short run; where they come changes nothing of what a commit promises."""

VIEWS_WAL = "PRAGMA wal_autocheckpoint = 100"
"""One change of the views writes more pages than that of a log: with fewer every commit would end in a checkpoint."""

LAST_EVENT = "SELECT max(rowid) FROM stored_events"
LAST_FOLDED = "SELECT coalesce(max(notification_id), 0) FROM tracking"
STEPS = (1, 3, 11, 2, 5, 17, 9, 1, 2, 30, 40, 6)


def grow(path: Path, ends: set[int]) -> None:
    """Jobs of one to nine events from several callers, chain jobs between them, a conflict, quiet moments."""

    def jobs(caller: int) -> None:
        stream, version = f"k{caller:022}", 0
        for number in range(8):
            count = 1 + (caller + number) % 9
            ends.add(store.append([note(stream, version + step) for step in range(1, count + 1)]))
            version += count

    with open_store(path) as store:
        ends.add(store.last_id())
        for round_ in range(1, 4):
            ends.add(store.append([note("chain", round_)], chain=True))
            with ThreadPoolExecutor(4) as callers:
                list(callers.map(jobs, range(10 * round_, 10 * round_ + 4)))
            with pytest.raises(StoreConflict):
                store.append([note(f"k{10 * round_:022}", 1, 7)])
            store.checkpoint()


@pytest.fixture(scope="module")
def ends() -> set[int]:
    """Where a job ends in the log of the recorded run."""
    return set()


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, ends: set[int]) -> tuple[Path, list[str]]:
    """A new log, and what the store says to it in a run."""
    directory = tmp_path_factory.mktemp("said")
    base, grown = new_log(directory), new_log(directory, "grown.db")
    with pytest.MonkeyPatch.context() as monkeypatch:
        return base, recorded(monkeypatch, grown, lambda: grow(grown, ends))


def log_run(said: tuple[Path, list[str]], directory: Path, *changed: str) -> Run:
    """The recorded run on the traced file system."""
    return driven(said[0], directory, said[1], ask=LAST_EVENT, changed=(SMALL_WAL, *changed))


def in_place(image: Image, directory: Path) -> Path:
    """Write an image down; the path of its database."""
    path = directory / "image" / "log.db"
    image.write(path)
    return path


def each_of(run: Run, directory: Path, look: Callable[[Path, Image], None], seed: int, each: int, step: int) -> int:
    """Look at every `step`-th image; how many there were."""
    chosen = list(images(run, random.Random(seed), each))[::step]
    for number, image in enumerate(chosen):
        (directory / str(number)).mkdir()
        look(in_place(image, directory / str(number)), image)
    return len(chosen)


def test_the_real_run_syncs_every_commit_and_folds_the_log(tmp_path: Path, said: tuple[Path, list[str]]) -> None:
    """The traced run is not blind: it has commits, syncs of both files, checkpoints, and a commit that was cut."""
    run = log_run(said, tmp_path)

    assert {"", "-wal"} == {step.file for step in run.steps if isinstance(step, Sync)}
    assert [] != [step for step in run.steps if isinstance(step, Write) and step.file == ""]
    assert [] != [step for step in run.steps if isinstance(step, Cut) and step.file == "-wal"]
    assert "PRAGMA synchronous = 2" in said[1]


def test_fault_P3_no_loss_of_power_takes_an_acknowledged_event(
    tmp_path: Path, said: tuple[Path, list[str]], ends: set[int]
) -> None:
    """Every image opens with all that was told, ends with a whole job, and its chain verifies."""

    def look(path: Path, image: Image) -> None:
        with open_store(path) as store, store.connection() as connection:
            assert store.last_id() >= image.told
            assert store.last_id() in ends
            assert () == verify_log(connection).findings
            store.append([note("after", 1)])

    run = log_run(said, tmp_path)

    assert 100 <= each_of(run, tmp_path, look, seed=1, each=3, step=3)


def test_a_weaker_setting_loses_acknowledged_events(
    tmp_path: Path, said: tuple[Path, list[str]], ends: set[int]
) -> None:
    """The control: with `synchronous = NORMAL` some images lack what was told, and still are whole logs."""
    lost: list[int] = []

    def look(path: Path, image: Image) -> None:
        with open_store(path) as store, store.connection() as connection:
            lost.append(image.told - store.last_id())
            assert store.last_id() in ends
            assert () == verify_log(connection).findings

    run = log_run(said, tmp_path, "PRAGMA synchronous = NORMAL")

    assert 20 <= each_of(run, tmp_path, look, seed=2, each=1, step=6)
    assert max(lost) > 0


# ── views ────────────────────────────────────────────────────────────────────────────────────────────────


def test_views_are_whole_after_any_loss_of_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may have forgotten some pages, and must in some images; caught up they equal those of a rebuild."""
    log_path, views, forgotten = new_log(tmp_path), tmp_path / "views.db", []
    with open_store(log_path) as log:
        for event in interleaved(History().play(STEPS).events, History(OTHER_STREAM).play(STEPS[3:]).events):
            log.append([event.envelope], chain=True)
        new_views_file(views, log.meta.log_id, PROJECTIONS).close()
        base = views.read_bytes()
        (tmp_path / "base.db").write_bytes(base)
        statements = recorded(monkeypatch, views, lambda: _follow(log, views))
        rebuild(tmp_path / "rebuilt.db", log)
        with closing(open_views_reader(tmp_path / "rebuilt.db")) as rows:
            expected = digests(rows)

        def look(path: Path, image: Image) -> None:
            with closing(open_views(path, log)) as rows:
                forgotten.append(image.told - min(rows.position(each.name) for each in PROJECTIONS))
                for _ in Projector(log, rows, PROJECTIONS).catch_up():
                    pass
                assert expected == digests(rows)

        run = driven(tmp_path / "base.db", tmp_path, statements, ask=LAST_FOLDED, changed=(VIEWS_WAL,))

        assert 20 <= each_of(run, tmp_path, look, seed=3, each=3, step=1)
    assert max(forgotten) > 0


def _follow(log: object, views: Path) -> None:
    with closing(SqliteRows(views)) as rows:
        for _ in Projector(log, rows, PROJECTIONS, page=3).catch_up():  # type: ignore[arg-type]
            pass
