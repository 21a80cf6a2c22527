"""Two real nodes: `network` mines and holds the truth, `own` is the tower's node and hears of it as a peer.

    with NodePair.start(directory, prepared, binary) as nodes:
        nodes.network.mine(1)
        nodes.settle()              # own has the network's tip, both mempools know each other's transactions

Killing or rolling back `own` changes nothing about the truth; one node for both roles would produce thefts that
nobody can prevent. Blocks travel between the nodes by themselves. With `own_relay` so do transactions; without it
they are carried by `settle`, so that a schedule knows when a transaction has arrived.
"""

from __future__ import annotations

import inspect
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from domain.chain import Txid, display, from_display
from watchtower.devnode.provision import Found
from watchtower.devnode.regtest import RegtestNode, RpcRefused

Value = TypeVar("Value")

SYNC_SECONDS = 20.0
ANNOUNCE_AGAIN_SECONDS = 15 * 60
_LOOK_AGAIN_SECONDS = 0.01

Transactions = dict[str, Mapping[str, Any]]
"""A mempool: txid as people write it → what `getrawmempool` says about it."""


class NodePair:
    """The network and the tower's node. Made by `start`; as a context manager it ends both and removes their data."""

    def __init__(self, network: RegtestNode, own: RegtestNode, *, own_relay: bool) -> None:
        self.network = network
        self.own = own
        self._own_relay = own_relay
        self.linked = False

    @classmethod
    def start(cls, directory: Path, prepared: Path, binary: Found, *, own_relay: bool = False) -> Self:
        """Two connected nodes on copies of a prepared data directory (see `RegtestNode.make_prepared`)."""
        relay = [] if own_relay else ["-blocksonly=1", "-maxmempool=300"]
        common = ["-whitelist=noban,in,out@127.0.0.1", *relay]
        with ThreadPoolExecutor(2) as starting:
            network = starting.submit(
                RegtestNode.start,
                directory / "network",
                prepared=prepared,
                binary=binary,
                listen=True,
                extra_args=common,
            )
            own = starting.submit(
                RegtestNode.start,
                directory / "own",
                prepared=prepared,
                binary=binary,
                extra_args=[*common, "-disablewallet"],
            )
        try:
            nodes = cls(network.result(), own.result(), own_relay=own_relay)
            nodes.link()
        except BaseException:
            for each in (network, own):
                if each.exception() is None:
                    each.result().close()
            raise
        return nodes

    def close(self) -> None:
        """Kill both processes and free their sockets; the data directories stay."""
        self.own.close()
        self.network.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        for node in (self.network, self.own):
            shutil.rmtree(node.datadir, ignore_errors=True)

    # ── the connection between them ───────────────────────────────────────────────────────────────────────

    @property
    def up(self) -> bool:
        """Whether the tower's node runs."""
        return self.own.pid is not None

    def link(self) -> None:
        """Connect own to network; does nothing if they are connected or own is down."""
        if not self.up or (self.linked and self.own.rpc("getconnectioncount")):
            return
        self.own.rpc("setnetworkactive", True)
        self.own.rpc("addnode", f"127.0.0.1:{self.network.p2p_port}", "onetry")
        wait_for(lambda: any(peer["version"] for peer in self.own.rpc("getpeerinfo")))
        self.linked = True
        if self._own_relay:  # a node offers what no peer has asked for again, but only every quarter of an hour
            self.own.rpc("mockscheduler", ANNOUNCE_AGAIN_SECONDS)

    def cut(self) -> None:
        """Separate own from network: it hears of no further block."""
        self.linked = False
        if self.up:
            self.own.rpc("setnetworkactive", False)
            wait_for(lambda: not self.own.rpc("getconnectioncount"))

    def stop_own(self, *, kill: bool = False) -> None:
        """End the tower's node: orderly, or as a power cut (it comes back at an old height)."""
        self.linked = False
        if kill:
            self.own.kill()
        else:
            self.own.stop()

    def launch_own(self, *, with_mempool: bool = True) -> None:
        """Start the tower's node again, alone: call `link` to let it hear of the network."""
        if not self.up:
            self.own.launch([] if with_mempool else ["-persistmempool=0"])

    # ── agreement ─────────────────────────────────────────────────────────────────────────────────────────

    def settle(self) -> None:
        """Wait until own has the network's tip, if it can; then let each mempool learn what the other holds."""
        if not (self.linked and self.up):
            return
        self.sync()
        if not self._own_relay:
            self.relay()

    def sync(self, seconds: float = SYNC_SECONDS) -> None:
        """Wait until own's tip is the network's, or a block with the same work."""
        wanted = self.network.rpc("getbestblockhash")
        if self.own.rpc("getbestblockhash") == wanted:
            return
        target = self.network.rpc("getblockheader", wanted)["chainwork"]
        reached = self.own.rpc("waitforblock", wanted, 200)["hash"]
        if reached == wanted:
            return
        self._push(wanted)
        wait_for(
            lambda: self.own.rpc("getblockheader", self.own.rpc("getbestblockhash"))["chainwork"] >= target, seconds
        )

    def _push(self, tip: str) -> None:
        """Hand blocks over that own does not have: a reorg may have left it without a reason to ask for them."""
        missing: list[str] = []
        while not self._has_block(tip):
            missing.append(tip)
            tip = self.network.rpc("getblockheader", tip)["previousblockhash"]
        for name in reversed(missing):
            self.own.rpc("submitblock", self.network.rpc("getblock", name, 0))

    def _has_block(self, name: str) -> bool:
        try:
            self.own.rpc("getblock", name, 0)
        except RpcRefused:
            return False
        return True

    def height_of(self, block_hash: bytes) -> int:
        """Height of a block that the network has or had."""
        return int(self.network.rpc("getblockheader", display(block_hash))["height"])

    def relay(self) -> None:
        """Each node is offered what the other's mempool holds, parents first, children as packages; no is an answer."""
        if sorted(self.own.rpc("getrawmempool")) == sorted(self.network.rpc("getrawmempool")):
            return
        mine, theirs = mempool_of(self.own), mempool_of(self.network)
        if mine.keys() != theirs.keys():
            _offer(self.own, mine, theirs, self.network)
            _offer(self.network, theirs, mine, self.own)

    # ── the chain ─────────────────────────────────────────────────────────────────────────────────────────

    def simple_reorg(self, height: int, shift: int = 0, fill: Callable[[int], Sequence[bytes]] = lambda _n: ()) -> None:
        """Replace the network's blocks from `height` on; the new branch is longer by one plus `shift`.

        `fill(n)` gives the transactions of the n-th new block; blocks that would be invalid are mined empty.
        """
        network = self.network
        depth = network.height() - height + 1
        network.invalidate(network.hash_at(height))
        for number in range(depth + 1 + shift):
            try:
                network.generate_block(fill(number))
            except RpcRefused:
                network.generate_block()


def _offer(giver: RegtestNode, held: Transactions, known: Transactions, taker: RegtestNode) -> None:
    for name in sorted(held.keys() - known.keys(), key=lambda txid: int(held[txid]["ancestorcount"])):
        raw = giver.transaction(from_display(name))
        if raw is None:
            continue
        try:
            taker.send_raw(raw)
        except RpcRefused:
            parents = [giver.transaction(from_display(parent)) for parent in held[name]["depends"]]
            if parents:
                taker.rpc("submitpackage", [each.hex() for each in [*parents, raw] if each is not None], 0)


def mempool_of(node: RegtestNode) -> Transactions:
    """What a node's mempool holds, with fees, sizes and parents."""
    found: Transactions = node.rpc("getrawmempool", True)
    return found


def fee_of(entry: Mapping[str, Any]) -> int:
    """Fee of a mempool entry in satoshi."""
    return int(entry["fees"]["base"] * 100_000_000)


def txid_of(name: str) -> Txid:
    """A txid as people write it, in internal order."""
    return Txid(from_display(name))


def name_of(txid: bytes) -> str:
    """A txid as people write it."""
    return display(txid)


def wait_for(predicate: Callable[[], Value | None], seconds: float = SYNC_SECONDS) -> Value:
    """The first true value of `predicate`; `TimeoutError` with its source. For facts that nobody announces."""
    deadline = time.monotonic() + seconds
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {_source(predicate)}")
        time.sleep(_LOOK_AGAIN_SECONDS)
    return value


def _source(predicate: Callable[[], object]) -> str:
    try:
        return inspect.getsource(predicate).strip()
    except OSError:
        return repr(predicate)
