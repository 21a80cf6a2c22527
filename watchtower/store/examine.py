"""A look at a log's file from beside it: read only, without a lock, also while a tower writes it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from domain.errors import LogCorrupt
from domain.events import LOG_STREAM, LogOpened, decode_payload
from watchtower.store import schema
from watchtower.store.checks import read_meta
from watchtower.store.datastore import connect
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.recorders import LogMeta


class LogLook(msgspec.Struct, frozen=True):
    """What a file says: which log it is, of which chain (internal order; None: it does not say), and how it is kept.

    `differing` are tables and triggers that are not as shipped; `synchronous` is what a connection of ours gets.
    """

    meta: LogMeta
    chain_hash: bytes | None
    last_id: int
    triggers: int
    differing: tuple[str, ...]
    journal_mode: str
    synchronous: int


def examine_log(path: Path) -> LogLook:
    """Look at a log. Raises `StoreCheckFailed` for a file that is none of ours, or not in WAL mode."""
    if not path.exists():
        raise StoreCheckFailed("exists", f"{path} does not exist; run `watchtower init` first")
    try:
        with closing(connect(path, read_only=True)) as connection:
            return _look(connection)
    except sqlite3.Error as error:
        raise StoreCheckFailed("readable", f"{path} cannot be read ({error})") from error


def _look(connection: sqlite3.Connection) -> LogLook:
    meta = read_meta(connection)
    expected, found = schema.expected_objects(meta.schema), schema.stored_objects(connection)
    return LogLook(
        meta=meta,
        chain_hash=_chain_hash(connection, meta),
        last_id=connection.execute("SELECT max(rowid) FROM stored_events").fetchone()[0] or 0,
        triggers=sum(1 for name in found if name.startswith("trigger ")),
        differing=tuple(sorted(name for name in expected | found if expected.get(name) != found.get(name))),
        journal_mode=str(connection.execute("PRAGMA journal_mode").fetchone()[0]),
        synchronous=int(connection.execute("PRAGMA synchronous").fetchone()[0]),
    )


def _chain_hash(connection: sqlite3.Connection, meta: LogMeta) -> bytes | None:
    row = connection.execute(
        "SELECT topic, state FROM stored_events WHERE rowid = ? AND originator_id = ?", (meta.first_id, LOG_STREAM)
    ).fetchone()
    try:
        opened = decode_payload(row[0], row[1]) if row is not None else None
    except LogCorrupt:
        return None
    return opened.chain_hash if isinstance(opened, LogOpened) else None
