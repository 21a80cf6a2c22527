"""The private node itself: its moves do what stories rely on, and its binary is only taken from a signed archive."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from domain.chain import make_outpoint
from domain.transaction import Transaction, TxIn, TxOut
from tests.regtest.conftest import StartNode
from watchtower.devnode import debian, launch, regtest
from watchtower.devnode.launch import NodeDied, free_ports
from watchtower.devnode.provision import Found
from watchtower.devnode.regtest import ANCHOR_SAT, ANCHOR_SPK, RegtestNode, RpcRefused

SPK = b"\x51\x20" + b"\x22" * 32


def test_start_from_the_prepared_chain_mines_nothing(start_node: StartNode) -> None:
    """Hundreds of scenario tests each start a node of their own: it has its blocks and its wallet at once."""
    first, second = start_node(), start_node()

    assert first.tip() == second.tip()
    assert first.height() > 100
    assert not first.rpc("getblockchaininfo")["initialblockdownload"]
    assert first.fund(SPK, 50_000).txid in first.mempool()


def test_policy_is_cores_unless_asked_otherwise(node: RegtestNode, knots_default_node: RegtestNode) -> None:
    """Knots relays as Core does by `-corepolicy`, and as itself on demand."""
    assert "enforce" == node.rpc("getmempoolinfo")["truc_policy"]
    assert "accept" == knots_default_node.rpc("getmempoolinfo")["truc_policy"]


def test_funding_without_broadcast_can_be_mined_or_sent_later(node: RegtestNode) -> None:
    """Nothing is sent, and the coins of several unsent fundings are different ones."""
    first, second = node.fund(SPK, 50_000, broadcast=False), node.fund(SPK, 60_000, broadcast=False)
    assert set() == node.mempool()

    node.generate_block([first.raw])
    node.send_raw(second.raw)

    assert {second.txid} == node.mempool()
    assert TxOut(50_000, SPK) == Transaction.parse(first.raw).outputs[first.vout]
    assert node.is_unspent(first.outpoint)
    assert node.is_unspent(second.outpoint, include_mempool=True)
    assert not node.is_unspent(second.outpoint)


def test_block_holds_exactly_the_given_transactions(node: RegtestNode) -> None:
    """The mempool is left out, and the given order is kept."""
    waiting = node.fund(SPK, 50_000)
    unseen = node.fund(SPK, 60_000, broadcast=False)

    block_hash = node.generate_block([unseen.raw])

    assert {waiting.txid} == node.mempool()
    place = node.confirmation(unseen.txid)
    assert place is not None
    assert (node.height(), block_hash, 1) == (place.height, place.block_hash, place.position)
    assert node.confirmation(waiting.txid) is None


def test_block_with_a_transaction_that_is_too_early_is_refused(node: RegtestNode) -> None:
    """Consensus locks hold for made blocks too."""
    coin = node.wallet_coin()
    early = Transaction(2, (TxIn(coin.outpoint, 10),), (TxOut(coin.value - 500, SPK),), 0)

    with pytest.raises(RpcRefused, match="bad-txns-nonfinal"):
        node.generate_block([node.sign(early)])


def test_reorg_replaces_blocks_and_returns_transactions(node: RegtestNode) -> None:
    """The old branch is off the active chain; its transaction waits in the mempool or stands in the new branch."""
    funding = node.fund(SPK, 50_000)
    old = node.mine(2)
    height = node.height()

    emptied = node.reorg(2)

    assert (height + 1, 3) == (node.height(), len(emptied))
    assert -1 == node.rpc("getblockheader", old[0][::-1].hex())["confirmations"]
    assert {funding.txid} == node.mempool()

    node.reorg(1, [[], [funding.raw]])
    place = node.confirmation(funding.txid)
    assert place is not None
    assert height + 2 == place.height == node.height()


def test_reconsidered_branch_with_more_work_wins(node: RegtestNode) -> None:
    """`invalidate` and `reconsider` move the tip back and forth."""
    tip = node.mine(2)[-1]

    node.invalidate(tip)
    assert tip != node.tip()
    node.reconsider(tip)

    assert tip == node.tip()


def test_spender_is_found_in_mempool_and_chain(node: RegtestNode) -> None:
    """Who spends an outpoint can be asked at any time."""
    funding = node.fund(SPK, 50_000)
    spent = Transaction.parse(funding.raw).inputs[0].outpoint

    assert funding.txid == node.spender(spent) == node.wait_spender(spent)
    node.mine()
    assert funding.txid == node.spender(spent)
    assert node.spender(funding.outpoint) is None
    assert funding.raw == node.transaction(funding.txid)
    assert node.transaction(b"\x01" * 32) is None


def test_anchor_child_pays_for_its_parent(node: RegtestNode) -> None:
    """A version-3 parent without fee enters together with the child on its P2A output."""
    coin = node.wallet_coin()
    outputs = (TxOut(coin.value - ANCHOR_SAT, SPK), TxOut(ANCHOR_SAT, ANCHOR_SPK))
    parent = Transaction.parse(node.sign(Transaction(3, (TxIn(coin.outpoint, 0),), outputs, 0)))
    assert "min relay fee not met" == node.test_accept(parent.serialize())

    child = Transaction.parse(node.anchor_child(parent.txid, fee=7_000))
    node.submit_package([parent.serialize(), child.serialize()])

    assert {parent.txid, child.txid} == node.mempool()
    assert (3, make_outpoint(parent.txid, 1), ()) == (child.version, child.inputs[0].outpoint, child.inputs[0].witness)
    with pytest.raises(ValueError, match="package refused"):
        node.submit_package([parent.serialize(), node.anchor_child(parent.txid, fee=10)])


def test_stop_and_kill_keep_the_chain(node: RegtestNode) -> None:
    """Both ends can be followed by another start on the same ports."""
    node.mine(3)
    tip = node.tip()

    node.restart()
    assert tip == node.tip()
    node.kill()
    assert node.pid is None
    node.launch()

    assert node.pid is not None


def test_two_nodes_share_a_chain_and_part(start_node: StartNode) -> None:
    """One node mines, the other follows while they are connected."""
    network, own = start_node(listen=True), start_node()
    own.connect(network)
    network.mine(2)
    own.sync_to(network)
    assert network.tip() == own.tip()

    own.disconnect()
    network.mine(1)

    assert 1 == network.height() - own.height()


def test_wait_shows_what_it_waited_for(node: RegtestNode) -> None:
    """A timeout prints the source of the predicate."""
    with pytest.raises(TimeoutError, match=r"node\.height\(\) > 9_999"):
        node.wait_until(lambda: node.height() > 9_999, seconds=0.1)


def test_wait_returns_at_the_event(node: RegtestNode) -> None:
    """The first true value ends the wait."""
    funding = node.fund(SPK, 50_000)

    node.wait_in_mempool(funding.txid)

    assert node.height() == node.wait_until(node.height)


def test_node_that_cannot_start_says_why(bitcoind_path: Found, tmp_path: Path) -> None:
    """The output of bitcoind is in the error."""
    with pytest.raises(NodeDied, match="nosuchoption"):
        RegtestNode.start(tmp_path / "n", binary=bitcoind_path, extra_args=["-nosuchoption=1"])


@pytest.fixture
def local_archive(tmp_path: Path) -> Callable[[bytes | None], str]:
    """Address of an archive on disk; with a release file of the given bytes, if any."""
    if shutil.which("apt-get") is None:
        pytest.skip("the host has no apt")
    packages = tmp_path / "archive" / "dists" / debian.SUITE / "main" / f"binary-{debian.architecture()}"
    packages.mkdir(parents=True)
    (packages / "Packages.gz").write_bytes(gzip.compress(b""))

    def make(release: bytes | None) -> str:
        if release is not None:
            (packages.parents[1] / "InRelease").write_bytes(release)
        return f"file:{tmp_path / 'archive'}"

    return make


@pytest.mark.parametrize("release", [None, b"Suite: forky\nCodename: forky\nComponents: main\n"])
def test_unsigned_archive_is_refused(
    local_archive: Callable[[bytes | None], str], tmp_path: Path, release: bytes | None
) -> None:
    """Without Debian's signature nothing is unpacked, and nothing half made stays behind."""
    target = tmp_path / "cache" / "node"

    with pytest.raises(debian.ArchiveError, match=r"not signed|does not have a Release file|Clearsigned"):
        debian.unpack(debian.Request(("bitcoin-knots",), mirror=local_archive(release)), target)

    assert [] == list(target.parent.iterdir())


def test_a_port_that_was_taken_meanwhile_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program listens on the chosen RPC port: the node starts on others."""
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", 0))
        thief.listen()
        taken = thief.getsockname()[1]
        choices = [[taken, *free_ports(2)], free_ports(3)]
        monkeypatch.setattr(regtest, "free_ports", lambda _: choices.pop(0))

        with RegtestNode.start(tmp_path / "node") as node:
            assert taken != node.rpc_port
            assert node.height() > 100


def test_a_reserved_port_is_given_to_nobody_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Between choosing a port and listening on it, another process that asks for ports gets others."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(launch, "PORTS", range(20_000, 20_100))
    mine = free_ports(10)
    script = f"""
import tempfile
from watchtower.devnode import launch
tempfile.tempdir, launch.PORTS = {str(tmp_path)!r}, {launch.PORTS!r}
print(*launch.free_ports(10))
"""
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    theirs = [int(port) for port in other.stdout.split()]
    assert 10 == len(theirs)
    assert set() == set(mine) & set(theirs)
    assert sorted(map(str, mine)) == sorted(place.name for place in tmp_path.glob("state-channel-ports-*/*"))


def test_processes_that_find_the_files_of_dead_ones_take_different_ports(tmp_path: Path) -> None:
    """Killed processes left the files of all ports, and six others try them in the same order: each gets its own."""
    folder = tmp_path / f"state-channel-ports-{os.getuid()}"
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    for port in range(20_200, 20_240):
        (folder / str(port)).write_text(str(dead.pid))
    script = f"""
import random, sys, tempfile, time
from watchtower.devnode import launch
random.seed(1)
tempfile.tempdir, launch.PORTS = {str(tmp_path)!r}, range(20_200, 20_240)
held = launch._is_held
launch._is_held = lambda place: (held(place), time.sleep(0.1 * random.Random().random()))[0]
sys.stdin.readline()
print(*launch.free_ports(1), flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with ExitStack() as stack:
        others = [stack.enter_context(subprocess.Popen(command, **pipes)) for _ in range(6)]  # type: ignore[call-overload]
        for other in others:
            other.stdin.write("all at once\n")
            other.stdin.flush()
        given = [other.stdout.readline() for other in others]

    assert 6 == len(set(given))
    assert "" not in given
