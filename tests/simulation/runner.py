"""Many schedules on several processes, and what they went through as a table."""

from __future__ import annotations

import gc
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from tests.simulation.pool import POOL, prepared
from tests.simulation.schedule import Failed, play

CHUNK = 20
"""Seeds that a worker takes at once."""

FAULTS = (
    ("rpc_before", "RPC failed before its effect"),
    ("rpc_after", "RPC failed after its effect"),
    ("chain_move", "chain moved between two calls"),
    ("upload_between", "uploads in the middle of a pass"),
    ("unknown_refusal", "unknown refusals"),
    ("evictions", "penalties evicted"),
    ("feerate_jumps", "feerate jumps"),
    ("censorship", "censorship"),
    ("roll_backs", "node rolled back"),
    ("disk_full", "disk full"),
    ("clock_jumps", "clock jumps"),
    ("views_lost", "views lost"),
    ("views_older", "views at an older position"),
    ("swaps", "commitment replaced in the mempool"),
    ("children", "rival children"),
    ("replaced_in_reorg", "other stale state after a reorg"),
)
"""Names in the counts of a schedule, and in the table."""


class Failure(msgspec.Struct, frozen=True):
    """A broken oracle: seed, step, what was seen, the last lines of the trace."""

    seed: int
    step: int
    text: str
    told: tuple[str, ...]


class Total(msgspec.Struct):
    """What all schedules together went through."""

    schedules: int = 0
    beyond: int = 0
    steps: int = 0
    seconds: float = 0.0
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    failures: list[Failure] = msgspec.field(default_factory=list)

    def add(self, other: Total) -> None:
        """Put another total in."""
        self.schedules += other.schedules
        self.beyond += other.beyond
        self.steps += other.steps
        self.counts += other.counts
        self.failures += other.failures


def play_seeds(seeds: Sequence[int]) -> Total:
    """Play these schedules in this process."""
    total = Total()
    gc.disable()  # a world has cycles, but only a handful of worlds wait until the end of a chunk
    for seed in seeds:
        total.schedules += 1
        try:
            result = play(seed)
        except Failed as failed:
            total.failures.append(Failure(seed, failed.step, str(failed), tuple(failed.world.told[-50:])))
            continue
        total.beyond += not result.bounded
        total.steps += result.steps
        total.counts += result.counts
    gc.enable()
    gc.collect()
    return total


def run(seeds: range, workers: int) -> Total:
    """Play all seeds; tells on stderr how far it is."""
    for number in range(POOL):
        prepared(number)
    gc.freeze()
    began = time.monotonic()
    total = Total()
    for part in _parts([seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)], workers):
        total.add(part)
        total.seconds = time.monotonic() - began
        if total.schedules % 1_000 < CHUNK:
            print(f"{total.schedules} schedules, {total.seconds:.0f} s, {len(total.failures)} failed", file=sys.stderr)
    total.failures.sort(key=lambda failure: failure.seed)
    return total


def _parts(chunks: Sequence[Sequence[int]], workers: int) -> Iterator[Total]:
    if workers < 2:
        yield from map(play_seeds, chunks)
        return
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield from pool.imap_unordered(play_seeds, chunks)


def table(total: Total) -> str:
    """Totals, one line each."""
    counts = total.counts
    lines = [
        ("schedules", total.schedules),
        ("of them beyond the bounds", total.beyond),
        ("steps", total.steps),
        ("blocks", counts["blocks"]),
        ("reorgs", counts["reorgs"]),
        ("blocks replaced in reorgs", counts["reorged_blocks"]),
        ("crashes", counts["crashes"]),
        ("outages of the node", sum(n for name, n in counts.items() if name.startswith("outage_"))),
        ("blocks that could not be read", sum(n for name, n in counts.items() if name.startswith("block_"))),
        *((text, counts[name]) for name, text in FAULTS),
        ("honest, joint and future closes", sum(n for name, n in counts.items() if name.startswith("closes_"))),
        ("acknowledged states", counts["upload"]),
        ("breaches detected", counts["breaches_detected"]),
        ("bids", counts["bids"]),
        ("of them in the last six blocks", counts["critical_bids"]),
        ("penalties confirmed", counts["penalties_confirmed"]),
        ("violations", len(total.failures)),
    ]
    body = "\n".join(f"{text:38s} {number:>12,}" for text, number in lines)
    return f"{body}\n{'seconds':38s} {total.seconds:>12,.1f}"
