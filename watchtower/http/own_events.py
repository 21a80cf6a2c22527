"""The events of a few channels, read from their own streams: what others have stored costs nothing here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge

from domain.events import Recorded
from watchtower.history.log import version_at
from watchtower.ports import EventStore

AT_ONCE = 500
"""Events in memory at one time, divided among the streams; at least one of each."""


def own_events(store: EventStore, streams: Sequence[str], after: int, until: int) -> Iterator[Recorded]:
    """What stands in these streams behind position `after` of the log, up to `until`, in the order of the log.

    It is read as it is asked for. `until` is no later than the end of the log.
    """
    limit = max(1, AT_ONCE // max(1, len(streams)))
    return merge(*(_of_one(store, stream, after, until, limit) for stream in streams), key=lambda each: each.id)


def _of_one(store: EventStore, stream: str, after: int, until: int, limit: int) -> Iterator[Recorded]:
    version = version_at(store, stream, after)
    while page := store.read_stream(stream, after=version, limit=limit):
        for envelope in page:
            event_id = store.event_id(stream, envelope.version)
            if event_id is None or event_id > until:
                return  # stored while this was read: the log tells it
            yield Recorded(event_id, envelope)
        version = page[-1].version
