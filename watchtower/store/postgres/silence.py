"""A server that neither answers nor hangs up: frozen, its disk stuck, or waiting at a commit for a lost replica.

The network notices nothing of it, so a question would wait for ever, and a penalty with it. Somebody looks every second
and ends the connection of a question that waits for too long. That is a lost connection like any other: what became of
a commit is looked up when the server answers again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from time import monotonic

import psycopg
import structlog

from watchtower.store.postgres.connection import Connection

_log = structlog.get_logger(__name__)

LIMIT = 8.0
"""Seconds for an answer. Longer than the 5 s that a commit may wait for the lock of another writer."""

EVENTS_PER_SECOND = 1_000
"""A job gets as much more time as a very slow server needs for its events: a large block has to get through."""


class Silence:
    """Guards one connection at a time. `asking` is for the thread that asks, `look` for any other."""

    def __init__(self) -> None:
        self._mutex = Lock()
        self._asked: tuple[Connection, float, float] | None = None

    @contextmanager
    def asking(self, connection: Connection, events: int = 0) -> Iterator[None]:
        """Around everything that waits for the server, which is to store so many events."""
        began = monotonic()
        with self._mutex:
            self._asked = connection, began, began + LIMIT + events / EVENTS_PER_SECOND
        try:
            yield
        finally:
            with self._mutex:
                self._asked = None

    def look(self) -> bool:
        """End the connection if it is time; whoever waits gets `psycopg.OperationalError`. True if it was ended."""
        with self._mutex:
            if self._asked is None or monotonic() < self._asked[2]:
                return False
            connection, began, _ = self._asked
            self._asked = None
            _hang_up(connection)
        _log.error("server_silent", seconds=round(monotonic() - began, 3))
        return True


def _hang_up(connection: Connection) -> None:
    """Only the socket: the connection itself belongs to the thread that waits."""
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as shared:
        shared.shutdown(socket.SHUT_RDWR)
