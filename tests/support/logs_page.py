"""The tables of docs/logs.md, made from the names in the program: python -m tests.support.logs_page FILE.

Everything around the tables is written by people and stays as it is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from watchtower.telemetry.events import GROUPS, LogEvent

TABLES = re.compile(r"(?<=\n## All names\n\n).*?(?=\n## |\Z)", re.DOTALL)


def tables() -> str:
    """One table per group."""
    return "\n".join(f"### {group}\n\n{_table(events)}" for group, events in GROUPS.items())


def _table(events: Mapping[str, LogEvent]) -> str:
    head = "| name | level | fields | meaning |\n|---|---|---|---|\n"
    return head + "".join(_row(name, event) for name, event in sorted(events.items()))


def _row(name: str, event: LogEvent) -> str:
    fields = " ".join(f"`{field}`" for field in event.fields)
    return f"| `{name}` | {', '.join(event.levels)} | {fields} | {event.meaning.replace('|', chr(92) + '|')} |\n"


def with_tables(page: str) -> str:
    """The page with the tables as the program is now."""
    renewed, number = TABLES.subn(lambda _: tables(), page)
    if number != 1:
        raise ValueError("the page needs one heading 'All names'")
    return renewed


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
