"""Which channels lost something when events were changed on the disk: the others have to be served all the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Protocol

from domain.events import CHAIN_STREAM, LOG_STREAM
from domain.log_chain import HASH_SIZE, leaf
from watchtower.store.chain_walk import Flaw
from watchtower.store.errors import StoreCheckFailed

MOST = 50
"""Changed events with which a tower still starts; with more of them nothing about the file can be believed."""

_CHANGED = ("leaf",)
"""Findings that concern one event; all others put the order of events in doubt."""


class Stored(Protocol):
    """What is asked about a log in which events were changed."""

    def event(self, event_id: int) -> tuple[object, object, object, object]:
        """Stream, version, topic and state as stored."""

    def leaf_of(self, event_id: int) -> bytes:
        """The leaf that was committed for an event."""

    def begun(self) -> set[str]:
        """Names of all streams that have a beginning."""

    def with_gaps(self) -> set[str]:
        """Streams whose last version is not the number of their events."""


def refuse_newer(findings: Sequence[Flaw]) -> None:
    """Raise `StoreCheckFailed` if an event is as it was committed, and of a topic that is not known here.

    That is no damage, and no channel to be set aside: what this program does not know may be a breach.
    """
    unknown = next((finding for finding in findings if finding.check == "topic"), None)
    if unknown is not None:
        raise StoreCheckFailed(
            "topics",
            f"{unknown.sentence}: a newer version of this program wrote to the log; run that version or a later one",
        )


def damaged_streams(stored: Stored, findings: Sequence[Flaw]) -> frozenset[str] | None:
    """Channel streams that hold a changed event or lack one; None if the damage does not end at single channels."""
    if len(findings) > MOST or any(finding.check not in _CHANGED for finding in findings):
        return None
    streams: set[str] = set()
    for finding in findings:
        found = _streams_of(stored, finding.id)
        if not found:
            return None
        streams |= found
    streams |= stored.with_gaps()  # if the version in a row was changed, the stream lacks it
    return None if streams & {CHAIN_STREAM, LOG_STREAM} else frozenset(streams)


def _streams_of(stored: Stored, event_id: int) -> set[str]:
    """The stream in the row, and the one whose name fits the event's hash; empty if the event belongs to nobody."""
    stream, version, topic, state = stored.event(event_id)
    if not (isinstance(stream, str) and isinstance(topic, str) and isinstance(state, bytes)):
        return set()
    if not isinstance(version, int) or not 0 <= version < 1 << 64:
        return {stream}
    expected, known = stored.leaf_of(event_id), stored.begun()
    owners = {name for name in known if leaf(name, version, topic, state) == expected}
    return owners | {stream} if owners or stream in known else set()


def leaf_in(row: Sequence[Any], event_id: int) -> bytes:
    """The leaf of an event in `last_id, leaf_count, leaves` of its commit."""
    last_id, count, leaves = row
    place = event_id - (last_id - count + 1)
    return bytes(leaves[HASH_SIZE * place : HASH_SIZE * (place + 1)])


class StoredInFile:
    """The answers of a log file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def event(self, event_id: int) -> tuple[object, object, object, object]:
        """Stream, version, topic and state as stored."""
        query = "SELECT originator_id, originator_version, topic, state FROM stored_events WHERE rowid = ?"
        stream, version, topic, state = self._connection.execute(query, (event_id,)).fetchone()
        return stream, version, topic, state

    def leaf_of(self, event_id: int) -> bytes:
        """The leaf that was committed for an event."""
        query = "SELECT last_id, leaf_count, leaves FROM commit_chain WHERE last_id >= ? ORDER BY last_id LIMIT 1"
        return leaf_in(tuple(self._connection.execute(query, (event_id,)).fetchone()), event_id)

    def begun(self) -> set[str]:
        """Streams that began in this file or in an earlier segment."""
        query = "SELECT originator_id FROM stored_events WHERE originator_version = 1"
        return {str(row[0]) for row in self._connection.execute(query)} | stream_bases(self._connection).keys()

    def with_gaps(self) -> set[str]:
        """Streams whose last version is not the number of their events, with those of earlier segments."""
        bases = stream_bases(self._connection)
        query = "SELECT originator_id, count(*), max(originator_version) FROM stored_events GROUP BY originator_id"
        rows = self._connection.execute(query)
        return {str(row[0]) for row in rows if row[1] + bases.get(str(row[0]), 0) != row[2]}


def stream_bases(connection: sqlite3.Connection) -> dict[str, int]:
    """Version with which each stream ended in the segments before this one; empty for the first one."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'stream_base'").fetchone() is None:
        return {}
    return {str(stream): version for stream, version in connection.execute("SELECT stream, version FROM stream_base")}
