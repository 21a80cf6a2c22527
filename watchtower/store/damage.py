"""Which channels lost something when events were changed on the disk: the others have to be served all the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from domain.events import CHAIN_STREAM, LOG_STREAM
from domain.log_chain import HASH_SIZE, leaf
from watchtower.store.chain_walk import Flaw

MOST = 50
"""Changed events with which a tower still starts; with more of them nothing about the file can be believed."""

_CHANGED = ("leaf", "topic")
"""Findings that concern one event; all others put the order of events in doubt."""


def damaged_streams(connection: sqlite3.Connection, findings: Sequence[Flaw]) -> frozenset[str] | None:
    """Channel streams that hold a changed event or lack one; None if the damage does not end at single channels."""
    if len(findings) > MOST or any(finding.check not in _CHANGED for finding in findings):
        return None
    streams: set[str] = set()
    for finding in findings:
        found = _streams_of(connection, finding.id)
        if not found:
            return None
        streams |= found
    streams |= _streams_with_gaps(connection)
    return None if streams & {CHAIN_STREAM, LOG_STREAM} else frozenset(streams)


def _streams_of(connection: sqlite3.Connection, event_id: int) -> set[str]:
    """The stream in the row, and the one whose name fits the event's hash; empty if the event belongs to nobody."""
    query = "SELECT originator_id, originator_version, topic, state FROM stored_events WHERE rowid = ?"
    stream, version, topic, state = connection.execute(query, (event_id,)).fetchone()
    if not (isinstance(stream, str) and isinstance(topic, str) and isinstance(state, bytes)):
        return set()
    if not isinstance(version, int) or not 0 <= version < 1 << 64:
        return {stream}
    expected = _expected_leaf(connection, event_id)
    begun = connection.execute("SELECT originator_id FROM stored_events WHERE originator_version = 1")
    known = {str(row[0]) for row in begun} | stream_bases(connection).keys()
    owners = {name for name in known if leaf(name, version, topic, state) == expected}
    return owners | {stream} if owners or stream in known else set()


def _expected_leaf(connection: sqlite3.Connection, event_id: int) -> bytes:
    last_id, count, leaves = connection.execute(
        "SELECT last_id, leaf_count, leaves FROM commit_chain WHERE last_id >= ? ORDER BY last_id LIMIT 1", (event_id,)
    ).fetchone()
    place = event_id - (last_id - count + 1)
    return bytes(leaves[HASH_SIZE * place : HASH_SIZE * (place + 1)])


def stream_bases(connection: sqlite3.Connection) -> dict[str, int]:
    """Version with which each stream ended in the segments before this one; empty for the first one."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'stream_base'").fetchone() is None:
        return {}
    return {str(stream): version for stream, version in connection.execute("SELECT stream, version FROM stream_base")}


def _streams_with_gaps(connection: sqlite3.Connection) -> set[str]:
    """If the version in a row was changed, the stream lacks it."""
    bases = stream_bases(connection)
    query = "SELECT originator_id, count(*), max(originator_version) FROM stored_events GROUP BY originator_id"
    return {str(row[0]) for row in connection.execute(query) if row[1] + bases.get(str(row[0]), 0) != row[2]}
