"""A process that appends to a log in turn with others: `python -m tests.postgres.writer URL STREAM JOBS`."""

from __future__ import annotations

import sys
from contextlib import suppress

from eventsourcing.persistence import StoredEvent
from psycopg.errors import LockNotAvailable

from watchtower.store.postgres.datastore import LogDatastore
from watchtower.store.postgres.recorder import PostgresRecorder

EVENTS = 3


def main(url: str, stream: str, jobs: int) -> None:
    """Append `jobs` jobs of `EVENTS` events to one stream."""
    datastore = LogDatastore(url)
    recorder = PostgresRecorder(datastore, exclusive=False)
    for first in range(1, jobs * EVENTS, EVENTS):
        patiently(recorder, [StoredEvent(stream, first + more, "re06", b"\x90") for more in range(EVENTS)])
    datastore.close()


def patiently(recorder: PostgresRecorder, events: list[StoredEvent]) -> None:
    """Write once, and wait for the others as long as it takes: one may have the lock while the machine stands still."""
    while True:
        with suppress(LockNotAvailable):
            recorder.insert_events(events)
            return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
