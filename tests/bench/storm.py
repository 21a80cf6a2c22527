"""A thousand breaches in one block: how long until the node holds every penalty, beside the node's own pace.

The pace is that of a bare loop: one connection, one `sendrawtransaction` after the other, the very same penalties, on
a second node that has just connected the very same block.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from domain.chain import BlockHash, BlockRef, from_display, make_outpoint
from domain.units import Side
from tests.bench.frames import NOTHING_DROPPED, FrameClock
from tests.bench.installation import Installation
from tests.bench.scale import Scale
from tests.support.parties import Pair
from tests.support.service import ServiceProcess
from tests.support.storms import funded_pairs
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import NewTower, create
from watchtower.node.rpc import BitcoindNode

NAMES = ("storm_1000_seconds", "storm_1000_ratio_to_bare_node", "storm_1000_bare_node_seconds")
STALE = 0
LONGEST = 120.0


class Storm(NamedTuple):
    """Seconds from the block to the last acceptance: by the tower, and by a bare loop over the same transactions."""

    tower: float
    bare: float


def measure(scale: Scale, directory: Path) -> dict[str, float]:
    """All figures of this part; needs a real node."""
    return figures(play(scale, directory))


def figures(storm: Storm) -> dict[str, float]:
    """Seconds, and the share of the bare loop's pace that the tower reaches."""
    values = (round(storm.tower, 2), round(storm.bare / storm.tower, 2), round(storm.bare, 2))
    return dict(zip(NAMES, values, strict=True))


def play(scale: Scale, directory: Path) -> Storm:
    """Fill a tower, start it as a process, let everybody cheat in one block; then send the same penalties alone."""
    with (
        RegtestNode.start(directory / "node", extra_args=NOTHING_DROPPED) as node,
        RegtestNode.start(directory / "other") as other,
    ):
        pairs = funded_pairs(node, scale.storm_breaches)
        tower = fill(node, directory / "tower", pairs)
        copy_blocks(node, other)
        service = ServiceProcess(tower.config_path)
        clock = FrameClock(node.zmq_endpoint)
        try:
            service.wait_watching()
            time.sleep(3.0)  # the sweep after a start runs out
            node.generate_block([pair.commitment(Side.A, STALE) for pair in pairs])
            stale = [pair.commitment_txid(Side.A, STALE) for pair in pairs]
            began = clock.of_transaction(stale[-1])
            took = max(clock.of_spend(make_outpoint(txid, 0), LONGEST) for txid in stale) - began
        finally:
            clock.close()
            service.close()
        penalties = [node.transaction(txid) for txid in sorted(node.mempool())]
        copy_blocks(node, other)
        return Storm(took, bare_loop(other, [raw for raw in penalties if raw is not None]))


def fill(node: RegtestNode, directory: Path, pairs: Sequence[Pair]) -> NewTower:
    """A stopped tower that watches the pairs for B."""
    chosen = {"rpc_url": node.rpc_url, "rpc_cookie_path": str(node.cookie_path), "rest_url": node.rest_url}
    chosen |= dict.fromkeys(("zmq_sequence", "zmq_rawtx", "zmq_hashblock"), node.zmq_endpoint)
    listening = {"listen": "127.0.0.1:0"}
    settings = {"node": chosen, "api": listening, "admin": listening}
    tower = create(directory, directory / "config.toml", "regtest", settings)
    block = BlockRef(node.height(), node.tip())
    adapter = BitcoindNode(node.rpc_url, cookie_path=node.cookie_path)
    with Installation(tower, adapter, block.height) as installation:
        installation.begin(block)
        for pair in pairs:
            installation.watch(pair, block)
        installation.project()
    adapter.close()
    return tower


def copy_blocks(node: RegtestNode, other: RegtestNode) -> None:
    """Give the second node every block of the first, without a connection between them."""
    common = other.height()
    while common and other.hash_at(common) != node.hash_at(common):
        common -= 1
    for height in range(common + 1, node.height() + 1):
        other.rpc("submitblock", node.block(node.hash_at(height)).hex())
    if other.tip() != BlockHash(from_display(node.rpc("getbestblockhash"))):
        raise RuntimeError("the second node did not take the blocks of the first")


def bare_loop(node: RegtestNode, raws: Sequence[bytes]) -> float:
    """Seconds for one call after the other on one connection."""
    adapter = BitcoindNode(node.rpc_url, cookie_path=node.cookie_path)
    try:
        began = time.perf_counter()
        accepted = sum(adapter.broadcast(raw).in_mempool for raw in raws)
        took = time.perf_counter() - began
    finally:
        adapter.close()
    if accepted != len(raws):
        raise RuntimeError(f"the second node took {accepted} of {len(raws)} penalties")
    return took
