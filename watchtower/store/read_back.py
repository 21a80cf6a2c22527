"""Why a job was refused: read its keys back and compare.

A caller that lost the answer of a successful append sends the same bytes again; it must get the same answer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec
from eventsourcing.persistence import StoredEvent

from watchtower.ports import StoreConflict

_ROWS = (
    "SELECT rowid, originator_version, topic, state FROM stored_events "
    "WHERE originator_id = ? AND originator_version BETWEEN ? AND ?"
)
_LAST = "SELECT max(originator_version) FROM stored_events WHERE originator_id = ?"


class Verdict(msgspec.Struct, frozen=True):
    """Exactly one of: stored already (`last_id` > 0), in conflict, or `would_fit` if it were written now."""

    last_id: int = 0
    conflict: StoreConflict | None = None

    @property
    def would_fit(self) -> bool:
        """True if every first version is the next one of its stream."""
        return self.last_id == 0 and self.conflict is None


def read_back(connection: sqlite3.Connection, job: Sequence[StoredEvent]) -> Verdict:
    """Compare a job with the stored rows of its streams."""
    last_id = 0
    complete = True
    for stream in dict.fromkeys(str(event.originator_id) for event in job):
        events = [event for event in job if event.originator_id == stream]
        found = _equal_rows(connection, stream, events)
        complete = complete and found > 0
        last_id = max(last_id, found)
    if complete:
        return Verdict(last_id=last_id)
    return Verdict(conflict=_first_conflict(connection, job))


def _equal_rows(connection: sqlite3.Connection, stream: str, events: Sequence[StoredEvent]) -> int:
    """Highest id of the rows if all of them are stored with equal topic and bytes, else 0."""
    bounds = (stream, events[0].originator_version, events[-1].originator_version)
    stored = {row[1]: (row[0], row[2], row[3]) for row in connection.execute(_ROWS, bounds)}
    ids = []
    for event in events:
        row = stored.get(event.originator_version)
        if row is None or row[1:] != (event.topic, event.state):
            return 0
        ids.append(int(row[0]))
    return max(ids)


def _first_conflict(connection: sqlite3.Connection, job: Sequence[StoredEvent]) -> StoreConflict | None:
    first: dict[str, int] = {}
    for event in job:
        first.setdefault(str(event.originator_id), event.originator_version)
    for stream, version in first.items():
        actual = connection.execute(_LAST, (stream,)).fetchone()[0] or 0
        if actual != version - 1:
            return StoreConflict(stream, version - 1, actual)
    return None
