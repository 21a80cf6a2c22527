"""Why a job was refused: read its keys back and compare.

A caller that lost the answer of a successful append sends the same bytes again; it must get the same answer. Nobody
else writes meanwhile: whoever asks owns the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
from eventsourcing.persistence import StoredEvent

from watchtower.ports import StoreConflict
from watchtower.store.recorders import StoredRow


class Verdict(msgspec.Struct, frozen=True):
    """Exactly one of: stored already (`last_id` > 0), in conflict, or `would_fit` if it were written now."""

    last_id: int = 0
    conflict: StoreConflict | None = None

    @property
    def would_fit(self) -> bool:
        """True if every first version is the next one of its stream."""
        return self.last_id == 0 and self.conflict is None


class Keys(Protocol):
    """The part of a recorder that is asked."""

    def stored_rows(self, stream: str, first: int, last: int) -> Mapping[int, StoredRow]:
        """Rows by version."""

    def version(self, stream: str) -> int:
        """Last version of a stream."""


def read_back(keys: Keys, job: Sequence[StoredEvent]) -> Verdict:
    """Compare a job with the stored rows of its streams."""
    last_id = 0
    complete = True
    for stream in dict.fromkeys(str(event.originator_id) for event in job):
        events = [event for event in job if event.originator_id == stream]
        found = _equal_rows(keys, stream, events)
        complete = complete and found > 0
        last_id = max(last_id, found)
    if complete:
        return Verdict(last_id=last_id)
    return Verdict(conflict=_first_conflict(keys, job))


def _equal_rows(keys: Keys, stream: str, events: Sequence[StoredEvent]) -> int:
    """Highest id of the rows if all of them are stored with equal topic and bytes, else 0."""
    stored = keys.stored_rows(stream, events[0].originator_version, events[-1].originator_version)
    ids = []
    for event in events:
        row = stored.get(event.originator_version)
        if row is None or row[1:] != (event.topic, event.state):
            return 0
        ids.append(row[0])
    return max(ids)


def _first_conflict(keys: Keys, job: Sequence[StoredEvent]) -> StoreConflict | None:
    first: dict[str, int] = {}
    for event in job:
        first.setdefault(str(event.originator_id), event.originator_version)
    for stream, version in first.items():
        actual = keys.version(stream)
        if actual != version - 1:
            return StoreConflict(stream, version - 1, actual)
    return None
