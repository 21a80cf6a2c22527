"""Raw reading of a log on PostgreSQL, for verification, export and copies: see `watchtower/store/source.py`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import msgspec
import psycopg

from watchtower.store.errors import StoreCheckFailed
from watchtower.store.postgres import schema
from watchtower.store.postgres.connection import connect, shown
from watchtower.store.postgres.errors import sqlstate, store_error
from watchtower.store.postgres.silence import Silence
from watchtower.store.source import Commit, RawRow, SourceMeta, Unreadable

_ROWS = (
    "SELECT notification_id, originator_id, originator_version, topic, state FROM watchtower.wt_events "
    "WHERE notification_id BETWEEN %b::bigint AND %b::bigint ORDER BY notification_id"
)
_CHAIN = "SELECT commit_no, first_leaf, leaf_count, last_id, head, leaves FROM watchtower.commit_chain "
_COMMITS = _CHAIN + "WHERE commit_no >= %b::bigint ORDER BY commit_no LIMIT %b::bigint"
_LAST_COMMIT = _CHAIN + "ORDER BY commit_no DESC LIMIT 1"
_COMMIT_AT = _CHAIN + "WHERE last_id >= %b::bigint ORDER BY last_id LIMIT 1"
_META = "SELECT log_id, origin, segment, first_leaf, first_id, prev_head, schema FROM watchtower.log_meta"
_LAST_ID = "SELECT max(notification_id) FROM watchtower.wt_events"
_TRIGGERS = (
    "SELECT 'trigger ' || tgname, pg_get_triggerdef(t.oid), tgenabled::text FROM pg_trigger AS t "
    "JOIN pg_class AS c ON c.oid = tgrelid WHERE relnamespace = %s::regnamespace AND NOT tgisinternal"
)
_FUNCTIONS = "SELECT 'function ' || proname, prosrc FROM pg_proc WHERE pronamespace = %s::regnamespace"
_ALWAYS = "A"

PAGE_EVENTS = 10_000
"""Events that one question may be about: it gets the time for them, if somebody looks for silence at all."""

NO_LOG = "the database holds no log yet, or an unfinished copy; run `watchtower init` or `watchtower store copy`"

_UNREADABLE = ("XX001", "XX002", "22021", "58030", "58P01")
"""A damaged table or index, bytes that are no text, a file that cannot be read."""


class PostgresAddress(msgspec.Struct, frozen=True):
    """Where a log is, with whatever credentials the url has; never shown."""

    url: str

    def open(self) -> PostgresSource:
        """Open it for reading; raises `StoreError`."""
        return PostgresSource(self.url)

    def __repr__(self) -> str:
        return f"PostgresAddress({shown(self.url)})"


class PostgresSource:
    """Raw rows of a log in a database; also beside a tower that writes it, and on a replica. One connection."""

    def __init__(self, url: str, meta: SourceMeta | None = None) -> None:
        """`meta` is given for an unfinished copy, which does not say itself which log it is."""
        self.address = PostgresAddress(url)
        self._mutex = threading.Lock()
        self.silence = Silence()
        with _reading():
            self._connection = connect(url, read_only=True)
        try:
            self.meta = meta or self._read_meta()
        except BaseException:
            self._connection.close()
            raise

    def last_id(self) -> int:
        """Id of the last stored event, 0 if there is none."""
        return int(self._all(_LAST_ID)[0][0] or 0)

    def last_commit(self) -> Commit:
        """The last row of the commit chain; `meta.start()` if there is none."""
        rows = self._all(_LAST_COMMIT)
        return Commit(*rows[0]) if rows else self.meta.start()

    def commits(self, from_no: int, limit: int) -> list[Commit]:
        """At most `limit` chain rows with numbers from `from_no` on, in order."""
        return [Commit(*row) for row in self._all(_COMMITS, (from_no, limit))]

    def commit_at(self, event_id: int) -> Commit | None:
        """The commit that holds an event; None behind the end of the chain."""
        rows = self._all(_COMMIT_AT, (event_id,))
        return Commit(*rows[0]) if rows else None

    def rows(self, first_id: int, last_id: int) -> list[RawRow]:
        """The stored events with ids from `first_id` to `last_id`, in order; those that are missing are missing."""
        return self._all(_ROWS, (first_id, last_id))

    def differing_objects(self) -> list[str]:
        """Names of triggers and functions that are missing, changed or not always on."""
        found: dict[str, str] = {}
        for name, definition, enabled in self._all(_TRIGGERS, (schema.SCHEMA_NAME,)):
            found.update([schema.squeezed(name, definition if enabled == _ALWAYS else f"{definition} [{enabled}]")])
        found.update(schema.squeezed(name, body) for name, body in self._all(_FUNCTIONS, (schema.SCHEMA_NAME,)))
        expected = schema.expected_objects()
        return sorted(name for name in expected | found if expected.get(name) != found.get(name))

    def storage_faults(self) -> list[str]:
        """Nothing: PostgreSQL checks its pages when they are read, if data checksums are on."""
        return []

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_meta(self) -> SourceMeta:
        rows = self._all(_META)
        if not rows:
            raise StoreCheckFailed("log_meta", NO_LOG)
        return SourceMeta(*rows[0])

    def _all(self, query: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        asking = self.silence.asking(self._connection, PAGE_EVENTS)
        with _reading(), self._mutex, asking, self._connection.cursor(binary=True) as cursor:
            return cursor.execute(query, parameters).fetchall()


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        if sqlstate(error) in _UNREADABLE:
            raise Unreadable(f"the database reports a damage: {str(error).splitlines()[0]}") from error
        raise store_error(error) from error
