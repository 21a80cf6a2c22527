"""The service for a long time: blocks, breaches and faults without end, and what it costs in memory and descriptors.

    python -m tests.chaos.soak --minutes 30

Writes `build/soak.csv` (a line every ten seconds) and `build/soak.json`. Exit code 1 if a penalty was missed or an
oracle failed. Faults end after a few seconds; what they may cost is bounded by `Stage.slack` as in every schedule.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.chaos import faults, mischief
from tests.chaos.ledger import Breach, named
from tests.chaos.oracles import due_status
from tests.chaos.pair import NodePair
from tests.chaos.plan import CHALLENGE_PERIOD
from tests.chaos.run import KEPT, prepare, workshop
from tests.chaos.service import Refused, ServiceStage
from tests.support.healthy import Watched, assert_tower_healthy
from tests.support.parties import Pair
from watchtower.host.revision import revision

SAMPLE_SECONDS = 10.0
WARM_UP_SHARE = 0.6
"""The first part of the samples is left out of the slope: by then the cursor remembers as many blocks as
it ever will (2,016), with two of them per second in half an hour.
"""

STOCK = 2
"""Channels that wait for their breach."""

DONE_DEPTH = 15
"""Blocks above a penalty after which the schedule looks away; the oracle looks again at the end."""

FAULTS = (
    "reorg",
    "reorg",
    "reorg",
    "node_restart",
    "node_killed",
    "node_outage",
    "cut_off",
    "rpc_lost_before",
    "rpc_lost_after",
    "rpc_truncated",
    "rpc_garbled",
    "rpc_busy",
    "rpc_warming_up",
    "rpc_unknown_refusal",
    "absurd_estimate",
    "fee_jump",
    "censorship",
    "bells_broken",
)
BREACHES = ("block_breach", "mempool_breach", "hidden_breach", "block_breach", "package_breach")


class Pace(msgspec.Struct, frozen=True):
    """Seconds between blocks, breaches and faults, and how long a fault holds."""

    block: float = 0.5
    breach: float = 2.0
    fault: float = 10.0
    holds: float = 6.0


class Sample(msgspec.Struct, frozen=True):
    """One look at the process."""

    seconds: float
    rss_kb: int
    descriptors: int
    threads: int
    height: int
    breaches: int
    faults: int


class SmallCaches(ServiceStage):
    """Its tower keeps few keys and scripts, so that memory stays level from the beginning unless something leaks."""

    program = "tests.chaos.small_caches"


class Soak:
    """The run. `done` are channels whose breach was answered some time ago."""

    def __init__(self, stage: ServiceStage, seed: int, pace: Pace) -> None:
        self.stage = stage
        self.samples: list[Sample] = []
        self.done: list[Pair] = []
        self.young: list[Pair] = []
        self.left: list[int] = []
        self.faults = 0
        self._pace = pace
        self._random = random.Random(seed)
        self._began = time.monotonic()
        self._heal_at: float | None = None

    def run(self, seconds: float) -> None:
        """Until the time is over; the last fault is healed before."""
        now = self._began
        due = {"block": now, "breach": now + 3 * self._pace.block, "fault": now + 8 * self._pace.block, "sample": now}
        steps = {"block": self._block, "breach": self._breach, "fault": self._fault, "sample": self._sample}
        gaps = {"block": self._pace.block, "breach": self._pace.breach, "fault": self._pace.fault}
        while (now := time.monotonic()) < self._began + seconds:
            name = min(due, key=lambda each: due[each])
            if due[name] > now:
                time.sleep(due[name] - now)
            steps[name]()
            due[name] = max(due[name] + gaps.get(name, SAMPLE_SECONDS), now)
            if self._heal_at is not None and time.monotonic() > self._heal_at:
                self._heal()
        self._heal()

    def finish(self) -> None:
        """Blocks until everything is due, then the oracles over every channel of the run."""
        stage = self.stage
        stage.clean_pass()
        for _ in range(CHALLENGE_PERIOD + 10):
            stage.mine()
            stage.clean_pass()
        self._retire(stage.breaches(), at_least=0)
        pairs = [*self.done, *stage.pairs]
        for pair in pairs:
            channel, due = stage.world.channel(pair), due_status(stage, pair)
            found = str(channel.status if channel.resolved is None else channel.resolved.name)
            found = "SETTLED" if found == "COOP" else found  # closed by both in a reorganization: as good an end
            assert due == found, f"channel {named(pair.channel_id)} is {found}, due is {due}"
        assert 0 == stage.miner.thefts
        watched = [Watched(pair, acknowledged=stage.newest(pair)) for pair in pairs]
        assert_tower_healthy(stage.nodes.network, stage.world.directory, watched, said=stage.said())

    # ── what happens again and again ──────────────────────────────────────────────────────────────────────

    def _block(self) -> None:
        stage = self.stage
        if stage.slack(1) < 0:
            self._heal()
            stage.clean_pass()
            stage.mine()
            stage.clean_pass()
        else:
            stage.mine()
        self._retire(stage.breaches(), at_least=DONE_DEPTH)
        self._stock_up()

    def _breach(self) -> None:
        self.stage.nodes.network.rpc("lockunspent", True)  # coins of transactions that were refused or undone
        mischief.ACTS[self._random.choice(BREACHES)](self.stage, self._random)

    def _fault(self) -> None:
        self._heal()
        if not self.stage.pairs:
            return
        name = self._random.choice(FAULTS)
        self.stage.tell(name)
        self.stage.counts[name] += 1
        self.faults += 1
        faults.ACTS[name](self.stage, self._random)
        self._heal_at = time.monotonic() + self._random.uniform(1.0, self._pace.holds)

    def _heal(self) -> None:
        self._heal_at = None
        self.stage.repair()

    def _sample(self) -> None:
        status = Path(f"/proc/{self.stage.world.process.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        descriptors = sum(1 for _ in Path(f"/proc/{self.stage.world.process.process.pid}/fd").iterdir())
        self.samples.append(
            Sample(
                round(time.monotonic() - self._began, 1),
                int(fields["VmRSS"].split()[0]),
                descriptors,
                int(fields["Threads"]),
                self.stage.ledger.height,
                self.stage.counts["breaches"],
                self.faults,
            )
        )

    # ── channels ──────────────────────────────────────────────────────────────────────────────────────────

    def _stock_up(self) -> None:
        """Channels that are confirmed get their states; a new one is registered where too few wait."""
        stage, young = self.stage, list(self.young)
        free = [pair for pair in stage.pairs if stage.ledger.spender(pair.params.funding_outpoint) is None]
        try:
            for pair in young:
                if stage.world.is_confirmed(pair):
                    self.young.remove(pair)
                    self._fill(pair)
            if len(free) + len(self.young) < STOCK:
                funds = (500_000, 500_000)
                self.young.append(stage.world.open(balances=funds, challenge_period=CHALLENGE_PERIOD, confirm=False))
        except Refused as refused:
            stage.tell(f"a client was refused: {refused}")

    def _fill(self, pair: Pair) -> None:
        """Three states; the channel may be cheated on as far as they were acknowledged."""
        self.stage.pairs.append(pair)
        self.stage.world_base = self.stage.ledger.height  # reorgs leave fundings of known channels alone
        for _ in range(3):
            sequence = pair.update()
            self.stage.world.upload(pair, sequence)
            self.stage.acknowledge(pair)

    def _retire(self, breaches: Sequence[Breach], *, at_least: int) -> None:
        for breach in breaches:
            if breach.answer is None or self.stage.ledger.height - breach.answer.height < at_least:
                continue
            self.left.append(breach.deadline - breach.answer.height)
            self.done.append(breach.pair)
            self.stage.pairs.remove(breach.pair)


def slope_kb_per_hour(samples: Sequence[Sample]) -> float:
    """Least squares over the samples after the warm-up; 0 for fewer than three."""
    kept = samples[int(len(samples) * WARM_UP_SHARE) :]
    if len(kept) < 3:
        return 0.0
    fit = statistics.linear_regression([each.seconds / 3600 for each in kept], [float(each.rss_kb) for each in kept])
    return float(fit.slope)


def summary(soak: Soak, failure: str) -> dict[str, object]:
    """What `build/soak.json` holds."""
    kept = soak.samples[int(len(soak.samples) * WARM_UP_SHARE) :] or soak.samples
    counts = soak.stage.counts
    return {
        "commit": revision(),
        "minutes": round(soak.samples[-1].seconds / 60, 1) if soak.samples else 0,
        "blocks": counts["blocks"],
        "breaches": counts["breaches"],
        "answered": len(soak.left),
        "misses": soak.stage.miner.thefts,
        "least_blocks_left_at_confirmation": min(soak.left, default=None),
        "faults": soak.faults,
        "reorgs": counts["reorgs"],
        "rss_mb_after_warm_up": round(kept[0].rss_kb / 1024, 1),
        "rss_mb_at_end": round(kept[-1].rss_kb / 1024, 1),
        "rss_slope_mb_per_hour": round(slope_kb_per_hour(soak.samples) / 1024, 2),
        "descriptors_least": min(each.descriptors for each in kept),
        "descriptors_most": max(each.descriptors for each in kept),
        "threads_most": max(each.threads for each in kept),
        "failure": failure,
        "counts": dict(sorted(counts.items())),
    }


def play(minutes: float, seed: int, pace: Pace) -> dict[str, object]:
    """The whole run, in a directory that is removed afterwards."""
    failure = ""
    with workshop() as directory:
        binary, prepared = prepare(directory)
        with NodePair.start(directory / "nodes", prepared, binary, own_relay=True) as nodes:
            stage = SmallCaches(nodes, directory, seed)
            soak = Soak(stage, seed, pace)
            try:
                soak.run(minutes * 60)
                soak.finish()
            except (AssertionError, TimeoutError) as error:
                failure = f"{type(error).__name__}: {error}"
                KEPT.mkdir(parents=True, exist_ok=True)
                (KEPT / "soak-story.txt").write_text("\n".join([*stage.said(), failure]))
            finally:
                stage.close()
    _write_csv(soak.samples, KEPT.parent / "soak.csv")
    return summary(soak, failure)


def _write_csv(samples: Sequence[Sample], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Sample.__struct_fields__)
        writer.writerows(msgspec.structs.astuple(sample) for sample in samples)


def main() -> int:
    """Exit code 1 for a miss or a failed oracle."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--block-seconds", type=float, default=Pace().block)
    parser.add_argument("--breach-seconds", type=float, default=Pace().breach)
    parser.add_argument("--fault-seconds", type=float, default=Pace().fault)
    chosen = parser.parse_args()
    pace = Pace(chosen.block_seconds, chosen.breach_seconds, chosen.fault_seconds, 3 * chosen.block_seconds)
    document = play(chosen.minutes, chosen.seed, pace)
    (KEPT.parent / "soak.json").write_text(json.dumps(document, indent=1) + "\n")
    for name, value in document.items():
        print(f"  {name:<36}{value}")
    return 1 if document["failure"] or document["misses"] else 0


if __name__ == "__main__":
    sys.exit(main())
