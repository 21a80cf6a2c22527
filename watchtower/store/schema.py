"""The shipped DDL of the event log and the numbers that mark a file as ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

SCHEMA = 1
"""Number of the DDL in `sql/schema.sql`, kept in `log_meta` and in `PRAGMA user_version`."""

SEGMENT_SCHEMA = 2
"""Number of a later segment, which has `sql/segment.sql` too. The first file of a log stays as it was made."""

_SCRIPTS = {SCHEMA: ("schema.sql",), SEGMENT_SCHEMA: ("schema.sql", "segment.sql")}

KNOWN = tuple(_SCRIPTS)
"""Numbers that this program can read."""

_STATISTICS = (("table", "sqlite_stat1"), ("table", "sqlite_stat4"))
"""What `ANALYZE` makes."""

APPLICATION_ID = 0x57544C47
"""`PRAGMA application_id` of a log file: "WTLG"."""

PAGE_SIZE = 8192
"""Events of 1 kB take 1,209 bytes on disk with it, 1,406 with the default of 4096."""


def unknown_schema(number: int) -> str:
    """What to tell about a log whose schema this program does not know."""
    known = ", ".join(map(str, KNOWN))
    return (
        f"this program knows the schemas {known}, the log has {number}; run the version that wrote it, or a later one"
    )


@cache
def statements(number: int = SCHEMA) -> tuple[str, ...]:
    """The DDL statements of a schema in the order in which they are applied."""
    scripts = files("watchtower.store").joinpath("sql")
    texts = (scripts.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS[number])
    return tuple(statement for text in texts for statement in _split(text))


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
def expected_objects(number: int = SCHEMA) -> dict[str, str]:
    """SQL text per table and trigger, as SQLite keeps it after applying the shipped DDL."""
    connection = sqlite3.connect(":memory:")
    try:
        for statement in statements(number):
            connection.execute(statement)
        return stored_objects(connection)
    finally:
        connection.close()


def stored_objects(connection: sqlite3.Connection) -> dict[str, str]:
    """SQL text per table, trigger, view and index of an open database.

    Only SQLite's own statistics are left out: whoever edits the schema table can give anything a name of SQLite's. A
    trigger may have the name of a table.
    """
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {
        name if kind == "table" else f"{kind} {name}": sql
        for kind, name, sql in rows
        if (kind, name) not in _STATISTICS
    }
