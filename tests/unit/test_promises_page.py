"""The figures of docs/promises.md are those of the files, and a command that was not run is shown as such."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.promises import BEGIN, END, PAGE, renewed, table

DAY = 1_700_000_000
"""14 November 2023."""

SIM = {
    "revision": "0123456789ab",
    "seeds": "0..3300",
    "schedules": 3_300,
    "beyond_bounds": 300,
    "seconds": 71.6,
    "violations": [],
    "counts": {"crashes": 5, "reorgs": 1_200, "breaches_detected": 7, "rpc_after": 2, "outage_down": 3},
}
SOAK = {
    "minutes": 30.02,
    "blocks": 900,
    "breaches": 120,
    "misses": 0,
    "faults": 119,
    "rss_mb_after_warm_up": 80.1,
    "rss_mb_at_end": 80.4,
    "rss_slope_mb_per_hour": 0.5,
    "descriptors_least": 20,
    "descriptors_most": 22,
    "failure": "TimeoutError: nothing came",
}


def lines(directory: Path, **files: object) -> dict[str, str]:
    """The rows of the table by the verb of their command."""
    for name, facts in files.items():
        path = directory / f"{name}.json"
        path.write_text(json.dumps(facts))
        os.utime(path, (DAY, DAY))
    rows = [line for line in table(directory).splitlines() if line.startswith("| `make ")]
    return {row.split()[2].strip("`"): row for row in rows}


def test_what_was_not_run_has_no_figure(tmp_path: Path) -> None:
    """All six commands are there, none of them with a number."""
    rows = lines(tmp_path)

    assert ["sim", "chaos", "crash", "mutants", "soak", "bench"] == list(rows)
    assert {"not run for this page"} == {row.split(" | ")[2] for row in rows.values()}


def test_only_schedules_within_the_bounds_count(tmp_path: Path) -> None:
    """Three thousand without a failure: less than one in a thousand."""
    row = lines(tmp_path, sim=SIM)["sim"]

    assert row.startswith("| `make sim SEEDS=3300` | 2023-11-14, 0123456 | 3,300 schedules (seeds 0..3300, 300 of")
    assert "7 breaches, 1,200 reorganizations, 5 crashes, 5 faults of the node; 72 s | 0 | 1 in 1,000 |" in row


def test_a_failure_is_shown_and_bounds_nothing(tmp_path: Path) -> None:
    """No reader learns of a bound that was broken."""
    broken = SIM | {"violations": [{"seed": 3, "text": "O1"}]}

    assert lines(tmp_path, sim=broken)["sim"].endswith("| 1 | – |")
    assert lines(tmp_path, soak=SOAK)["soak"].endswith("20 to 22 file descriptors | 1 | – |")


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    """The real node, the points, the planted bugs, the speed."""
    rows = lines(
        tmp_path,
        chaos={"schedules": 300, "seeds": [7, 306], "failed": [], "seconds": 901.0, "counts": {"breaches": 8}},
        crash={"tests": 9, "failed": ["a"], "cases": {}, "recorded": {"kills": 1_240}},
        mutants={"seeds": 200, "mutants": [{"seeds": [3, 8]}, {"seeds": []}]},
        bench={"machine": {"commit": "abcdefabcdef"}, "figures": {"storm_1000_seconds": 7.5, "update_verify_ms": 1}},
    )

    assert rows["chaos"].startswith("| `make chaos RUNS=300 FIRST=7` | 2023-11-14, unknown |")
    assert rows["chaos"].endswith("| 0 | 1 in 100 |")
    assert "1,240 killed writers" in rows["crash"]
    assert rows["mutants"].endswith("| 1 of 2 planted bugs found within 200 schedules each | 1 | – |")
    assert rows["bench"] == "| `make bench` | 2023-11-14, abcdefa | `storm_1000_seconds` 7.5 | 0 | – |"


def test_the_page_is_renewed_between_its_markers() -> None:
    """What stands around the table stays; doing it twice changes nothing."""
    once = renewed(f"before\n{BEGIN}\nold\n{END}\nafter\n", "new\n")

    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert once == renewed(once, "new\n")
    assert renewed(PAGE.read_text(), "new\n").count("new\n") == 1


@pytest.mark.parametrize("page", ["", f"{BEGIN}", f"{END}{BEGIN}", f"{BEGIN}{END}{END}", f"{BEGIN}{BEGIN}{END}"])
def test_a_page_without_its_markers_is_left_alone(page: str) -> None:
    """Nothing is written into a place that nobody named."""
    with pytest.raises(ValueError, match="needs one"):
        renewed(page, "new")
