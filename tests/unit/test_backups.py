"""Backups that the service makes by itself, and the work behind them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from click.testing import CliRunner

from domain.chain import chain_hash
from domain.contract import keys
from domain.log_chain import sealed_head_hash
from tests.support.clocks import FixedClock
from tests.support.stores import note
from watchtower.backup import BackupCorrupt, BackupError, LogFacts, Manifest, archive, verify
from watchtower.backup.job import Work, make_backup, make_beside
from watchtower.backup.periodic import RETRY_SECONDS, BackupTask, work_of
from watchtower.backup.shelf import Shelf
from watchtower.config.settings import Settings
from watchtower.continuity.restoring import restore_tower
from watchtower.keystore import FileKeystore
from watchtower.store.create import create_store, open_reader, open_store
from watchtower.store.high_water import HighWater, HighWaterDamaged, read_high_water, write_high_water
from watchtower.store.rebuild import open_views
from watchtower.telemetry.metrics import Metrics

PASSPHRASE = b"for tests"
LOG_ID = bytes(range(16))
KEY = b"\x07" * 32
DAY = 86_400.0
STREAM = "c" + "x" * 22
SINCE = 1_600_000_000.0


def make_tower(directory: Path, log_id: bytes = LOG_ID) -> Path:
    """A tower's directory with an empty keystore and a log with two events; its views are there."""
    directory.mkdir(mode=0o700)
    log = directory / "events.db"
    create_store(
        log, origin="t", chain_hash=chain_hash("regtest"), log_id=log_id, stream_key=b"\x05" * 32, recorded_at=1
    )
    FileKeystore.create(directory / "keystore", PASSPHRASE, cost=2**4).close()
    (directory / "keystore.passphrase").write_bytes(PASSPHRASE)
    (directory / "tower.key").write_text(KEY.hex())
    with open_store(log) as store:
        store.append([note("log", 2)])
        open_views(directory / "views.db", store).close()
    return directory


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    """One tower."""
    return make_tower(tmp_path / "tower")


def work(tower: Path, out: Path | None = None) -> Work:
    """What the service would ask for."""
    return Work(
        data_dir=str(tower),
        log=str(tower / "events.db"),
        server="",
        views=str(tower / "views.db"),
        out=str(out or tower.parent / "saved"),
        made_at=7,
        passphrase=PASSPHRASE,
    )


def sign(message: bytes) -> bytes:
    """With the tower key."""
    return keys.sign_schnorr(KEY, message, KEY)


def settings_of(tower: Path) -> Settings:
    """Those of the tower."""
    return Settings(network="regtest", data_dir=str(tower))


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
    deadline = time.monotonic() + 10
    while scene.value("backup_failures_total") < 1 and time.monotonic() < deadline:
        scene.task.stopping.wait(0.01)

    assert 1.0 == scene.value("backup_failures_total")
    assert scene.task.stop(10)


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


KILLED = """
import os, signal, sys
from pathlib import Path
from watchtower.backup import archive
step, tower, out = sys.argv[1:]
real = getattr(archive, step)
def die(*arguments, **options):
    real(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(archive, step, die)
archive.backup(archive.tower_sources(Path(tower), Path(tower) / "events.db"), Path(out), b"for tests", 7)
"""


def killed_behind(step: str, tower: Path) -> int:
    """Kill a process that makes a backup once it did a step; its exit code."""
    arguments = [step, str(tower), str(tower.parent / "saved")]
    environment = {**os.environ, "PYTHONPATH": "."}
    return subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, env=environment).returncode


@pytest.mark.slow
@pytest.mark.parametrize("step", ["take_snapshot", "_write_private", "_seal", "_unpack", "_check"])
def test_kill_in_a_backup_leaves_none(tower: Path, step: str) -> None:
    """Under the name of the backup there is never half of one, and the next try succeeds and tidies up."""
    code = killed_behind(step, tower)
    existed = (tower.parent / "saved").exists()
    for left in tower.glob(".backup-*"):
        os.utime(left, (0, 0))

    again = archive.backup(archive.tower_sources(tower, tower / "events.db"), tower.parent / "saved", PASSPHRASE, 7)

    assert (-signal.SIGKILL, False) == (code, existed)
    assert again.log is not None
    assert 2 == again.log.last_id
    assert [] == [*tower.glob(".backup-*"), *tower.parent.glob("*.unfinished")]


@pytest.mark.slow
def test_kill_behind_a_backup_leaves_a_whole_one(tower: Path) -> None:
    """Once it has its name it is proved."""
    code = killed_behind("_give_name", tower)

    assert -signal.SIGKILL == code
    assert 0 == verify(tower.parent / "saved", PASSPHRASE).secrets


KILLED_RESTORE = """
import os, signal, sys
from pathlib import Path
from watchtower.continuity import restoring
from watchtower.continuity import rollback
from watchtower.config.settings import Settings
step, tower, saved, target = sys.argv[1:]
module = rollback if hasattr(rollback, step) else restoring
real = getattr(module, step)
def die(*arguments, **options):
    real(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(module, step, die)
settings = Settings(network="regtest", data_dir=tower)
restoring.restore_tower(settings, Path(saved), Path(target), b"for tests", accept=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("step", "is_there"), [("append_to_log_stream", False), ("_renew", False), ("restore", True)])
def test_kill_in_a_restore_leaves_nothing_or_a_whole_one(tower: Path, step: str, is_there: bool) -> None:
    """An accepted copy appears with its epoch and its mark, or not at all."""
    saved, target = tower.parent / "saved", tower.parent / "again"
    make_backup(work(tower), None)
    subprocess.run(
        [sys.executable, "-c", KILLED_RESTORE, step, str(tower), str(saved), str(target)],
        check=False,
        env={**os.environ, "PYTHONPATH": "."},
    )

    assert is_there == target.exists()
    shutil.rmtree(target, ignore_errors=True)
    done = restore_tower(settings_of(tower), saved, target, PASSPHRASE, accept=True)
    mark = read_high_water(target / "high-water")
    assert mark is not None
    assert (1, 3) == (done.epoch, mark.position)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: c[:-40] + b"\x00" + c[-39:], lambda c: b""])
def test_a_damaged_backup_is_refused_with_a_reason(tower: Path, damage: object) -> None:
    """Cut short, one byte changed, empty: nothing appears."""
    make_backup(work(tower), None)
    saved = tower.parent / "saved"
    saved.write_bytes(damage(saved.read_bytes()))  # type: ignore[operator]

    with pytest.raises(BackupCorrupt, match=r"damaged|no backup"):
        restore_tower(settings_of(tower), saved, tower.parent / "again", PASSPHRASE, accept=True)

    assert not (tower.parent / "again").exists()


@pytest.mark.slow
def test_a_backup_of_another_tower_is_refused(tower: Path, tmp_path: Path) -> None:
    """The high-water file knows which log belongs here."""
    other = make_tower(tmp_path / "other", b"\x0f" * 16)
    make_backup(work(other, tmp_path / "theirs"), None)
    write_high_water(tower / "high-water", HighWater("mine", LOG_ID, 0, 2, bytes(32)))

    with pytest.raises(BackupError, match="another tower"):
        restore_tower(settings_of(tower), tmp_path / "theirs", tmp_path / "again", PASSPHRASE, accept=False)

    assert not (tmp_path / "again").exists()


@pytest.mark.slow
def test_fault_P8_a_restore_says_what_is_missing(tower: Path) -> None:
    """Without acceptance the copy comes back as it was, and nobody pretends that it is the newest."""
    make_backup(work(tower), None)
    write_high_water(tower / "high-water", HighWater("t", LOG_ID, 2, 9, bytes(32)))

    done = restore_tower(settings_of(tower), tower.parent / "saved", tower.parent / "again", PASSPHRASE, accept=False)

    assert (2, 9, 7, None) == (done.events, done.high_water, done.missing, done.epoch)
    assert (tower / "high-water").read_text() == (tower.parent / "again" / "high-water").read_text()


@pytest.mark.slow
def test_fault_P8_a_restore_without_any_mark_has_to_be_decided(tower: Path) -> None:
    """The file went with the disk: the tower must not take the copy for the newest log."""
    make_backup(work(tower), None)

    done = restore_tower(settings_of(tower), tower.parent / "saved", tower.parent / "again", PASSPHRASE, accept=False)

    assert (None, 0, None) == (done.high_water, done.missing, done.epoch)
    with pytest.raises(HighWaterDamaged, match="high-water"):
        read_high_water(tower.parent / "again" / "high-water")


@pytest.mark.slow
def test_fault_P8_an_accepted_restore_opens_the_epoch_behind_the_mark(tower: Path) -> None:
    """The epoch follows that of the file outside, not that of the old log."""
    make_backup(work(tower), None)
    write_high_water(tower / "high-water", HighWater("t", LOG_ID, 2, 9, bytes(32)))

    done = restore_tower(settings_of(tower), tower.parent / "saved", tower.parent / "again", PASSPHRASE, accept=True)

    with open_reader(tower.parent / "again" / "events.db") as log:
        last = log.last_id()
    assert (3, 0, 3) == (done.epoch, done.channels, last)


@pytest.mark.slow
def test_the_commands_do_the_same(tower: Path, tmp_path: Path) -> None:
    """`store backup` into the directory of the settings, and back with `store restore`."""
    from watchtower.cli import _main

    (tmp_path / "shelf").mkdir()
    config = tmp_path / "config.toml"
    config.write_text(
        f'network = "regtest"\ndata_dir = "{tower}"\n[backup]\ndirectory = "{tmp_path / "shelf"}"\n'
        '[node]\nrpc_user = "u"\nrpc_password = "p"\n'
    )
    options = ["--config", str(config), "store"]
    made = CliRunner().invoke(_main, [*options, "backup"])
    (saved,) = Shelf(tmp_path / "shelf", LOG_ID).backups()
    back = CliRunner().invoke(
        _main, [*options, "restore", str(saved), "--to", str(tmp_path / "again")], input=PASSPHRASE.decode() + "\n"
    )

    assert (0, f"{saved}: 2 events, 0 secrets, read back and compared\n") == (made.exit_code, made.output)
    assert (0, True) == (back.exit_code, (tmp_path / "again" / "events.db").exists())


@pytest.mark.slow
def test_store_verify_compares_with_the_high_water_file(tower: Path, tmp_path: Path) -> None:
    """A whole log passes; one that does not reach its mark ends with 41, as in an audit."""
    from watchtower.cli import _main

    config = tmp_path / "config.toml"
    config.write_text(f'network = "regtest"\ndata_dir = "{tower}"\n[node]\nrpc_user = "u"\nrpc_password = "p"\n')
    options = ["--config", str(config), "store"]
    whole = CliRunner().invoke(_main, [*options, "verify"])
    write_high_water(tower / "high-water", HighWater("t", LOG_ID, 0, 9, bytes(32)))
    behind = CliRunner().invoke(_main, [*options, "verify", "--json"])
    accepted = CliRunner().invoke(_main, [*options, "accept-rollback", "--yes", "--json"])
    again = CliRunner().invoke(_main, [*options, "verify"])
    rebuilt = CliRunner().invoke(_main, [*options, "rebuild"])

    assert [0, 41, 0, 0, 0] == [each.exit_code for each in (whole, behind, accepted, again, rebuilt)]
    assert {"epoch": 1, "position": 2, "high_water": 9, "channels": 0} == json.loads(accepted.stdout)
    assert "3 events replayed" in rebuilt.output


def test_fault_P4_a_backup_does_not_take_the_space_of_the_log(tower: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would fill the disk that the log needs, again after each quarter of an hour: it says so and begins nothing."""
    spare = work_of(settings_of(tower), tower.parent / "saved", 7).spare
    needed = 2 * (tower / "events.db").stat().st_size + (tower / "views.db").stat().st_size
    free = [spare + needed - 1, spare + needed]
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=free[0]))

    with pytest.raises(BackupError, match="64 MB are kept for the tower"):
        make_backup(msgspec.structs.replace(work(tower), spare=spare), sign)
    left = sorted(path.name for path in tower.parent.iterdir())
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=free[1]))
    made = make_backup(msgspec.structs.replace(work(tower), spare=spare), sign)

    assert (["tower"], LOG_ID.hex()) == (left, made.log.log_id if made.log else "")
