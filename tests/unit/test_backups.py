"""Backups that the service makes by itself, and the work behind them."""

from __future__ import annotations

import sqlite3
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domain.contract import keys
from domain.log_chain import sealed_head_hash
from tests.support.backed_up import KEY, LOG_ID, PASSPHRASE, make_tower, sign, work
from tests.support.clocks import FixedClock
from tests.support.stores import note
from watchtower.backup import BackupCorrupt, BackupError, LogFacts, Manifest, verify
from watchtower.backup.job import Work, make_backup, make_beside
from watchtower.backup.periodic import RETRY_SECONDS, BackupTask
from watchtower.backup.shelf import Shelf
from watchtower.store.create import open_store
from watchtower.store.high_water import HighWater, write_high_water
from watchtower.telemetry.metrics import Metrics

DAY = 86_400.0


STREAM = "c" + "x" * 22


SINCE = 1_600_000_000.0


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    """One tower."""
    return make_tower(tmp_path / "tower")


class Scene:
    """A backup task whose work is noted and whose time stands still."""

    def __init__(self, directory: Path, *, keep: int = 2) -> None:
        directory.mkdir(exist_ok=True)
        self.directory, self.clock = directory, FixedClock()
        self.metrics = Metrics(build=("0", "0", "regtest", "sqlite"))
        self.error: Exception | None = None
        self.shelf = Shelf(directory, LOG_ID)
        self.task = BackupTask(
            shelf=self.shelf,
            make=self.make,
            interval=DAY,
            keep=keep,
            since=SINCE,
            clock=self.clock,
            metrics=self.metrics,
        )

    def make(self, path: Path, made_at: int) -> Manifest:
        """Write something, or fail."""
        if self.error is not None:
            raise self.error
        path.write_bytes(b"x")
        return Manifest("tower", made_at, 0, (), LogFacts(LOG_ID.hex(), "t", 2, "00"))

    @property
    def names(self) -> list[str]:
        """What is in the directory."""
        return sorted(path.name for path in self.directory.iterdir())

    def value(self, name: str) -> float:
        """A metric as it is scraped."""
        lines = self.metrics.render().decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"watchtower_{name} ")).split()[1])


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A task with an empty directory."""
    return Scene(tmp_path / "backups")


def test_the_first_backup_is_made_at_once_and_the_next_a_day_later(scene: Scene) -> None:
    """In between there is nothing to do; the pause is the time that is left."""
    first = scene.task.turn()
    scene.clock.forward(DAY / 2)
    wait = scene.task.turn()
    half = len(scene.names)
    scene.clock.forward(DAY / 2)
    scene.task.turn()

    assert (DAY, DAY / 2) == (first, wait)
    assert [1, 2] == [half, len(scene.names)]


def test_the_metric_tells_the_age_of_the_last_verified_backup(scene: Scene) -> None:
    """Before the first one it is the beginning of the log: a tower without backups is told of, too."""
    before = scene.value("backup_last_success_timestamp_seconds")
    scene.task.turn()
    after = scene.value("backup_last_success_timestamp_seconds")

    assert [SINCE, scene.clock.microseconds // 1_000_000] == [before, after]
    assert 0.0 == scene.value("backup_failures_total")


def test_a_restarted_service_goes_on_with_the_backups_that_are_there(scene: Scene) -> None:
    """The names tell when they were made; no second one is made on the same day."""
    scene.task.turn()
    again = Scene(scene.directory)
    again.clock.forward(60)
    wait = again.task.turn()

    assert (DAY - 60, 1) == (wait, len(again.names))
    assert scene.value("backup_last_success_timestamp_seconds") == again.value("backup_last_success_timestamp_seconds")


def test_only_the_newest_are_kept(scene: Scene) -> None:
    """Files of others and of another tower stay, also those with nearly such a name."""
    others = ["notes.txt", "tower-ffffffff-20200101T000000Z.backup", "tower-00010203-x.backup"]
    for name in others:
        (scene.directory / name).touch()
    for _ in range(4):
        scene.task.turn()
        scene.clock.forward(DAY)

    days = [datetime.fromtimestamp(1_700_000_000 + DAY * n, UTC).strftime("%Y%m%dT%H%M%SZ") for n in (2, 3)]
    assert sorted([*others, *(f"tower-00010203-{day}.backup" for day in days)]) == scene.names


def test_a_failure_is_there_to_be_told_until_a_backup_works(scene: Scene) -> None:
    """Whoever tells people asks for it."""
    scene.error = BackupError("the disk is full")
    pause = scene.task.turn()
    failed = scene.task.failure
    scene.clock.forward(pause)
    scene.error = None
    scene.task.turn()

    assert ("the disk is full", "") == (failed, scene.task.failure)


def test_a_failure_is_counted_and_tried_again_soon(scene: Scene) -> None:
    """Nothing is pruned, the age goes on, and the next try comes after a quarter of an hour."""
    scene.task.turn()
    scene.clock.forward(DAY)
    age = scene.value("backup_last_success_timestamp_seconds")
    scene.error = BackupError("the disk is full")
    pause = scene.task.turn()
    scene.clock.forward(pause - 1)
    scene.task.turn()
    counted = scene.value("backup_failures_total")
    scene.clock.forward(1)
    scene.error = None
    scene.task.turn()

    assert (RETRY_SECONDS, 1.0, 2) == (pause, counted, len(scene.names))
    assert age < scene.value("backup_last_success_timestamp_seconds")


def test_an_unexpected_error_ends_nothing(scene: Scene) -> None:
    """The thread goes on after a mistake of the program, and counts it."""
    scene.error = ValueError("unexpected")
    scene.task.start()
    deadline = time.monotonic() + 30
    while scene.value("backup_failures_total") < 1 and time.monotonic() < deadline:
        scene.task.stopping.wait(0.01)

    assert 1.0 == scene.value("backup_failures_total")
    assert scene.task.stop(30)


def test_a_directory_that_is_away_is_a_failure(tmp_path: Path) -> None:
    """A disk that is not mounted must not look like a success."""
    scene = Scene(tmp_path / "backups")
    scene.directory.rmdir()
    scene.error = BackupError("no such directory")

    scene.task.turn()

    assert 1.0 == scene.value("backup_failures_total")


@pytest.mark.slow
def test_a_backup_is_sealed_and_compared(tower: Path) -> None:
    """The manifest names the head, and the tower's signature of it verifies."""
    log = make_backup(work(tower), sign).log

    assert log is not None
    message = sealed_head_hash(LOG_ID, 2, bytes.fromhex(log.head))
    assert (2, LOG_ID.hex()) == (log.last_id, log.log_id)
    assert keys.verify_schnorr(keys.xonly(keys.public_key(KEY)), message, bytes.fromhex(log.seal))
    assert log == verify(tower.parent / "saved", PASSPHRASE).log


@pytest.mark.slow
def test_views_that_do_not_follow_from_the_log_fail_the_backup(tower: Path) -> None:
    """A success means that the tower that is served can be had again from the copy."""
    connection = sqlite3.connect(tower / "views.db")
    connection.execute("INSERT INTO channel_facts VALUES ('c', x'00')")
    connection.commit()
    connection.close()

    with pytest.raises(BackupCorrupt, match="not those that are served"):
        make_backup(work(tower), None)

    assert [] == [path.name for path in tower.parent.iterdir() if path.name.startswith("saved")]


def test_the_high_water_mark_is_in_no_backup(tower: Path) -> None:
    """Beside an old log an old mark would hide what is missing."""
    write_high_water(tower / "high-water", HighWater("t", LOG_ID, 0, 2, bytes(32)))

    manifest = make_backup(work(tower), None)

    assert ["events.db", "keystore", "tower.key"] == [stored.name for stored in manifest.files]


@pytest.mark.slow
def test_a_backup_is_made_beside_a_busy_writer(tower: Path) -> None:
    """In a process of its own; what was committed before it began is in it, and the writer was not stopped."""
    ending = threading.Event()
    with open_store(tower / "events.db") as store:

        def write() -> None:
            version = 0
            while not ending.is_set():
                version += 1
                store.append([note(STREAM, version)])

        writer = threading.Thread(target=write)
        writer.start()
        before = store.last_id()
        manifest = make_beside(work(tower), sign, threading.Event())
        ending.set()
        writer.join()
        after = store.last_id()

    assert manifest.log is not None
    assert before <= manifest.log.last_id <= after
    assert "" != manifest.log.seal


@pytest.mark.slow
def test_the_end_of_the_service_ends_a_backup_under_way(tower: Path) -> None:
    """Nothing is left of it."""
    stopping = threading.Event()
    stopping.set()

    with pytest.raises(BackupError, match="the service ends"):
        make_beside(work(tower), sign, stopping)

    assert not (tower.parent / "saved").exists()
    assert [] == list(tower.glob(".backup-*"))


@pytest.mark.slow
def test_a_failure_in_the_process_is_told_by_its_words(tower: Path) -> None:
    """A wrong passphrase, for example."""
    wrong = Work(**{**{name: getattr(work(tower), name) for name in Work.__struct_fields__}, "passphrase": b"wrong"})

    with pytest.raises(BackupError, match="the passphrase does not open"):
        make_beside(wrong, sign, threading.Event())


def test_no_secret_is_shown_of_the_work(tower: Path) -> None:
    """A traceback or a log line must not hold the passphrase."""
    assert "for tests" not in repr(work(tower))
