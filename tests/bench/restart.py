"""How long a tower with many channels is blind: from the start of its process to `watching`, with and without backlog.

All funding outputs exist on a real node, so the comparison of log and node that belongs to a start asks for them all.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import NamedTuple

from domain.chain import BlockRef, OutPoint, make_outpoint
from domain.contract.scripts import funding_output
from domain.transaction import TxOut
from tests.bench.installation import Installation
from tests.bench.scale import Scale
from tests.support.parties import Pair
from tests.support.service import ServiceProcess, settings_for
from tests.support.storms import funded_pairs
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import NewTower, create
from watchtower.node.rpc import BitcoindNode

NAMES = (
    "restart_100k_seconds",
    "restart_100k_cpu_seconds",
    "restart_100k_behind_100_blocks_seconds",
    "restart_100k_behind_100_blocks_cpu_seconds",
)
COPY_SAT = 2_000
PER_TRANSACTION = 2_000
PER_BLOCK = 10
DEEP = 110
"""Blocks on top of the channels: most channels of a tower are older than any reorg."""

MISSED = 100
LONGEST = 600.0


class Restart(NamedTuple):
    """From the start of the process to `watching`: seconds, and CPU seconds of that process."""

    seconds: float
    cpu: float


def measure(scale: Scale, directory: Path) -> dict[str, float]:
    """All figures of this part; needs a real node."""
    return figures(*play(scale, directory))


def figures(idle: list[Restart], behind: list[Restart]) -> dict[str, float]:
    """Medians of restarts without a new block, and of restarts after so many."""
    values = [statistics.median(values) for part in (idle, behind) for values in zip(*part, strict=True)]
    return {name: round(value, 2) for name, value in zip(NAMES, values, strict=True)}


def play(scale: Scale, directory: Path) -> tuple[list[Restart], list[Restart]]:
    """Fill a tower, let it catch up once, then stop and start it again and again."""
    with RegtestNode.start(directory / "node") as node:
        tower = fill(node, directory / "tower", scale.watched_many)
        restart(tower)
        idle = [restart(tower) for _ in range(scale.restarts)]
        behind = []
        for _ in range(scale.restarts):
            node.mine(MISSED)
            behind.append(restart(tower))
    return idle, behind


def fill(node: RegtestNode, directory: Path, count: int) -> NewTower:
    """A stopped tower at the block of its newest channels; the node is `DEEP` blocks ahead."""
    (pair,) = funded_pairs(node, 1)
    outpoints = fund_copies(node, pair, count - 1)
    tower = create(directory, directory / "config.toml", "regtest", settings_for(node))
    block = BlockRef(node.height(), node.tip())
    adapter = BitcoindNode(node.rpc_url, cookie_path=node.cookie_path)
    with Installation(tower, adapter, block.height) as installation:
        installation.begin(block)
        stream = installation.watch(pair, block)
        installation.watch_copies(installation.context.channels.load(stream), outpoints, block)
        installation.project()
    adapter.close()
    node.mine(DEEP)
    return tower


def fund_copies(node: RegtestNode, template: Pair, count: int) -> list[OutPoint]:
    """Confirmed outputs with the template's funding script."""
    outputs = [TxOut(COPY_SAT, funding_output(template.params).spk)] * count
    outpoints: list[OutPoint] = []
    for number, start in enumerate(range(0, count, PER_TRANSACTION), start=1):
        part = outputs[start : start + PER_TRANSACTION]
        funding = node.fund_many(part)
        outpoints += [make_outpoint(funding.txid, vout) for vout in range(len(part))]
        if number % PER_BLOCK == 0:
            node.mine(1)
    node.mine(1)
    return outpoints


def restart(tower: NewTower) -> Restart:
    """Start the service, wait until it watches, stop it."""
    began = time.monotonic()
    service = ServiceProcess(tower.config_path)
    try:
        service.wait_for("phase_changed", seconds=LONGEST, phase="watching")
        took, cpu = time.monotonic() - began, cpu_seconds(service.process.pid)
        service.terminate()
    finally:
        service.close()
    return Restart(took, cpu)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
