"""Two parties, their towers and a node, moved by commands alone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain.chain import from_display
from tests.support.commands import CLEAN, ROOT, RunningParty, command, document, shell
from tests.support.service import Run, settings_for
from watchtower.devnode.launch import free_ports
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import create


class Stage(msgspec.Struct, frozen=True):
    """Both parties, running; A has the node's wallet. `alone` is A's directory, whose party does not run."""

    node: RegtestNode
    a: RunningParty
    b: RunningParty

    def opened(self) -> dict[str, Any]:
        """A new channel in use, T = 6."""
        words = ("channel", "create", "--home", str(self.a.home), "--peer", self.b.where["address"], "--wait", "60")
        amounts = ("--balances", "500000,500000", "--challenge-period", "144", "--feerate", "5", "--json")
        process = subprocess.Popen(
            command(*words, *amounts), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=CLEAN, cwd=ROOT
        )
        self.node.wait_until(lambda: self.node.mempool() or process.poll() is not None, seconds=60)
        self.node.mine(1)
        told, complaint = process.communicate(timeout=60)
        assert 0 == process.returncode, complaint
        found: dict[str, Any] = msgspec.json.decode(told)
        return found


def make(tmp_path: Path, node: RegtestNode, run: Run, name: str, *options: str) -> Path:
    """A tower that watches, and a party's directory that uses it."""
    tower = create(tmp_path / f"tower-{name}", tmp_path / f"tower-{name}.toml", "regtest", settings_for(node))
    service = run(tower.config_path)
    service.wait_watching()
    words = ("party", "init", "--home", str(tmp_path / name), "--network", "regtest", "--cost", "16")
    reach = ("--tower", f"http://{service.address('api')}", "--token-file", str(tower.token_path))
    document(*words, *reach, *options)
    return tmp_path / name


@pytest.fixture
def stage(node: RegtestNode, tmp_path: Path, run: Run) -> Iterator[Stage]:
    """B listens and lets A in, who is known by its key alone."""
    (port,) = free_ports(1)
    wallet = ("--node", node.rpc_url, "--wallet", "purse", "--cookie-file", str(node.cookie_path))
    alice = make(tmp_path, node, run, "alice", *wallet)
    key = document("party", "info", "--home", str(alice))["key"]
    bob = make(tmp_path, node, run, "bob", "--listen", f"127.0.0.1:{port}", "--peer", key)
    with ExitStack() as stack:
        b = stack.enter_context(RunningParty(bob))
        yield Stage(node, stack.enter_context(RunningParty(alice)), b)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_channel_lives_by_commands(stage: Stage) -> None:
    """Opened, updated, paid through, closed together: the node's chain shows the final balances less the fee."""
    made = stage.opened()
    channel = made["channel_id"]

    updated = stage.a.ask("channel", "update", channel[:8], "--balances", "450000,550000", "--state-data", "payment_1")
    invoice = stage.b.ask("channel", "invoice", "--amount", "50000")
    paid = stage.a.ask("channel", "pay", channel, "--hash", invoice["payment_hash"], "--amount", "50000")
    shown = [party.ask("channel", "state", channel) for party in (stage.a, stage.b)]
    closed = stage.a.ask("channel", "close", channel, "--balances", "400000,600000", "--yes")
    stage.node.mine(1)

    assert "ACTIVE" == made["info"]["status"]
    assert (1, 1) == (updated["sequence"], updated["final_sequence"])
    assert (50_000, 0) == (paid["amount"], paid["fee"])
    assert [[400_000, 600_000]] * 2 == [state["balances"] for state in shown]
    assert b"payment_1".hex() == shown[0]["state_data"]
    assert "IN_MEMPOOL" == closed["outcome"]
    assert stage.node.confirmation(from_display(closed["txid"])) is not None


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_party_that_does_not_run_is_opened_by_the_command(stage: Stage) -> None:
    """Without a running A the same commands work: they open the directory, dial B, and close it again."""
    channel = stage.opened()["channel_id"]
    ended = stage.a.stop()
    home = ("--home", str(stage.a.home))

    updated = document("channel", "update", channel, "--balances", "400000,600000", *home)
    told = document("party", "info", *home)
    refused = shell("channel", "update", channel, "--balances", "400001,600000", *home)
    closed = document("channel", "close", channel, "--unilateral", "--yes", *home)

    assert 0 == ended
    assert 1 == updated["sequence"]
    assert [400_000, 600_000] == told["channels"][0]["balances"]
    assert (1, "invalid-state") == (refused.returncode, refused.stderr.partition(":")[0])
    assert ("UNILATERAL", 1) == (closed["kind"], closed["sequence"])
