"""CPU time to look through one full block with a large watch index, beside a public parser on the same bytes."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from pathlib import Path
from time import process_time

from projections.watch_index import Role
from projections.watch_set import WatchSet
from tests.bench.scale import Scale
from tests.support.full_block import made_up_block, mine_full_block
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.blocks import scan_block

NAMES = ("scan_block_cpu_ms", "scan_block_cpu_median_ms", "scan_block_parser_cpu_ms", "scan_block_ratio_to_parser")
PARSER = "python-bitcoinlib 0.12.2"

Parse = Callable[[bytes], object]


def measure(scale: Scale, directory: Path) -> dict[str, float]:
    """All figures of this part, on a block that a real node has mined."""
    with RegtestNode.start(directory / "node") as node:
        block = mine_full_block(node, scale.block_transactions, scale.block_inputs)
        raw = node.block(block.hash)
    return figures(scale, raw, public_parser())


def made_up(scale: Scale) -> bytes:
    """A block of the same kind without a node."""
    return made_up_block(scale.block_transactions, scale.block_inputs)


def figures(scale: Scale, raw: bytes, parse: Parse) -> dict[str, float]:
    """Milliseconds of CPU (the least of many runs, and the median) and how many scans one parse is worth."""
    index = watch_set(scale.watched_outpoints)
    scans = timed(lambda: scan_block(raw, index.outpoints, sieve=index.sieve), scale.block_runs)
    parses = timed(lambda: parse(raw), scale.parser_runs)
    least, median, parser = min(scans), statistics.median(scans), min(parses)
    values = (round(least, 2), round(median, 2), round(parser, 1), round(parser / least, 1))
    return dict(zip(NAMES, values, strict=True))


def watch_set(count: int) -> WatchSet:
    """A watch index of random outpoints; none of them is in the block, so every input is a miss, as in real life."""
    rnd = random.Random(2)
    return WatchSet((rnd.randbytes(36), f"c{number:022d}", Role.FUNDING) for number in range(count))


def timed(work: Callable[[], object], runs: int) -> list[float]:
    """CPU milliseconds of each run; other processes on the machine disturb it less than wall time."""
    took = []
    for _ in range(runs):
        began = process_time()
        work()
        took.append((process_time() - began) * 1000)
    return took


def public_parser() -> Parse:
    """The block parser of python-bitcoinlib, installed by `make bench`."""
    from bitcoin.core import CBlock

    def parse(raw: bytes) -> object:
        return CBlock.deserialize(raw)

    return parse
