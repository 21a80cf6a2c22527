"""A process that appends to a log in turn with others: `python -m tests.postgres.writer URL STREAM JOBS`."""

from __future__ import annotations

import sys

from eventsourcing.persistence import StoredEvent

from watchtower.store.postgres.datastore import LogDatastore
from watchtower.store.postgres.recorder import PostgresRecorder

EVENTS = 3


def main(url: str, stream: str, jobs: int) -> None:
    """Append `jobs` jobs of `EVENTS` events to one stream."""
    datastore = LogDatastore(url)
    recorder = PostgresRecorder(datastore, exclusive=False)
    for first in range(1, jobs * EVENTS, EVENTS):
        recorder.insert_events([StoredEvent(stream, first + more, "re06", b"\x90") for more in range(EVENTS)])
    datastore.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
