"""What `make crash` leaves in build/crash.json: how many tests of which function, what they recorded, what failed.

A plugin for pytest (`-p tests.crash.report`); other runs of these tests write nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from watchtower.host.revision import revision

OUTPUT = Path("build/crash.json")


def summary(passed: Sequence[pytest.TestReport], failed: Sequence[str], skipped: int) -> dict[str, object]:
    """`cases` counts passed tests by function, `recorded` adds up the properties that tests recorded."""
    recorded: Counter[str] = Counter()
    for report in passed:
        recorded.update({str(name): int(str(value)) for name, value in report.user_properties})
    return {
        "commit": revision(),
        "tests": len(passed) + len(failed),
        "failed": sorted(failed),
        "skipped": skipped,
        "cases": dict(
            sorted(Counter(report.head_line.partition("[")[0] for report in passed if report.head_line).items())
        ),
        "recorded": dict(sorted(recorded.items())),
    }


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Runs once, in the process that gathers the results."""
    stats = terminalreporter.stats
    failed = [report.nodeid for name in ("failed", "error") for report in stats.get(name, ())]
    document = summary(stats.get("passed", ()), failed, len(stats.get("skipped", ())))
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(document, indent=1) + "\n")
