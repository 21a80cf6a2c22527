"""What an audit by the command says about one log."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import msgspec
from click.testing import CliRunner, Result

from tests.support.tampering import (
    Content,
    SqliteVictim,
    content_of,
)
from watchtower.cli import _main
from watchtower.store.high_water import mark_of, write_high_water


def verify(*arguments: object) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(_main, ["audit", "verify", *map(str, arguments)], catch_exceptions=False)


def verify_log(victim: SqliteVictim, *arguments: object) -> tuple[int, dict[str, object]]:
    """Exit code and document of an audit of one log; its channels were never registered, so rules are left out."""
    result = verify("--log", victim.path, "--json", "--progress", "none", "--no-domain-rules", *arguments)
    return result.exit_code, json.loads(result.stdout)


def content(victim: SqliteVictim) -> Content:
    """What the log holds."""
    with victim.source() as source:
        return content_of(source)


def mark(victim: SqliteVictim, path: Path, **changed: object) -> Path:
    """A high-water file of the log, with other values."""
    with victim.source() as source:
        write_high_water(path, msgspec.structs.replace(mark_of(source, 0), **changed))
    return path


def edited(path: Path, statements: str, *, guards: bool = False) -> None:
    """Change a database as no program of ours can."""
    connection = sqlite3.connect(path, isolation_level=None)
    kept = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall() if guards else []
    for name, _ in kept:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements.split(";"):
        connection.execute(statement)
    for _, text in kept:
        connection.execute(text)
    connection.close()
