"""Figures of docs/promises.md, from what `make sim`, `chaos`, `crash`, `mutants`, `soak` and `bench` wrote to build/.

    python -m tests.support.promises        # writes the table between the two markers of the page anew

A command that left no file is shown as not run. The day is that of the file, in UTC. No failure in n schedules bounds
the probability of one by 3/n at 95 % (rule of three), which is shown as "1 in n/3".
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "promises.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"

HEAD = """| command | day, commit | what was played | failures | at most, at 95 % |
|---|---|---|---:|---:|
"""
FOOT = """
*At most*: 0 failures in n schedules bound the probability per schedule by 3/n at 95 % **under this fault
distribution**. Faults that are not in it are not bounded by it.
"""
SHOWN = ("breach_to_penalty_p", "storm_", "catch_up", "restart_", "reorg_")
"""Beginnings of the names of benchmark figures that belong to a promise."""

MATRIX = "test_fault_P1_nothing_is_lost_wherever_it_fails"

Facts = Mapping[str, Any]


class Row(NamedTuple):
    """What a file says: the command that wrote it, what was played, how many failed, and schedules for the bound."""

    command: str
    played: str
    failures: int
    bounded: int = 0


def sim(facts: Facts) -> Row:
    """Schedules beyond the bounds are played too, and belong to no bound."""
    counts, seeds, beyond = facts["counts"], facts["seeds"], facts["beyond_bounds"]
    crashes = f"{counts.get('crashes', 0):,} crashes"
    troubles = sum(number for name, number in counts.items() if name.startswith(("rpc_", "outage_", "block_")))
    breaches = f"{counts.get('breaches_detected', 0):,} breaches"
    return Row(
        f"make sim SEEDS={seeds.rpartition('..')[2]}",
        f"{facts['schedules']:,} schedules (seeds {seeds}, {beyond:,} of them beyond the bounds): {breaches}, "
        f"{counts.get('reorgs', 0):,} reorganizations, {crashes}, {troubles:,} faults of the node; "
        f"{facts['seconds']:,.0f} s",
        len(facts["violations"]),
        facts["schedules"] - beyond,
    )


def chaos(facts: Facts) -> Row:
    """Every schedule stays within the bounds."""
    first, last = facts["seeds"]
    counts = facts["counts"]
    return Row(
        f"make chaos RUNS={facts['schedules']}" + (f" FIRST={first}" if first else ""),
        f"{facts['schedules']:,} schedules on two real nodes (seeds {first} to {last}): "
        f"{counts.get('breaches', 0):,} breaches, {counts.get('reorgs', 0):,} reorganizations; "
        f"{facts['seconds']:,.0f} s",
        len(facts["failed"]),
        facts["schedules"],
    )


def crash(facts: Facts) -> Row:
    """Not random but for the kills, so no bound."""
    return Row(
        "make crash",
        f"{facts['cases'].get(MATRIX, 0):,} failures at named points, {facts['recorded'].get('kills', 0):,} killed "
        f"writers with {facts['recorded'].get('acknowledged', 0):,} acknowledged commits; {facts['tests']:,} tests",
        len(facts["failed"]),
    )


def mutants(facts: Facts) -> Row:
    """A planted bug that survives is a failure."""
    planted, found = facts["mutants"], sum(bool(each["seeds"]) for each in facts["mutants"])
    return Row(
        "make mutants",
        f"{found} of {len(planted)} planted bugs found within {facts['seeds']:,} schedules each",
        len(planted) - found,
    )


def soak(facts: Facts) -> Row:
    """One long run."""
    return Row(
        f"make soak MINUTES={facts['minutes']:.0f}",
        f"{facts['blocks']:,} blocks, {facts['breaches']:,} breaches, {facts['faults']:,} faults; memory "
        f"{facts['rss_mb_after_warm_up']} to {facts['rss_mb_at_end']} MB ({facts['rss_slope_mb_per_hour']:+} MB per "
        f"hour), {facts['descriptors_least']} to {facts['descriptors_most']} file descriptors",
        facts["misses"] + bool(facts["failure"]),
    )


def bench(facts: Facts) -> Row:
    """The figures that a promise names; all of them are on the page of benchmarks."""
    shown = [f"`{name}` {value:,}" for name, value in facts["figures"].items() if name.startswith(SHOWN)]
    return Row("make bench", ", ".join(shown) or "none of the figures that belong to a promise", 0)


SOURCES: dict[str, Callable[[Facts], Row]] = {
    "sim": sim,
    "chaos": chaos,
    "crash": crash,
    "mutants": mutants,
    "soak": soak,
    "bench": bench,
}


def table(build: Path) -> str:
    """All rows, from the JSON files of a directory."""
    return HEAD + "".join(_line(name, build / f"{name}.json") for name in SOURCES) + FOOT


def _line(name: str, path: Path) -> str:
    if not path.exists():
        return f"| `make {name}` | – | not run for this page | – | – |\n"
    facts = json.loads(path.read_text())
    row = SOURCES[name](facts)
    day = datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
    commit = str(facts.get("commit") or facts.get("revision") or facts.get("machine", {}).get("commit", "unknown"))
    most = f"1 in {row.bounded // 3:,}" if row.bounded >= 3 and not row.failures else "–"
    return f"| `{row.command}` | {day}, {commit[:7]} | {row.played} | {row.failures} | {most} |\n"


def renewed(page: str, figures: str) -> str:
    """The page with this table between its markers. Raises `ValueError` if they are not there, once, in order."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"the page needs one {BEGIN} and one {END} behind it")
    return f"{before}{BEGIN}\n\n{figures}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(), table(ROOT / "build")))
    sys.stdout.write(f"figures written to {PAGE.relative_to(ROOT)}\n")
