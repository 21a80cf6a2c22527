"""Sealed secrets beside the log on the server: how a tower that stands by gets the keys of new channels.

The server never sees what is in them. Not part of the log: a secret is removed when its channel is over.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from watchtower.ports import StoreAway
from watchtower.store.postgres.connection import Connection, connect
from watchtower.store.postgres.errors import store_error
from watchtower.store.postgres.silence import Silence

_INSERT = "INSERT INTO watchtower.sealed_secrets (name, sealed) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING"
_DELETE = "DELETE FROM watchtower.sealed_secrets WHERE name = ANY(%s)"
_NAMES = "SELECT name FROM watchtower.sealed_secrets"
_BORDER = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"
_SINCE = "SELECT name, sealed FROM watchtower.sealed_secrets WHERE added >= %s::xid8"

PATIENCE = 3.0
"""Seconds for other questions to get out of the way; one takes milliseconds."""


class SealedSecrets:
    """The table, through one connection of its own. Methods raise `StoreError`; safe to use from several threads."""

    def __init__(self, url: str) -> None:
        """Connects at the first use."""
        self._url = url
        self._connection: Connection | None = None
        self._mutex = threading.Lock()
        self._border = "0"
        self._silence = Silence()

    def put(self, secrets: Sequence[tuple[bytes, bytes]]) -> None:
        """Store names with sealed bytes, durable on return; a name that is there keeps what it has."""
        with self._turn():
            try:
                connection = self._connected()
                with self._silence.asking(connection), connection.transaction(), connection.cursor() as cursor:
                    cursor.executemany(_INSERT, secrets)
            except psycopg.Error as error:
                raise self._failed(error) from error

    def remove(self, names: Collection[bytes]) -> None:
        """Forget names; unknown ones change nothing."""
        self._ask(_DELETE, (list(names),))

    def names(self) -> frozenset[bytes]:
        """All names."""
        return frozenset(row[0] for row in self._ask(_NAMES))

    def fresh(self) -> list[tuple[bytes, bytes]]:
        """Names and sealed bytes that were added since the last call; at the first all. Some may come twice."""
        ((border,),) = self._ask(_BORDER)  # what is still being written has a number from here on
        found = self._ask(_SINCE, (self._border,))
        self._border = border
        return found

    def look(self) -> None:
        """Called every second: end a question that the server does not answer."""
        self._silence.look()

    def close(self) -> None:
        """Close the connection."""
        with self._mutex:
            self._drop()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One question at a time. The pass asks too: it does not queue up behind everybody at a silent server."""
        if not self._mutex.acquire(timeout=PATIENCE):
            raise StoreAway("the database server does not answer; try again shortly")
        try:
            yield
        finally:
            self._mutex.release()

    def _ask(self, query: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        with self._turn():
            try:
                connection = self._connected()
                with self._silence.asking(connection):
                    cursor = connection.execute(query, parameters)
                return cursor.fetchall() if cursor.description is not None else []
            except psycopg.Error as error:
                raise self._failed(error) from error

    def _connected(self) -> Connection:
        if self._connection is not None and self._connection.closed:
            self._connection = None
        if self._connection is None:
            self._connection = connect(self._url)
        return self._connection

    def _failed(self, error: psycopg.Error) -> Exception:
        if isinstance(error, psycopg.OperationalError):
            self._drop()
        return store_error(error)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
