"""`python -m tests.simulation.mutants`: plant every bug, count who finds it, write docs/mutants.md, build/mutants.json.

python -m tests.simulation.mutants --workers 2                  # exit code 1 if a bug is not found
python -m tests.simulation.mutants --only skipped-block         # one of them; writes nothing
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import msgspec

from tests.simulation.mutants.catalog import BY_NAME, MUTANTS
from tests.simulation.mutants.planting import planted
from tests.simulation.pool import POOL, prepared
from tests.simulation.schedule import Failed, play
from watchtower.host.revision import revision

PAGE = Path("docs/mutants.md")
OUTPUT = Path("build/mutants.json")
SEEDS = 200


class Found(msgspec.Struct, frozen=True):
    """What became of a planted bug: the schedules that failed, how the first one ended, failures by oracle."""

    name: str
    seeds: tuple[int, ...]
    text: str
    oracles: dict[str, int]
    seconds: float


def hunt(name: str, seeds: int = SEEDS) -> Found:
    """Play the first schedules with a bug; `seeds` of them."""
    began, failing, texts = time.monotonic(), [], []
    oracles: Counter[str] = Counter()
    gc.disable()
    for seed in range(seeds):
        try:
            with planted(BY_NAME[name]):
                play(seed)
        except Failed as failed:
            if "TypeError" in str(failed):  # a bug that no longer fits its place proves nothing
                raise TypeError(f"{name} is planted badly: {failed}") from failed
            failing.append(seed)
            texts.append(str(failed))
            oracles[failed.violation.oracle] += 1
        if seed % 20 == 19:
            gc.collect()
    gc.enable()
    return Found(name, tuple(failing), (*texts, "")[0], dict(oracles), time.monotonic() - began)


def page(found: list[Found], seeds: int) -> str:
    """The table with its explanation, as Markdown."""
    rows = [
        f"| {number} | `{one.name}` | {BY_NAME[one.name].bug} | {BY_NAME[one.name].source} "
        f"| {one.seeds[0] if one.seeds else 'none'} | {len(one.seeds)} | {_oracles(one)} |"
        for number, one in enumerate(found, 1)
    ]
    return "\n".join([*_head(seeds), *rows, ""])


def facts(found: list[Found], seeds: int) -> dict[str, object]:
    """What build/mutants.json holds."""
    return {"commit": revision(), "seeds": seeds, "mutants": msgspec.to_builtins(found)}


def _oracles(one: Found) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(one.oracles.items()))


def _head(seeds: int) -> list[str]:
    return [
        "# Planted bugs",
        "",
        "A simulation that finds nothing proves nothing, unless it finds what is there. Each of these bugs is planted",
        f"into the tower, one at a time, and schedules 0 to {seeds - 1} of the [simulation](simulation.md) are played",
        "against it. Many are the known mistakes of other towers; where those had no second detector, ours is switched",
        "off together with the bug.",
        "",
        "The bugs are in `tests/simulation/mutants/`; the program has no switch for them. `make mutants` plays all of",
        "this again, writes this page, and fails if a bug is not found. `make test` plays the first failing schedule",
        "of each, with the bug and without.",
        "",
        f"*first* is the first schedule that fails, *of {seeds}* how many do, *found by* the oracles that ended them",
        "(what each asks is in [simulation.md](simulation.md)).",
        "",
        f"| # | name | bug | seen in | first | of {seeds} | found by |",
        "|---|---|---|---|---|---|---|",
    ]


def main(arguments: list[str]) -> int:
    """Exit code 0, or 1 if a bug survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description="Hunt planted bugs.")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--only", choices=sorted(BY_NAME), nargs="+", help="these bugs; writes nothing")
    options = parser.parse_args(arguments)
    for number in range(POOL):
        prepared(number)
    names = options.only or [mutant.name for mutant in MUTANTS]
    found: list[Found] = []
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        for one in pool.imap(partial(hunt, seeds=options.seeds), names):
            found.append(one)
            print(f"{_line(one)}", flush=True)
    if not options.only:
        PAGE.write_text(page(found, options.seeds))
        OUTPUT.parent.mkdir(parents=True, exist_ok=True)
        OUTPUT.write_text(json.dumps(facts(found, options.seeds), indent=1) + "\n")
    survivors = [one.name for one in found if not one.seeds]
    print(f"{len(found)} bugs planted, {len(survivors)} not found: {' '.join(survivors) or 'none'}, at {revision()}")
    return 1 if survivors else 0


def _line(one: Found) -> str:
    first = f"first {one.seeds[0]:3d}, {len(one.seeds):3d} failed" if one.seeds else "NOT FOUND"
    return f"{one.name:30s} {first}  {_oracles(one)}  {one.seconds:.0f} s  {one.text}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
