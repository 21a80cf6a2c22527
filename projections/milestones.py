"""When things of each kind were recorded last: incidents, and states that clients uploaded.

An alarm about a loss must not depend on a counter that began with the process: it asks how long ago the last one was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from domain.events import AlertKind, AlertRaised, Payload, Recorded, SettleConfirmed, StateUpdated
from projections.tables import Change, Key, Row, Table

STATE_UPDATE = "state_update"
"""The name of an accepted state among the names of incidents."""

FUNDS_LOST = AlertKind.FUNDS_LOST.name.lower()


class MilestoneRow(msgspec.Struct, frozen=True):
    """`id` is the latest event of this kind, `recorded_at` (Unix microseconds) when it was written, not its block."""

    kind: str
    id: int
    recorded_at: int


TABLE = Table("milestones", MilestoneRow)


class Milestones:
    """Folds every event, but only some kinds leave a trace."""

    name: ClassVar[str] = "milestones"
    version: ClassVar[int] = 1
    tables: ClassVar[tuple[Table, ...]] = (TABLE,)

    def keys(self, recorded: Recorded) -> Sequence[Key]:
        """Nothing needs to be loaded: a later event replaces the row."""
        del recorded
        return ()

    def apply(self, before: Mapping[Key, Row], page: Iterable[Recorded]) -> list[Change]:
        """The kinds that the page touches."""
        del before
        made = self.part((recorded.id, recorded.envelope.payload) for recorded in page)
        return [Change(TABLE.name, key, row) for key, row in made.items()]

    def part(self, events: Iterable[tuple[int, Payload]]) -> dict[Key, Row]:
        """The latest of each kind among these events."""
        latest: dict[Key, Row] = {}
        for event_id, payload in events:
            kind = kind_of(payload)
            if kind is not None and ((kind,) not in latest or _id(latest[kind,]) < event_id):
                latest[kind,] = (kind, event_id, payload.recorded_at)
        return latest

    def merge(self, first: Row, second: Row) -> Row:
        """The later of two."""
        return max(first, second, key=_id)


def kind_of(payload: Payload) -> str | None:
    """What an event is a milestone of. A loss counts again when it is in a block again, after a reorg."""
    match payload:
        case StateUpdated():  # nearly all events of a busy tower
            return STATE_UPDATE
        case AlertRaised(kind=kind):
            return kind.name.lower()
        case SettleConfirmed(revoked=True):
            return FUNDS_LOST
        case _:
            return None


def _id(row: Row) -> int:
    event_id = row[1]
    assert isinstance(event_id, int)
    return event_id
