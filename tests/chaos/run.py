"""Runs random schedules: `python -m tests.chaos.run --runs 100`, or one of them again: `--seed 17`.

A schedule that fails leaves its files, its story and the questions of the tower under `build/chaos/<seed>`, and the
command line that plays it again. `--steps 2,5,7` plays some of its steps, `--shrink` finds a small set by itself.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.pool import Pool
from pathlib import Path

import msgspec

from tests.chaos.pair import NodePair
from tests.chaos.plan import Plan, draw
from tests.chaos.schedule import play
from watchtower.devnode.provision import Found, find
from watchtower.devnode.regtest import RegtestNode

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "chaos"
MEMORY_DISK = Path("/dev/shm")
WORKERS = 2


class Outcome(msgspec.Struct, frozen=True):
    """One schedule: what it counted, and `failure` if the tower failed."""

    seed: int
    counts: dict[str, int]
    seconds: float
    failure: str = ""


@contextmanager
def workshop() -> Iterator[Path]:
    """A directory for the files of running schedules, in memory where there is such a place; removed at the end."""
    place = MEMORY_DISK if MEMORY_DISK.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=place) as name:
        yield Path(name)


def prepare(directory: Path) -> tuple[Found, Path]:
    """The node's program and a stopped data directory to copy."""
    binary = find()
    return binary, RegtestNode.make_prepared(directory / "prepared", binary)


def run_plan(plan: Plan, directory: Path, binary: Found, prepared: Path, *, keep: bool = True) -> Outcome:
    """Play one schedule on two fresh nodes."""
    began = time.monotonic()
    place = directory / f"run{plan.seed}"
    shutil.rmtree(place, ignore_errors=True)
    told: list[str] = []
    counts: Counter[str] = Counter()
    failure = ""
    try:
        with NodePair.start(place / "nodes", prepared, binary, own_relay=plan.service) as nodes:
            try:
                counts = play(plan, nodes, place, told)
            except Exception:  # noqa: BLE001 - the border of a schedule: whatever happened is its outcome
                failure = traceback.format_exc()
                if keep:
                    nodes.close()
                    _keep(plan, place, told, failure)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return Outcome(plan.seed, dict(counts), time.monotonic() - began, failure)


def _keep(plan: Plan, place: Path, told: list[str], failure: str) -> None:
    """Everything that helps to understand a failure."""
    target = KEPT / str(plan.seed)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(place, target, ignore=shutil.ignore_patterns("*.fifo", "wallets"))
    (target / "story.txt").write_text("\n".join([*told, "", failure]))
    (target / "plan.json").write_bytes(msgspec.json.format(msgspec.json.encode(plan)))


def command(plan: Plan) -> str:
    """The line that plays a schedule again."""
    whole = draw(plan.seed, service=plan.service)
    steps = "" if plan.steps == whole.steps else f" --steps {','.join(str(step.number) for step in plan.steps)}"
    return f"python -m tests.chaos.run --seed {plan.seed}{steps}"


def shrink(plan: Plan, directory: Path, binary: Found, prepared: Path) -> Plan:
    """The plan with as few steps as still fail, leaving them out one by one."""
    for step in plan.steps:
        rest = [other.number for other in plan.steps if other != step]
        smaller = plan.only(rest)
        if run_plan(smaller, directory, binary, prepared, keep=False).failure:
            print(f"still fails without step {step.number} ({', '.join(step.acts)})", flush=True)
            plan = smaller
    return plan


# ── many of them ──────────────────────────────────────────────────────────────────────────────────────────────

_worker: tuple[Path, Found, Path] | None = None


def _begin(directory: Path, binary: Found, prepared: Path) -> None:
    global _worker  # noqa: PLW0603 - what a worker process is given at its start
    _worker = (directory, binary, prepared)


def _one(seed: int) -> Outcome:
    assert _worker is not None
    return run_plan(draw(seed), *_worker)


def run_many(seeds: range, workers: int = WORKERS) -> list[Outcome]:
    """All schedules of the seeds, a line for each hundred and for each failure."""
    outcomes: list[Outcome] = []
    with workshop() as directory:
        context = multiprocessing.get_context("spawn")
        with Pool(workers, _begin, (directory, *prepare(directory)), context=context) as pool:
            for outcome in pool.imap_unordered(_one, seeds):
                outcomes.append(outcome)
                if outcome.failure:
                    print(f"seed {outcome.seed} FAILED: {outcome.failure.strip().splitlines()[-1]}", flush=True)
                    print(f"  again: {command(draw(outcome.seed))}", flush=True)
                if len(outcomes) % 20 == 0:
                    failed = sum(bool(each.failure) for each in outcomes)
                    print(f"{len(outcomes)} of {len(seeds)} schedules, {failed} failed", flush=True)
    return outcomes


def report(outcomes: list[Outcome], seconds: float) -> dict[str, object]:
    """What `build/chaos.json` holds."""
    total: Counter[str] = Counter()
    for outcome in outcomes:
        total.update(outcome.counts)
    failed = sorted(each.seed for each in outcomes if each.failure)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "schedules": len(outcomes),
        "seeds": [min(each.seed for each in outcomes), max(each.seed for each in outcomes)],
        "failed": failed,
        "seconds": round(seconds, 1),
        "seconds_per_schedule": round(sum(each.seconds for each in outcomes) / len(outcomes), 2),
        "commit": commit.stdout.strip(),
        "python": sys.version.split()[0],
        "counts": dict(sorted(total.items())),
    }


def _print_table(document: dict[str, object]) -> None:
    counts = document["counts"]
    assert isinstance(counts, dict)
    for name, count in counts.items():
        print(f"  {name:<24}{count:>8}")
    print(f"{document['schedules']} schedules in {document['seconds']} s, failed: {document['failed'] or 'none'}")


def main() -> int:
    """Exit code 1 if a schedule failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="how many schedules (default 100)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one (default 0)")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--seed", type=int, help="play this one only and tell its story")
    parser.add_argument("--steps", help="with --seed: only these steps, as 0,3,4")
    parser.add_argument("--shrink", action="store_true", help="with --seed: find the steps that matter")
    chosen = parser.parse_args()
    if chosen.seed is not None:
        return _single(chosen.seed, chosen.steps, small=chosen.shrink)
    began = time.monotonic()
    outcomes = run_many(range(chosen.first, chosen.first + chosen.runs), chosen.workers)
    document = report(outcomes, time.monotonic() - began)
    KEPT.parent.mkdir(exist_ok=True)
    (KEPT.parent / "chaos.json").write_text(json.dumps(document, indent=1) + "\n")
    _print_table(document)
    return 1 if document["failed"] else 0


def _single(seed: int, steps: str | None, *, small: bool) -> int:
    plan = draw(seed)
    if steps:
        plan = plan.only({int(number) for number in steps.split(",")})
    with workshop() as directory:
        binary, prepared = prepare(directory)
        if small:
            plan = shrink(plan, directory, binary, prepared)
        outcome = run_plan(plan, directory, binary, prepared)
    if not outcome.failure:
        print(f"seed {seed}: all is well after {outcome.seconds:.1f} s")
        return 0
    print((KEPT / str(seed) / "story.txt").read_text())
    print(f"kept in {(KEPT / str(seed)).relative_to(ROOT)}; again: {command(plan)}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
