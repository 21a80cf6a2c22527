"""Making the database file of a log, or of a segment of one: complete under another name, to be renamed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from domain.events import Envelope, encode_payload
from domain.log_chain import first_head, leaf, next_head
from watchtower.store import schema
from watchtower.store.recorders import LogMeta


def _nothing(connection: sqlite3.Connection) -> None:
    """The first file of a log follows on nothing."""


def make_file(
    path: Path, meta: LogMeta, opened: Envelope, fill: Callable[[sqlite3.Connection], None] = _nothing
) -> Path:
    """Make `<path>.new` (mode 0600) with the tables, `meta`, and `opened` as its only event; returns its path.

    `fill` is called in the same transaction, before the event. What an earlier attempt left is overwritten.
    """
    building = path.with_name(path.name + ".new")
    for suffix in ("", "-wal", "-shm", "-journal"):
        building.with_name(building.name + suffix).unlink(missing_ok=True)
    os.close(os.open(building, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(building, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {schema.PAGE_SIZE}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {meta.schema}")
        for statement in schema.statements(meta.schema):
            connection.execute(statement)
        _begin(connection, meta, opened, fill)
        connection.execute("COMMIT")
    finally:
        connection.close()
    return building


def _begin(
    connection: sqlite3.Connection, meta: LogMeta, opened: Envelope, fill: Callable[[sqlite3.Connection], None]
) -> None:
    row = (meta.log_id, meta.origin, meta.segment, meta.first_leaf, meta.first_id, meta.prev_head, meta.stream_key)
    connection.execute("INSERT INTO log_meta VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, meta.schema))
    if meta.first_id > 1:
        connection.execute("INSERT INTO sqlite_sequence VALUES ('stored_events', ?)", (meta.first_id - 1,))
    fill(connection)
    state = encode_payload(opened.payload)
    connection.execute(
        "INSERT INTO stored_events (originator_id, originator_version, topic, state) VALUES (?, ?, ?, ?)",
        (opened.stream, opened.version, opened.topic, state),
    )
    only_leaf = leaf(opened.stream, opened.version, opened.topic, state)
    start = first_head(meta.origin, meta.log_id, meta.first_leaf, meta.first_id, meta.prev_head)
    head = next_head(start, meta.first_leaf, meta.first_id, only_leaf)
    values = (meta.first_leaf, meta.first_id, head, only_leaf)
    connection.execute("INSERT INTO commit_chain VALUES (1, ?, 1, ?, ?, ?)", values)
