"""Making a log of millions of events in seconds: one transaction, guards put back at the end, a whole commit chain."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from domain.events import FundingConfirmed, StateUpdated, encode_payload
from domain.log_chain import leaf, next_head
from tests.support.golden import example
from tests.support.stores import new_log
from watchtower.store.sqlite_source import SqliteSource

BulkRow = tuple[str, int, str, bytes]
"""Stream, version, topic, state."""

_EVENT = "INSERT INTO stored_events (originator_id, originator_version, topic, state) VALUES (?, ?, ?, ?)"
_COMMIT = "INSERT INTO commit_chain VALUES (?, ?, ?, ?, ?, ?)"


def write_rows(directory: Path, rows: Iterable[BulkRow], per_commit: int = 32, name: str = "log.db") -> Path:
    """A new log that holds `LogOpened` and `rows`, `per_commit` of them in each commit."""
    path = new_log(directory, name)
    append_rows(path, rows, per_commit)
    return path


def append_rows(path: Path, rows: Iterable[BulkRow], per_commit: int = 32) -> None:
    """Add `rows` to a log that nobody has open; versions must go on where each stream ends."""
    with SqliteSource(path) as source:
        tip = source.last_commit()
    number, position, head = tip.commit_no, tip.last_id, tip.head
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -1000000")
    connection.execute("BEGIN IMMEDIATE")
    guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for guard, _ in guards:
        connection.execute(f"DROP TRIGGER {guard}")
    remaining = iter(rows)
    while batch := list(islice(remaining, per_commit)):
        leaves = b"".join(leaf(*row) for row in batch)
        head = next_head(head, position, position + 1, leaves)
        number, position = number + 1, position + len(batch)
        connection.executemany(_EVENT, batch)
        connection.execute(_COMMIT, (number, position - len(batch), len(batch), position, head, leaves))
    for _, text in guards:
        connection.execute(text)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def channel_rows(channels: int, updates: int) -> Iterator[BulkRow]:
    """`channels` streams with a funding and `updates` states each, all channels taking turns."""
    opened = encode_payload(example(FundingConfirmed))
    updated = encode_payload(example(StateUpdated))
    for version in range(1, updates + 2):
        topic, state = (FundingConfirmed.TOPIC, opened) if version == 1 else (StateUpdated.TOPIC, updated)
        for channel in range(channels):
            yield f"c{channel:022d}", version, topic, state
