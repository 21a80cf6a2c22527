"""How fast a tower reads the blocks that it missed, when all of them are full, beside the node that hands them over.

A real node has mined a few full blocks. A chain of a thousand is made of them by giving each a header of its own: every
question goes to the real node, and its answer is relabeled. So the node, the wire, the scan and the log do what they
do in a real catch-up, and nobody needs to mine for half an hour.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec

from domain import cursor as cursors
from domain.chain import BlockHash, BlockHeader, chain_hash
from domain.events import CHAIN_STREAM, envelopes
from projections.catalog import PROJECTIONS
from projections.projector import Projector
from tests.bench.memory import fill
from tests.bench.scale import Scale
from tests.bench.updates import BLOCK
from tests.support.full_block import mine_full_block
from watchtower.chain.conditions import Conditions
from watchtower.chain.follow import Follower
from watchtower.chain.needs import Needs
from watchtower.devnode.regtest import RegtestNode
from watchtower.host.system import SystemClock
from watchtower.models import LiveModels
from watchtower.node.rpc import BitcoindNode
from watchtower.ports import ChainInfo, HeaderInfo
from watchtower.repository import Channels
from watchtower.store.create import open_store
from watchtower.store.datastore import no_failpoint
from watchtower.store.rebuild import open_views

NAMES = (
    "catch_up_1000_blocks_seconds",
    "catch_up_blocks_per_s",
    "catch_up_cpu_ms_per_block",
    "catch_up_ratio_to_getblock",
)
DIFFERENT = 3
"""Full blocks that are mined; the chain is made of them in turn."""

HEADER, PREVIOUS = 80, 4
"""Bytes of a header, and where in it the hash of the block before stands."""

ROUNDS = 10
"""Tower and bare loop take turns, so that other work on the machine meets both."""


class CatchUp(NamedTuple):
    """Seconds of the tower for so many blocks, CPU seconds of its process, seconds of a bare loop of `getblock`."""

    blocks: int
    tower: float
    cpu: float
    bare: float


def measure(scale: Scale, directory: Path) -> dict[str, float]:
    """All figures of this part; needs a real node."""
    return figures(play(scale, directory))


def figures(found: CatchUp) -> dict[str, float]:
    """Seconds, blocks per second, CPU milliseconds per block, share of the pace of the bare loop."""
    values = (found.tower, found.blocks / found.tower, found.cpu * 1000 / found.blocks, found.bare / found.tower)
    return {name: round(value, 2) for name, value in zip(NAMES, values, strict=True)}


def play(scale: Scale, directory: Path) -> CatchUp:
    """Rounds of some blocks: first the tower reads them, then the bare loop fetches them again."""
    fill(scale.watched_channels, directory / "tower")
    with RegtestNode.start(directory / "node") as node, ExitStack() as stack:
        mined = [mine_full_block(node, scale.block_transactions, scale.block_inputs).hash for _ in range(DIFFERENT)]
        adapter = BitcoindNode(node.rpc_url, cookie_path=node.cookie_path, rest_url=node.rest_url)
        stack.callback(adapter.close)
        plain = BitcoindNode(node.rpc_url, cookie_path=node.cookie_path)
        stack.callback(plain.close)
        chain = RepeatedChain(adapter, node, mined)
        follower = open_follower(stack, directory / "tower", chain)
        tower = cpu = bare = 0.0
        for _ in range(ROUNDS):
            chain.grow(scale.catch_up_blocks // ROUNDS)
            began, cpu_began = time.perf_counter(), time.process_time()
            follower.follow()
            tower, cpu = tower + time.perf_counter() - began, cpu + time.process_time() - cpu_began
            began = time.perf_counter()
            for number in range(scale.catch_up_blocks // ROUNDS):
                plain.block(mined[number % DIFFERENT])
            bare += time.perf_counter() - began
    return CatchUp(ROUNDS * (scale.catch_up_blocks // ROUNDS), tower, cpu, bare)


def open_follower(stack: ExitStack, directory: Path, chain: RepeatedChain) -> Follower:
    """A follower on a tower's real files, its cursor at the block below the chain."""
    store = stack.enter_context(open_store(directory / "events.db"))
    rows = open_views(directory / "views.db", store)
    stack.callback(rows.close)
    store.append(envelopes(CHAIN_STREAM, 0, cursors.start(BLOCK, chain_hash("regtest"), 1, 0)), chain=True)
    channels = Channels(store)
    models = LiveModels(Projector(store, rows, PROJECTIONS), rows, channels)
    models.catch_up()
    needs = Needs(
        node=chain,  # type: ignore[arg-type]  # a follower asks for nothing else while all blocks are there
        store=store,
        channels=channels,
        models=models,
        conditions=Conditions(channels, models),
        clock=SystemClock(),
        failpoint=no_failpoint,
    )
    follower = Follower(needs, network="regtest")
    follower.start()
    return follower


class RepeatedChain:
    """What a follower asks of a node, about a chain of relabeled blocks above `BLOCK`."""

    def __init__(self, adapter: BitcoindNode, node: RegtestNode, mined: Sequence[BlockHash]) -> None:
        self._adapter = adapter
        self._mined = mined
        self._bodies = [node.block(block)[:HEADER] for block in mined]
        self._height = node.height()
        self._headers: list[bytes] = []
        self._hashes = [BLOCK.hash]
        self._numbers = {BLOCK.hash: 0}

    def grow(self, count: int) -> None:
        """Add blocks on top."""
        for _ in range(count):
            real = self._bodies[len(self._headers) % len(self._mined)]
            raw = real[:PREVIOUS] + self._hashes[-1] + real[PREVIOUS + 32 :]
            self._headers.append(raw)
            self._hashes.append(BlockHeader.parse(raw).hash)
            self._numbers[self._hashes[-1]] = len(self._headers)

    def chain_info(self) -> ChainInfo:
        """See the port."""
        return self._adapter.chain_info()

    def best_hash(self) -> bytes:
        """See the port."""
        self._adapter.best_hash()
        return self._hashes[-1]

    def hash_at(self, height: int) -> bytes | None:
        """See the port."""
        self._adapter.hash_at(self._height)
        number = height - BLOCK.height
        return self._hashes[number] if number < len(self._hashes) else None

    def header(self, block_hash: bytes) -> HeaderInfo | None:
        """See the port."""
        real = self._adapter.header(self._real(block_hash))
        number = self._numbers[block_hash]
        if real is None or number == 0:
            return None
        return msgspec.structs.replace(
            real,
            hash=BlockHash(block_hash),
            prev=BlockHash(self._hashes[number - 1]),
            height=BLOCK.height + number,
            raw=self._headers[number - 1],
        )

    def block(self, block_hash: bytes) -> bytes:
        """See the port."""
        raw = self._adapter.block(self._real(block_hash))
        return self._headers[self._numbers[block_hash] - 1] + raw[HEADER:]

    def _real(self, block_hash: bytes) -> BlockHash:
        return self._mined[(self._numbers[block_hash] - 1) % len(self._mined)]
