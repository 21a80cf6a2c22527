"""The shipped DDL for PostgreSQL: numbered files, each applied once, and what has to be found in the database."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

import msgspec

SCHEMA_NAME = "watchtower"
"""Schema of all tables; one log per database."""

TABLE = "wt_events"
"""As the library names the table of the application "wt"."""

CHANNEL = "wt_events"
"""NOTIFY after each commit, with the id of its last event."""

OWNER, APP, AUDIT = "wt_owner", "wt_app", "wt_audit"
"""Roles: DDL for `store migrate`, append and read for the tower, read without the stream key for auditors."""

_FUNCTION = re.compile(r"CREATE FUNCTION watchtower\.(\w+)\(.*?AS \$body\$(.*?)\$body\$;", re.DOTALL)
_TRIGGER = re.compile(r"^CREATE (?:CONSTRAINT )?TRIGGER (\w+) .*?;$", re.MULTILINE)
_STEP = re.compile(r"(\d{4})_(\w+)\.sql")


class Step(msgspec.Struct, frozen=True):
    """One file of DDL."""

    number: int
    name: str
    text: str


@cache
def steps() -> tuple[Step, ...]:
    """All files in the order in which they are applied."""
    named = ((file, _STEP.fullmatch(file.name)) for file in files(__package__).joinpath("sql").iterdir())
    found = (Step(int(match[1]), match[2], file.read_text(encoding="utf-8")) for file, match in named if match)
    return tuple(sorted(found, key=lambda step: step.number))


def newest() -> int:
    """Number of the last file: the schema that this program needs."""
    return steps()[-1].number


@cache
def expected_objects() -> dict[str, str]:
    """Definition per trigger and body per function, as the database shows them."""
    text = "\n".join(step.text for step in steps())
    functions = {f"function {match[1]}": _squeezed(match[2]) for match in _FUNCTION.finditer(text)}
    triggers = {f"trigger {match[1]}": _squeezed(match[0].rstrip(";")) for match in _TRIGGER.finditer(text)}
    return functions | triggers


def squeezed(name: str, definition: str) -> tuple[str, str]:
    """A pair as in `expected_objects`."""
    return name, _squeezed(definition)


def _squeezed(text: str) -> str:
    return " ".join(text.split())
