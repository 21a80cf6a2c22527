"""The views of one channel made again, for a channel that was put into quarantine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from eventsourcing.persistence import PersistenceError

from domain.events import CHAIN_STREAM, Recorded
from projections.catalog import PROJECTIONS
from projections.channels import ChannelViews
from projections.preimages import Preimages
from projections.tables import Projection
from watchtower.ports import StoreError
from watchtower.store.errors import store_error
from watchtower.store.reader import LogReader
from watchtower.store.views import SqliteBatch, SqliteRows

PAGE = 1_000
OF_CHANNELS: tuple[Projection, ...] = (ChannelViews(), Preimages())
"""Projections that fold streams of channels."""

KEPT = frozenset({"preimages"})
"""Tables whose rows belong to all channels: what a stream adds is added, nothing is removed."""


class StillStuck(StoreError):
    """An event of the stream cannot be folded by this version of the program either; nothing was changed."""


class NoSuchStream(StoreError):
    """The log has no such stream of a channel."""


def rebuild_stream(rows: SqliteRows, log: LogReader, stream: str) -> int:
    """Fold a stream from its first event and replace its rows, all or nothing; returns the number of events.

    The service is stopped. Ends the quarantine of the stream. Raises `StillStuck`, `NoSuchStream` or `StoreError`.
    """
    until = rows.position(PROJECTIONS[0].name)
    events = list(_recorded(log, stream, until))
    if not events or stream == CHAIN_STREAM or not stream.startswith("c"):
        raise NoSuchStream(f"the log has no channel {stream}; `watchtower channel list --json` shows the streams")
    try:
        with rows.datastore.transaction(commit=True) as cursor:
            cursor.execute("DELETE FROM quarantine WHERE stream = ?", (stream,))
            for table in (table for projection in OF_CHANNELS for table in projection.tables):
                if "stream" in table.columns and table.name not in KEPT:
                    cursor.execute(f"DELETE FROM {table.name} WHERE stream = ?", (stream,))  # noqa: S608
            batch = SqliteBatch(cursor, rows.tracking)
            for start in range(0, len(events), PAGE):
                _apply(batch, events[start : start + PAGE])
    except (sqlite3.Error, PersistenceError) as error:
        raise store_error(error) from error
    return len(events)


def _apply(batch: SqliteBatch, page: list[Recorded]) -> None:
    for projection in OF_CHANNELS:
        tables = {table.name: table for table in projection.tables}
        keys = {key for recorded in page for key in projection.keys(recorded)}
        before = batch.load(projection.tables[0], keys) if keys else {}
        try:
            changes = projection.apply(before, page)
        except Exception as error:
            first, last = page[0].id, page[-1].id
            raise StillStuck(
                f"events {first} to {last} cannot be folded by {projection.name} ({type(error).__name__}); "
                "a newer version of the program may be able to"
            ) from error
        batch.write(tables, changes)


def _recorded(log: LogReader, stream: str, until: int) -> Iterator[Recorded]:
    for event in log.read_stream(stream):
        event_id = log.event_id(stream, event.version)
        if event_id is not None and event_id <= until:
            yield Recorded(event_id, event)
