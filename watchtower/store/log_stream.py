"""Appending to the log's own stream, which has several writers in one process."""

from __future__ import annotations

from domain.events import LOG_STREAM, Payload, envelopes
from watchtower.ports import EventStore, StoreConflict

ATTEMPTS = 5
"""Tries before a conflict is passed on; its writers are few and slow."""


def append_to_log_stream(store: EventStore, payload: Payload) -> int:
    """Store one event about the log; returns its id. Raises `StoreError`."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return store.append(envelopes(LOG_STREAM, store.version(LOG_STREAM), (payload,)))
        except StoreConflict:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the loop returns or raises")
