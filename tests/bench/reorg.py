"""A reorg of fifty blocks while a thousand breaches are open, and everybody who cheated publishes another old state.

The old chain has a thousand stale commitments in the lowest of its fifty blocks and their penalties in the next one.
The new chain begins with other stale commitments of the same channels, so no penalty that exists helps: the tower has
to undo everything, to find a thousand new breaches, and to answer them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from domain.chain import make_outpoint
from domain.units import Side
from tests.bench.frames import NOTHING_DROPPED, FrameClock
from tests.bench.restart import cpu_seconds
from tests.bench.scale import Scale
from tests.bench.storm import copy_blocks, fill
from tests.support.parties import Pair
from tests.support.service import ServiceProcess
from tests.support.storms import funded_pairs
from watchtower.devnode.regtest import RegtestNode

NAMES = ("reorg_50_with_1000_breaches_seconds", "reorg_50_with_1000_breaches_cpu_seconds")
DEPTH = 50
FIRST, SECOND = 0, 1
"""The states that are published, first on the old chain and then on the new one."""

LONGEST = 600.0
PAUSE = 0.2


class Reorg(NamedTuple):
    """Seconds from the node's new commitments to its last new penalty, and the tower's CPU seconds in that time."""

    seconds: float
    cpu: float


def measure(scale: Scale, directory: Path) -> dict[str, float]:
    """All figures of this part; needs a real node."""
    return figures(play(scale, directory))


def figures(reorg: Reorg) -> dict[str, float]:
    """Seconds."""
    return {name: round(value, 2) for name, value in zip(NAMES, reorg, strict=True)}


def play(scale: Scale, directory: Path) -> Reorg:
    """Let everybody cheat and be punished, bury it, then give the node the other chain, which has one block more."""
    with (
        RegtestNode.start(directory / "node", extra_args=NOTHING_DROPPED) as node,
        RegtestNode.start(directory / "other") as other,
    ):
        pairs = funded_pairs(node, scale.storm_breaches, updates=2)
        tower = fill(node, directory / "tower", pairs)
        copy_blocks(node, other)
        service, clock = ServiceProcess(tower.config_path), FrameClock(node.zmq_endpoint)
        try:
            service.wait_watching()
            cheat(node, pairs, FIRST)
            wait_punished(clock, pairs, FIRST)
            node.mine(DEPTH - 1)
            wait_at_tip(service, node)
            cheat(other, pairs, SECOND)
            other.mine(DEPTH)
            before = cpu_seconds(service.process.pid)
            copy_blocks(other, node)
            began = clock.of_transaction(pairs[-1].commitment_txid(Side.A, SECOND), LONGEST)
            took = wait_punished(clock, pairs, SECOND) - began
            return Reorg(took, cpu_seconds(service.process.pid) - before)
        finally:
            clock.close()
            service.close()


def cheat(node: RegtestNode, pairs: Sequence[Pair], state: int) -> None:
    """A block with this revoked state of every channel."""
    node.generate_block([pair.commitment(Side.A, state) for pair in pairs])


def wait_punished(clock: FrameClock, pairs: Sequence[Pair], state: int) -> float:
    """When the node announced the last penalty."""
    contests = [make_outpoint(pair.commitment_txid(Side.A, state), 0) for pair in pairs]
    return max(clock.of_spend(contest, LONGEST) for contest in contests)


def wait_at_tip(service: ServiceProcess, node: RegtestNode) -> None:
    """Until the tower has read the newest block; nothing of this is measured."""
    end, wanted = time.monotonic() + LONGEST, f"watchtower_chain_processed_height {node.height()}.0\n".encode()
    while wanted not in service.get("admin", "/metrics")[1]:
        if time.monotonic() > end:
            raise TimeoutError(f"the tower did not reach block {node.height()} within {LONGEST:g} s")
        time.sleep(PAUSE)
