"""What questions about the past ask of the log and of the read models, whatever database they are in."""

from __future__ import annotations

from typing import Protocol

from domain.events import Envelope, Recorded
from projections.tables import Key, Row, Table
from watchtower.ports import Place


class HistoryLog(Protocol):
    """The log, as far as it is read here."""

    def read_stream(self, stream: str, after: int = 0, limit: int | None = None) -> list[Envelope]:
        """Envelopes of a stream with version > `after`, in order."""

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """The log in order of notification id, behind `after_id`."""

    def last_id(self) -> int:
        """Highest committed notification id, 0 for an empty log."""

    def version(self, stream: str) -> int:
        """Last version of a stream, 0 if it has no event."""

    def event_id(self, stream: str, version: int) -> int | None:
        """Notification id of a stored event, None if there is none."""

    def place(self, event_id: int) -> Place:
        """Where a stored event stands; events of one commit have the same head."""


class HistoryViews(Protocol):
    """The read models, as far as they are read here. Rows are in key order."""

    def find(self, table: Table, column: str, value: bytes | str | int) -> list[Row]:
        """Rows with this value in an indexed column."""

    def page(self, table: Table, after: Key | None, limit: int) -> list[Row]:
        """Rows behind a key."""

    def position(self, projection: str) -> int:
        """Id of the last event that a projection has applied."""


def version_at(log: HistoryLog, stream: str, position: int) -> int:
    """Last version of a stream within the first `position` events, 0 if it had none: a search by halves."""
    low, high = 0, log.version(stream)
    while low < high:
        middle = (low + high + 1) // 2
        event_id = log.event_id(stream, middle)
        if event_id is not None and event_id <= position:
            low = middle
        else:
            high = middle - 1
    return low


def commit_end(log: HistoryLog, event_id: int) -> int:
    """Id of the last event of the commit that holds an event: the last one with the same head.

    What a block causes is committed alone, so this is the end of its job.
    """
    head, last = log.place(event_id).head, log.last_id()
    low, step = event_id, 1
    while low + step <= last and log.place(low + step).head == head:
        low, step = low + step, 2 * step
    high = min(last, low + step - 1)
    while low < high:
        middle = (low + high + 1) // 2
        if log.place(middle).head == head:
            low = middle
        else:
            high = middle - 1
    return low
