"""`python -m tests.simulation`: play seeded schedules, judge them, write build/sim.json.

python -m tests.simulation --seeds 0..2000 --workers 2     # exit code 1 if an oracle was broken
python -m tests.simulation --seed 17 --trace               # one schedule, line by line
python -m tests.simulation --seed 17 --steps 3,8,21        # only some of its steps
python -m tests.simulation --seed 17 --shrink              # the fewest steps that still fail
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from tests.simulation.runner import Failure, run, table
from tests.simulation.schedule import Failed, play
from tests.simulation.shrink import shrink
from watchtower.host.revision import revision

OUTPUT = Path("build/sim.json")
KEPT = Path(__file__).with_name("kept_seeds.txt")


def main(arguments: list[str]) -> int:
    """Exit code 0, or 1 for a broken oracle."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Play random schedules.")
    parser.add_argument("--seeds", default="0..200", metavar="FIRST..END", help="seeds, the end not included")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--steps", help="with --seed: only these steps, as 3,8,21")
    parser.add_argument("--trace", action="store_true", help="with --seed: tell everything")
    parser.add_argument("--shrink", action="store_true", help="with --seed: find the fewest steps that fail")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"where the JSON goes (default: {OUTPUT})")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _one(options.seed, options.steps, trace=options.trace, smallest=options.shrink)
    first, _, end = options.seeds.rpartition("..")
    return _many(range(int(first or 0), int(end)), options.workers, options.output)


def _many(seeds: range, workers: int, output: Path) -> int:
    total = run(seeds, workers)
    print(table(total))
    output.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "revision": revision(),
        "seeds": f"{seeds.start}..{seeds.stop}",
        "schedules": total.schedules,
        "beyond_bounds": total.beyond,
        "steps": total.steps,
        "seconds": round(total.seconds, 1),
        "violations": [{"seed": f.seed, "text": f.text} for f in total.failures],
        "counts": dict(sorted(total.counts.items())),
    }
    output.write_text(json.dumps(facts, indent=2) + "\n")
    for failure in total.failures[:10]:
        _tell(failure)
    if total.failures:
        _keep([failure.seed for failure in total.failures[:10]])
    return 1 if total.failures else 0


def _one(seed: int, steps: str | None, *, trace: bool, smallest: bool) -> int:
    chosen = None if steps is None else [int(number) for number in steps.split(",")]
    try:
        result = play(seed, steps=chosen)
    except Failed as failed:
        return _one_failed(seed, failed, trace=trace, smallest=smallest)
    print(f"seed {seed}: {result.steps} steps, no violation")
    if trace:
        print("\n".join(result.told))
    return 0


def _one_failed(seed: int, failure: Failed, *, trace: bool, smallest: bool) -> int:
    if smallest:
        fewest, failure = shrink(seed)
        print(f"fails with {len(fewest)} steps: --seed {seed} --steps {','.join(map(str, fewest))}")
    lines = failure.world.told if trace else failure.world.told[-50:]
    _tell(Failure(seed, failure.step, str(failure), tuple(lines)))
    return 1


def _tell(failure: Failure) -> None:
    print("\n".join(failure.told))
    print(f"seed {failure.seed} at {revision()}: {failure.text}")
    print(f"again: python -m tests.simulation --seed {failure.seed} --trace   (--shrink for the fewest steps)\n")


def _keep(seeds: list[int]) -> None:
    """A seed that failed once runs in every gate for ever."""
    known = KEPT.read_text().split() if KEPT.exists() else []
    with KEPT.open("a") as kept:
        kept.writelines(f"{seed}\n" for seed in seeds if str(seed) not in known)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
