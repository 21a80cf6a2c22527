"""Hearing of commits of other processes: LISTEN on a connection of its own, in a thread that can be ended at once."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
from eventsourcing.persistence import ListenNotifySubscription

from watchtower.ports import StoreError
from watchtower.store.postgres.connection import Connection, connect
from watchtower.store.postgres.schema import CHANNEL

if TYPE_CHECKING:
    from watchtower.store.postgres.recorder import PostgresRecorder

AGAIN_SECONDS = 0.5
"""Pause before the connection is made again after it was lost."""

LOOK_SECONDS = 5.0
"""A message may get lost with a connection that died without a word: then the caller looks by itself."""


class CommitListener:
    """Calls `wake` after each commit, after each reconnection, and every few seconds to be safe. Until `close`."""

    def __init__(self, url: str, wake: Callable[[], None]) -> None:
        self._url, self._wake = url, wake
        self._ending = threading.Event()
        self._end_read, self._end_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="store-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; `wake` is not called afterwards."""
        if not self._ending.is_set():
            self._ending.set()
            os.write(self._end_write, b"x")
        self._thread.join()
        with suppress(OSError):
            os.close(self._end_read)
            os.close(self._end_write)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                with connect(self._url) as connection:
                    connection.execute(f'LISTEN "{CHANNEL}"')
                    self._hear(connection)
            except (psycopg.Error, StoreError):  # the log says so itself to everybody who asks it
                self._wake()
                self._ending.wait(AGAIN_SECONDS)

    def _hear(self, connection: Connection) -> None:
        self._wake()  # what was committed before LISTEN took effect
        while True:
            readable, _, _ = select.select([connection.fileno(), self._end_read], [], [], LOOK_SECONDS)
            if self._ending.is_set():
                return
            if connection.fileno() in readable:
                for _ in connection.notifies(timeout=0):
                    pass
            self._wake()


class LogSubscription(ListenNotifySubscription["PostgresRecorder"]):
    """The library's pull loop, woken by commits of any process. The library's own may miss one before it listens."""

    def __init__(self, recorder: PostgresRecorder, gt: int | None = None, topics: Sequence[str] = ()) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._listener = CommitListener(recorder.datastore.url, self._has_been_notified.set)

    def stop(self) -> None:
        """End the iteration and stop listening."""
        super().stop()
        self._listener.close()
