"""The shipped DDL of the event log and the numbers that mark a file as ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

SCHEMA = 1
"""Number of the DDL in `sql/schema.sql`, kept in `log_meta` and in `PRAGMA user_version`."""

APPLICATION_ID = 0x57544C47
"""`PRAGMA application_id` of a log file: "WTLG"."""

PAGE_SIZE = 8192
"""Events of 1 kB take 1,209 bytes on disk with it, 1,406 with the default of 4096."""


@cache
def statements() -> tuple[str, ...]:
    """The DDL statements in the order in which they are applied."""
    text = files("watchtower.store").joinpath("sql/schema.sql").read_text(encoding="utf-8")
    return tuple(_split(text))


def _split(text: str) -> Iterator[str]:
    """Cut a script at complete statements; a trigger body contains semicolons of its own."""
    pending = ""
    for line in text.splitlines(keepends=True):
        if not pending and (not line.strip() or line.startswith("--")):
            continue
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending.strip()
            pending = ""


@cache
def expected_objects() -> dict[str, str]:
    """SQL text per table and trigger, as SQLite keeps it after applying the shipped DDL."""
    connection = sqlite3.connect(":memory:")
    try:
        for statement in statements():
            connection.execute(statement)
        return stored_objects(connection)
    finally:
        connection.close()


def stored_objects(connection: sqlite3.Connection) -> dict[str, str]:
    """SQL text per table and trigger of an open database (without SQLite's own)."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
    return dict(rows.fetchall())
