"""A database as the source or target of a copy: rows by COPY, many commits per transaction, the name at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from watchtower.ports import StoreLocked
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.postgres.checks import check_server, read_meta
from watchtower.store.postgres.connection import connect, shown
from watchtower.store.postgres.create import name_log
from watchtower.store.postgres.errors import store_error
from watchtower.store.postgres.migrate import check_schema
from watchtower.store.postgres.source import PostgresSource
from watchtower.store.recorders import LogMeta
from watchtower.store.source import Commit, LogSource, RawRow, SourceMeta

_COPY_EVENTS = (
    "COPY watchtower.wt_events (notification_id, originator_id, originator_version, topic, state) "
    "FROM STDIN (FORMAT BINARY)"
)
_COPY_CHAIN = (
    "COPY watchtower.commit_chain (commit_no, first_leaf, leaf_count, last_id, head, leaves) FROM STDIN (FORMAT BINARY)"
)
_END = (
    "SELECT EXISTS (SELECT 1 FROM watchtower.log_meta), (SELECT max(notification_id) FROM watchtower.wt_events), "
    "(SELECT max(commit_no) FROM watchtower.commit_chain)"
)
_LEAD = "SELECT pg_try_advisory_lock(hashtextextended('watchtower.leader', 0))"
"""The lock that the leading tower holds."""


class ServerEnd:
    """A log in a database."""

    def __init__(self, url: str) -> None:
        self._url, self.name = url, shown(url)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The lock of the leading tower; standby towers wait meanwhile."""
        try:
            with connect(self._url) as connection:
                free: Any = connection.execute(_LEAD).fetchone()
                if not free[0]:
                    raise StoreLocked(f"a tower or another copy uses {self.name} now; stop it first")
                yield
        except psycopg.Error as error:
            raise store_error(error) from error

    def meta(self) -> LogMeta:
        """The log's row; raises `StoreCheckFailed`."""
        try:
            with connect(self._url, read_only=True) as connection:
                return read_meta(connection)
        except psycopg.Error as error:
            raise store_error(error) from error

    def source(self) -> PostgresSource:
        """Read the database."""
        return PostgresSource(self._url)

    def target(self, meta: LogMeta, source: LogSource) -> ServerTarget:
        """A copy in a migrated database that holds nothing, or an unfinished copy of the same log."""
        return ServerTarget(self._url, meta, source)


class ServerTarget:
    """A copy in a database. It is a log once it has its name."""

    def __init__(self, url: str, meta: LogMeta, source: LogSource) -> None:
        self._url, self._meta, self._name = url, meta, shown(url)
        with _errors():
            self._connection = connect(url)
        try:
            with _errors():
                check_schema(self._connection)
                check_server(self._connection)
                self.last = self._end(source)
        except BaseException:
            self._connection.close()
            raise

    def _end(self, source: LogSource) -> Commit:
        row: Any = self._connection.execute(_END).fetchone()
        named, last_id, commit_no = row
        if named:
            raise StoreCheckFailed("target", f"{self._name} holds a log already; copy to an empty database")
        if last_id is None:
            return source.meta.start()
        with self.source() as copy:
            end = copy.last_commit()
        if [end] != source.commits(commit_no, 1) or end.last_id != last_id:
            raise StoreCheckFailed(
                "target", f"{self._name} holds an unfinished copy of another log; copy to an empty database"
            )
        return end

    def add(self, commits: Sequence[Commit], rows: Sequence[RawRow]) -> None:
        """Write commits with their events in one transaction."""
        with _errors(), self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('watchtower.wt_events', 0))")
            with cursor.copy(_COPY_EVENTS) as copy:
                copy.set_types(["int8", "text", "int8", "text", "bytea"])
                for row in rows:
                    copy.write_row(row)
            with cursor.copy(_COPY_CHAIN) as copy:
                copy.set_types(["int8", "int8", "int8", "int8", "bytea", "bytea"])
                for commit in commits:
                    copy.write_row(
                        (
                            commit.commit_no,
                            commit.first_leaf,
                            commit.leaf_count,
                            commit.last_id,
                            commit.head,
                            commit.leaves,
                        )
                    )
        self.last = commits[-1]

    def source(self) -> PostgresSource:
        """Read the unfinished copy, which does not say yet which log it is."""
        meta = self._meta
        return PostgresSource(
            self._url,
            SourceMeta(
                meta.log_id, meta.origin, meta.segment, meta.first_leaf, meta.first_id, meta.prev_head, meta.schema
            ),
        )

    def finish(self) -> None:
        """Write the row that makes it a log."""
        with _errors(), self._connection.transaction():
            name_log(self._connection, self._meta)

    def close(self) -> None:
        """Close the connection; what is there can be continued."""
        self._connection.close()


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise store_error(error) from error
