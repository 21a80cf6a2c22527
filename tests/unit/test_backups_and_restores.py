"""A kill at every step of a backup and of a restore, damaged backups, and what a restore says is missing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from click.testing import CliRunner

from tests.support.backed_up import LOG_ID, PASSPHRASE, make_tower, sign, work
from watchtower.backup import BackupCorrupt, BackupError, archive, verify
from watchtower.backup.job import make_backup
from watchtower.backup.periodic import work_of
from watchtower.backup.shelf import Shelf
from watchtower.config.settings import Settings
from watchtower.continuity.restoring import restore_tower
from watchtower.store.create import open_reader
from watchtower.store.high_water import HighWater, HighWaterDamaged, read_high_water, write_high_water


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    """One tower."""
    return make_tower(tmp_path / "tower")


def settings_of(tower: Path) -> Settings:
    """Those of the tower."""
    return Settings(network="regtest", data_dir=str(tower))


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
    code = killed_behind("give_name", tower)

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
