"""The read models of one stream: those that follow from its events alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from domain.events import Recorded
from projections.catalog import PROJECTIONS
from projections.projector import Projector
from watchtower.history.log import version_at
from watchtower.store.reader import LogReader
from watchtower.store.views import SqliteRows, new_views_file


class StreamLog:
    """The events of one stream under their ids, as a projector reads a log."""

    def __init__(self, log: LogReader, stream: str, position: int) -> None:
        """Up to the first `position` events of the log."""
        self._log, self._stream = log, stream
        self._last = version_at(log, stream, position)
        self._read = 0

    @property
    def events(self) -> int:
        """How many events the stream had."""
        return self._last

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """The next events. They are asked for in order and once; `after_id` is that of the last ones."""
        del after_id
        found = self._log.read_recorded(self._stream, self._read, min(limit, self._last - self._read))
        self._read += len(found)
        return found


@contextmanager
def stream_views(log: LogReader, stream: str, position: int) -> Iterator[tuple[SqliteRows, int]]:
    """Read models after the events of a stream among the first `position`, and how many those are."""
    with TemporaryDirectory() as scratch:
        rows = new_views_file(Path(scratch) / "views.db", log.meta.log_id, PROJECTIONS)
        try:
            events = StreamLog(log, stream, position)
            for _ in Projector(events, rows, PROJECTIONS).catch_up():
                pass
            yield rows, events.events
        finally:
            rows.close()
