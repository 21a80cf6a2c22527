"""The recorder of a log in several files: writes the last one, reads all.

What lies in the file that is written is answered as before. Only a question that reaches behind its first event goes
to the closed segments; the row `stream_base` says whether a stream has anything there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eventsourcing.persistence import Notification, StoredEvent

from watchtower.ports import Place
from watchtower.store.datastore import LogDatastore
from watchtower.store.recorder import ChainedRecorder
from watchtower.store.recorders import StoredRow
from watchtower.store.segments.closed import ClosedSegments
from watchtower.store.source import RawRow

_BASE = "SELECT version, segment FROM stream_base WHERE stream = ?"


class SegmentedRecorder(ChainedRecorder):
    """As `ChainedRecorder`, over `older` segments and a file whose first event has the id `first_id`."""

    def __init__(self, datastore: LogDatastore, older: ClosedSegments, first_id: int) -> None:
        super().__init__(datastore)
        self._older, self._first_id = older, first_id

    def select_events(  # type: ignore[override]
        self,
        originator_id: str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Events of a stream, oldest first or, with `desc`, newest first."""
        own = list(super().select_events(originator_id, gt=gt, lte=lte, desc=desc, limit=limit))
        first = (gt or 0) + 1
        if own and min(own[0].originator_version, own[-1].originator_version) == first:
            return own
        wanted = None if limit is None else limit - (len(own) if desc else 0)
        older = self._before(originator_id, first, lte, desc, wanted)
        events = own + older[::-1] if desc else older + own
        return events if limit is None else events[:limit]

    def _before(self, stream: str, first: int, lte: int | None, desc: bool, limit: int | None) -> list[StoredEvent]:
        """Events of closed segments, oldest first; with a limit those at the end that is asked for."""
        version, newest = self._base(stream)
        last = version if lte is None else min(lte, version)
        if limit is not None:
            first, last = (max(first, last - limit + 1), last) if desc else (first, min(last, first + limit - 1))
        if first > last:
            return []
        return [
            StoredEvent(row[1], row[2], row[3], row[4]) for row in self._older.by_stream(stream, first, last, newest)
        ]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Notifications from `start` on, across segments."""
        begin = 1 if start is None else start + (0 if inclusive_of_start else 1)
        found: list[Notification] = []
        while begin < self._first_id and len(found) < limit and (stop is None or begin <= stop):
            end = min(begin + limit - len(found), self._first_id) - 1
            end = end if stop is None else min(end, stop)
            rows = self._older.by_id(begin, end)
            found += [_notification(row) for row in rows if not topics or row[3] in topics]
            begin = end + 1
        if len(found) < limit and (stop is None or begin <= stop):
            found += super().select_notifications(max(begin, self._first_id), limit - len(found), stop, topics)
        return found

    def stored_rows(self, stream: str, first: int, last: int) -> Mapping[int, StoredRow]:
        """The rows of a stream with versions from `first` to `last`, by version."""
        rows = dict(super().stored_rows(stream, first, last))
        version, newest = self._base(stream)
        if first <= version:
            older = self._older.by_stream(stream, first, min(last, version), newest)
            rows.update({row[2]: (row[0], row[3], row[4]) for row in older})
        return rows

    def version(self, stream: str) -> int:
        """Last committed version of a stream, 0 if it has no event."""
        return super().version(stream) or self._base(stream)[0]

    def place(self, event_id: int) -> Place | None:
        """Where an event stands; None if there is none."""
        return super().place(event_id) if event_id >= self._first_id else self._older.place(event_id)

    def _base(self, stream: str) -> tuple[int, int]:
        """Last version of a stream before this segment and the segment that holds it; zeros if it began here."""
        with self.datastore.raw() as connection:
            row = connection.execute(_BASE, (stream,)).fetchone()
        return (0, 0) if row is None else (row[0], row[1])


def _notification(row: RawRow) -> Notification:
    return Notification(id=row[0], originator_id=row[1], originator_version=row[2], topic=row[3], state=row[4])
