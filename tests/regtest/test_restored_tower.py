"""P8 as an operator lives it: a real service, yesterday's log in its place, parties that notice by themselves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.units import Side
from tests.support.new_towers import create
from tests.support.parties import Pair, open_pair
from tests.support.service import ROOT, Run, ServiceProcess, settings_for
from watchtower.client import StateChannelConfig, SyncStateChannelClient
from watchtower.client.disputes import InProcessPeer
from watchtower.client.tower import comparing
from watchtower.devnode.launch import free_ports
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import NewTower
from watchtower.store.high_water import read_high_water

BEFORE, NEWEST = 2, 5


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the tower twice a second instead of once a minute."""
    monkeypatch.setattr(comparing, "LOOK_SECONDS", 0.5)
    monkeypatch.setattr(comparing, "RETRY_SECONDS", 0.5)


@pytest.fixture
def port() -> int:
    """A port that is free now, and the same after a restart."""
    return free_ports(1)[0]


@pytest.fixture
def tower(node: RegtestNode, tmp_path: Path, port: int) -> NewTower:
    """A new tower's files, with an address that stays."""
    settings = settings_for(node) | {"api": {"listen": f"127.0.0.1:{port}"}}
    return create(tmp_path / "tower", tmp_path / "tower" / "config.toml", "regtest", settings)


@pytest.fixture
def pair(node: RegtestNode) -> Pair:
    """A funded channel of two parties, with the funding in a block."""
    made = open_pair(node.fund, challenge_period=24)
    node.mine(1)
    return made


@pytest.fixture
def client(tower: NewTower, pair: Pair, port: int) -> Iterator[SyncStateChannelClient]:
    """B's client, which stays connected while its tower comes and goes."""
    made = SyncStateChannelClient(
        StateChannelConfig(network="regtest"),
        url=f"http://127.0.0.1:{port}",
        token=tower.token_path.read_text().strip(),
        party=pair.b,
        peer=InProcessPeer(pair.b, pair.a),
    )
    yield made
    made.close()


def command(tower: NewTower, *arguments: str, given: str = "") -> str:
    """A command of the operator; its output."""
    done = subprocess.run(
        [sys.executable, "-m", "watchtower", "--config", str(tower.config_path), "store", *arguments],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def marked(tower: NewTower) -> int:
    """How far the log had come, as the file outside says."""
    mark = read_high_water(tower.data_dir / "high-water")
    assert mark is not None
    return mark.position


def with_yesterdays_copy(
    node: RegtestNode, tower: NewTower, run: Run, pair: Pair, client: SyncStateChannelClient, saved: Path
) -> None:
    """The tower serves; a backup is made at state 2; three states later its disk is lost."""
    service = run(tower.config_path)
    service.wait_watching()
    client.connect()
    client.synchronize(pair.channel_id)
    client.wait_for_status(pair.channel_id.hex(), "ACTIVE", timeout_ms=60_000)
    pair.updates(BEFORE)
    client.synchronize(pair.channel_id)
    command(tower, "backup", "--out", str(saved))
    pair.updates(NEWEST - BEFORE)
    client.synchronize(pair.channel_id)
    assert NEWEST == client.get_channel_info(pair.channel_id.hex()).current_sequence
    node.wait_until(lambda: marked(tower) == client.get_state().log.position)  # type: ignore[union-attr]
    service.kill()


def punished(node: RegtestNode, service: ServiceProcess, pair: Pair) -> None:
    """The newest revoked state is published, and the tower takes all of it."""
    node.generate_block([pair.commitment(Side.A, NEWEST - 1)])
    service.wait_for("penalty_broadcast", outcome="accepted")
    node.mine(1)
    service.wait_for("penalty_confirmed")


@pytest.mark.slow
def test_fault_P8_the_restore_drill(
    node: RegtestNode, tower: NewTower, run: Run, pair: Pair, client: SyncStateChannelClient, tmp_path: Path
) -> None:
    """Restored with its rollback accepted: the party uploads by itself, and the newest breach is punished."""
    with_yesterdays_copy(node, tower, run, pair, client, tmp_path / "saved")
    told = command(
        tower,
        *("restore", str(tmp_path / "saved"), "--to", str(tmp_path / "again"), "--accept-rollback"),
        given=tower.passphrase_path.read_text(),
    )
    shutil.copy(tower.passphrase_path, tmp_path / "again")
    shutil.rmtree(tower.data_dir)
    (tmp_path / "again").rename(tower.data_dir)
    service = run(tower.config_path)
    service.wait_for("readiness_changed", reason="behind_receipts", holds=True)
    service.wait_for("readiness_changed", reason="behind_receipts", holds=False)

    state = client.get_state()
    assert "epoch 1 begins; 1 channels wait for their owners" in told
    assert (None, 1) == (state.behind_receipts, state.log and state.log.epoch)
    assert NEWEST == client.get_channel_info(pair.channel_id.hex()).current_sequence
    punished(node, service, pair)


@pytest.mark.slow
def test_fault_P8_yesterdays_log_in_the_place_of_todays(
    node: RegtestNode, tower: NewTower, run: Run, pair: Pair, client: SyncStateChannelClient, tmp_path: Path
) -> None:
    """Nobody said a word: the tower sees it, protects, signs nothing until it was accepted, and is mended by then."""
    with_yesterdays_copy(node, tower, run, pair, client, tmp_path / "saved")
    command(
        tower,
        *("restore", str(tmp_path / "saved"), "--to", str(tmp_path / "again")),
        given=tower.passphrase_path.read_text(),
    )
    for name in ("events.db", "events.db-wal", "events.db-shm"):
        (tower.data_dir / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "again" / "events.db", tower.data_dir)
    unaccepted = run(tower.config_path)
    found = unaccepted.wait_for("readiness_changed", reason="behind_receipts", holds=True)
    unaccepted.wait_for("state_updated", sequence=NEWEST)
    before = client.get_state()
    unaccepted.terminate()
    command(tower, "accept-rollback", "--yes")
    service = run(tower.config_path)
    service.wait_for("readiness_changed", reason="behind_receipts", holds=False)

    assert "it is an older copy" in found["detail"]
    assert before.behind_receipts is not None
    assert not before.behind_receipts.accepted
    receipts = [signed.read() for signed in pair.b.receipts(pair.channel_id)]
    assert [(1, NEWEST)] == [(each.epoch, each.seq) for each in receipts if each.epoch == 1][-1:]
    punished(node, service, pair)


@pytest.mark.slow
def test_a_service_backs_itself_up(node: RegtestNode, run: Run, tmp_path: Path) -> None:
    """At its first start, in a process of its own; the copy is proved, told and counted, and can be restored."""
    (tmp_path / "shelf").mkdir()
    settings = settings_for(node) | {"backup": {"directory": str(tmp_path / "shelf")}}
    made = create(tmp_path / "tower", tmp_path / "tower" / "config.toml", "regtest", settings)
    service = run(made.config_path)
    told = service.wait_for("backup_verified", seconds=120.0)
    metrics = service.get("admin", "/metrics")[1].decode()
    code = service.terminate()
    (saved,) = (tmp_path / "shelf").iterdir()
    back = command(made, "restore", str(saved), "--to", str(tmp_path / "again"), given=made.passphrase_path.read_text())

    (line,) = [each for each in metrics.splitlines() if each.startswith("watchtower_backup_last_success_")]
    assert (0, saved.name) == (code, told["path"])
    assert abs(float(line.split()[1]) - saved.stat().st_mtime) < 120
    assert "watchtower_backup_failures_total 0.0" in metrics
    assert f"{told['notification_id']} events" in back
