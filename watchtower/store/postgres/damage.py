"""What is asked about a log on a server in which events were changed: see `watchtower/store/damage.py`."""

from __future__ import annotations

from typing import Any

from watchtower.store.damage import leaf_in
from watchtower.store.postgres.connection import Connection

_EVENT = (
    "SELECT originator_id, originator_version, topic, state "
    "FROM watchtower.wt_events WHERE notification_id = %b::bigint"
)
_COMMIT = (
    "SELECT last_id, leaf_count, leaves FROM watchtower.commit_chain "
    "WHERE last_id >= %b::bigint ORDER BY last_id LIMIT 1"
)
_BEGUN = "SELECT originator_id FROM watchtower.wt_events WHERE originator_version = 1"
_GAPS = (
    "SELECT originator_id FROM watchtower.wt_events GROUP BY originator_id HAVING count(*) <> max(originator_version)"
)


class StoredOnServer:
    """The answers of a database."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def event(self, event_id: int) -> tuple[object, object, object, object]:
        """Stream, version, topic and state as stored."""
        stream, version, topic, state = self._all(_EVENT, (event_id,))[0]
        return stream, version, topic, state

    def leaf_of(self, event_id: int) -> bytes:
        """The leaf that was committed for an event."""
        return leaf_in(self._all(_COMMIT, (event_id,))[0], event_id)

    def begun(self) -> set[str]:
        """Streams that have a version 1."""
        return {row[0] for row in self._all(_BEGUN)}

    def with_gaps(self) -> set[str]:
        """Streams whose last version is not the number of their events."""
        return {row[0] for row in self._all(_GAPS)}

    def _all(self, query: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        return self._connection.execute(query, parameters, binary=True).fetchall()
