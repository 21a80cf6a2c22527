"""Two parties, their towers and a node, moved by commands alone."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from domain.chain import from_display
from tests.support.commands import CLEAN, ROOT, RunningParty, command, document, shell
from tests.support.new_towers import create
from tests.support.service import Run, settings_for
from watchtower.devnode.launch import free_ports
from watchtower.devnode.regtest import RegtestNode

APP_ID = "a7" * 32
Found = TypeVar("Found")


def opened(node: RegtestNode, a: RunningParty, b: RunningParty) -> dict[str, Any]:
    """A new channel in use between two running parties."""
    words = ("channel", "create", "--home", str(a.home), "--peer", b.where["address"], "--wait", "60", "--json")
    amounts = ("--balances", "500000,500000", "--challenge-period", "144", "--feerate", "5", "--app-id", APP_ID)
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(
                command(*words, *amounts),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=CLEAN,
                cwd=ROOT,
            )
        )
        stack.callback(process.kill)  # if it is too slow, nothing of it must reach into another test
        node.wait_until(lambda: node.mempool() or process.poll() is not None, seconds=60)
        node.mine(1)
        told, complaint = process.communicate(timeout=120)  # more than it waits: it has to say itself what did not come
    assert 0 == process.returncode, complaint
    found: dict[str, Any] = msgspec.json.decode(told)
    return found


class Stage(msgspec.Struct, frozen=True):
    """Both parties, running; A has the node's wallet. `alone` is A's directory, whose party does not run."""

    node: RegtestNode
    a: RunningParty
    b: RunningParty

    def opened(self) -> dict[str, Any]:
        """A channel that A opened."""
        return opened(self.node, self.a, self.b)


def wait_for(look: Callable[[], Found], reached: Callable[[Found], bool], seconds: float = 60) -> Found:
    """What a command shows once it shows this: a payer has its proof before the HTLC has left all states."""
    end = time.monotonic() + seconds
    while not reached(found := look()):
        assert time.monotonic() < end, found
    return found


def rested(party: RunningParty, channel: str) -> dict[str, Any]:
    """The channel's state at the party's tower, with no HTLC in it and its predecessor revoked."""
    return wait_for(
        lambda: party.ask("channel", "state", channel),
        lambda state: not state["conditions"] and state["final_sequence"] == state["sequence"],
    )


def ended_payments(party: RunningParty) -> list[dict[str, Any]]:
    """All payments of a party, each with its outcome."""
    return wait_for(
        lambda: party.ask("channel", "payments")["payments"],
        lambda payments: all(each["outcome"] is not None for each in payments),
    )


class Tower(msgspec.Struct, frozen=True):
    """What a party needs to know of its tower."""

    url: str
    token: str


def towers(tmp_path: Path, node: RegtestNode, run: Run, *names: str) -> list[Tower]:
    """Towers that watch, started side by side."""
    made = [
        create(tmp_path / f"tower-{name}", tmp_path / f"{name}.toml", "regtest", settings_for(node)) for name in names
    ]
    services = [run(each.config_path) for each in made]
    for service in services:
        service.wait_watching()
    return [
        Tower(f"http://{service.address('api')}", str(each.token_path))
        for each, service in zip(made, services, strict=True)
    ]


def make(home: Path, tower: Tower, *options: str) -> str:
    """A party's directory; its key."""
    words = ("party", "init", "--home", str(home), "--network", "regtest", "--cost", "16")
    key: str = document(*words, "--tower", tower.url, "--token-file", tower.token, *options)["key"]
    return key


def purse(node: RegtestNode) -> tuple[str, ...]:
    """Options for the node's wallet."""
    return ("--node", node.rpc_url, "--wallet", "purse", "--cookie-file", str(node.cookie_path))


@pytest.fixture
def stage(node: RegtestNode, tmp_path: Path, run: Run) -> Iterator[Stage]:
    """B listens and lets A in, who is known by its key alone."""
    (port,) = free_ports(1)
    alice, bob = tmp_path / "alice", tmp_path / "bob"
    own, other = towers(tmp_path, node, run, "a", "b")
    key = make(alice, own, *purse(node))
    make(bob, other, "--listen", f"127.0.0.1:{port}", "--peer", key)
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
    shown = [rested(party, channel) for party in (stage.a, stage.b)]
    worse = ("--balances", "410000,590000")
    refused = shell("channel", "update", channel, *worse, "--home", str(stage.a.home))
    stage.b.ask("channel", "approve", channel, *worse)
    agreed = stage.a.ask("channel", "update", channel, *worse)
    closed = stage.a.ask("channel", "close", channel, "--balances", "400000,600000", "--yes")
    stage.node.mine(1)

    assert "ACTIVE" == made["info"]["status"]
    assert (1, 1) == (updated["sequence"], updated["final_sequence"])
    assert (50_000, 0) == (paid["amount"], paid["fee"])
    assert [[400_000, 600_000]] * 2 == [state["balances"] for state in shown]
    assert (1, "peer-refused") == (refused.returncode, refused.stderr.partition(":")[0])
    assert shown[0]["sequence"] + 1 == agreed["sequence"]
    assert (b"payment_1".hex(), APP_ID) == (shown[0]["state_data"], shown[0]["app_id"])
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
    fees = document("channel", "fees", channel[:8], *home)

    assert 0 == ended
    assert 1 == updated["sequence"]
    assert [400_000, 600_000] == told["channels"][0]["balances"]
    assert (1, "invalid-state") == (refused.returncode, refused.stderr.partition(":")[0])
    assert ("UNILATERAL", 1) == (closed["kind"], closed["sequence"])
    assert (channel, []) == (fees["channel_id"], fees["children"])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_payments_and_swaps_by_commands(node: RegtestNode, tmp_path: Path, run: Run) -> None:
    """Alice pays carol through bob, who keeps his fee; then bob swaps what he has with both of them."""
    ports = free_ports(2)
    first, second = towers(tmp_path, node, run, "a", "b")
    alice, bob, carol = (tmp_path / name for name in ("alice", "bob", "carol"))
    key_a = make(alice, first, *purse(node))
    key_b = make(bob, second, *purse(node), "--listen", f"127.0.0.1:{ports[0]}", "--peer", key_a)
    make(carol, first, "--listen", f"127.0.0.1:{ports[1]}", "--peer", key_b)
    with RunningParty(carol) as c, RunningParty(bob, "--forward") as b, RunningParty(alice) as a:
        near, far = opened(node, a, b)["channel_id"], opened(node, b, c)["channel_id"]

        asked = c.ask("channel", "invoice", "--amount", "50000")["payment_hash"]
        hop = ("--hop", f"{far},period=144,base_fee=1,fee_rate=1000")
        paid = a.ask("channel", "pay", near, "--hash", asked, "--amount", "50000", *hop)

        named = c.ask("channel", "invoice", "--amount", "40000")["payment_hash"]
        swap = ("channel", "swap", "--give", f"{far},40000,+210", "--take", f"{near},41000,+800", "--hash", named)
        begun = b.ask(*swap, "--begin")
        given = a.ask("channel", "pay", near, "--hash", named, "--amount", "41000", "--expiry", "+800")
        swapped = b.ask(*swap)

        shown = [rested(b, name)["balances"] for name in (near, far)]
        listed = [ended_payments(party) for party in (a, b, c)]

    assert (51, None, "paid") == (paid["fee"], begun["outcome"], swapped["outcome"])
    assert given["proof"] == swapped["proof"]
    assert [[408_949, 591_051], [410_000, 590_000]] == shown
    assert [["pay", "pay"], ["forward", "swap"], ["invoice"] * 2] == [
        [each["kind"] for each in found] for found in listed
    ]
    assert {"paid"} == {each["outcome"] for found in listed for each in found}
