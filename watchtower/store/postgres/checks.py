"""Start-up checks of a log on PostgreSQL. A failed check names itself; the service does not start on it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import psycopg

from domain.errors import LogCorrupt
from domain.events import LOG_STREAM, LogOpened, decode_payload
from watchtower.store.damage import damaged_streams, refuse_newer
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.postgres import schema
from watchtower.store.postgres.connection import Connection
from watchtower.store.postgres.damage import StoredOnServer
from watchtower.store.postgres.datastore import LogDatastore
from watchtower.store.postgres.errors import store_error
from watchtower.store.postgres.migrate import OLDEST_SERVER, check_schema
from watchtower.store.postgres.source import NO_LOG, PostgresSource
from watchtower.store.recorders import LogMeta
from watchtower.store.schema import SCHEMA
from watchtower.store.verify import verify_source

TAIL = 10_000
"""Events whose leaf hash and topic are checked before the service starts; `audit verify` checks all."""

_SETTINGS = {"fsync": ("on",), "full_page_writes": ("on",), "synchronous_commit": ("on", "remote_apply")}
_META = "SELECT log_id, origin, segment, first_leaf, first_id, prev_head, stream_key, schema FROM watchtower.log_meta"
_OPENED = (
    "SELECT topic, state FROM watchtower.wt_events "
    "WHERE notification_id = %b::bigint AND originator_id = %b AND originator_version = 1"
)
_FORBIDDEN = (
    "SELECT t || ' ' || lower(r) "
    "FROM unnest(ARRAY['wt_events', 'commit_chain', 'log_meta', 'schema_steps', 'leadership']) AS t, "
    "unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS r WHERE has_table_privilege('watchtower.' || t, r) "
    "UNION ALL SELECT 'sequence ' || relname FROM pg_class "
    "WHERE relnamespace = 'watchtower'::regnamespace "
    "AND CASE WHEN relkind = 'S' THEN has_sequence_privilege(oid, 'USAGE, UPDATE') ELSE false END"
)


def check_log(datastore: LogDatastore, chain_hash: bytes | None) -> tuple[LogMeta, frozenset[str]]:
    """Run all checks on the writing connection of a log; returns the channel streams with changed events too.

    Raises `StoreCheckFailed` or another `StoreError`.
    """
    _check_library()
    try:
        with datastore.writing() as writer:
            check_server(writer)
            meta = read_meta(writer)
            check_rights(writer)
            _check_opened(writer, meta, chain_hash)
        with datastore.reading() as reader:
            _check_reader_cannot_write(reader)
            damaged = _check_tail(datastore.url, reader)
    except psycopg.Error as error:
        raise store_error(error) from error
    return meta, damaged


def _check_tail(url: str, reader: Connection) -> frozenset[str]:
    """Streams of channels with changed events; raises if more than single channels is in doubt."""
    with PostgresSource(url) as source:
        differing = source.differing_objects()
        if differing:
            raise StoreCheckFailed("triggers", f"triggers differ from the shipped ones: {', '.join(differing)}")
        findings = verify_source(source, TAIL).findings
    refuse_newer(findings)
    damaged = damaged_streams(StoredOnServer(reader), findings) if findings else frozenset()
    if damaged is None:
        raise StoreCheckFailed(findings[0].check, findings[0].sentence)
    return damaged


def read_meta(connection: Connection) -> LogMeta:
    """The row that says which log this is; raises `StoreCheckFailed` for a database without a log of ours."""
    check_schema(connection)
    row: Any = connection.execute(_META).fetchone()
    if row is None:
        raise StoreCheckFailed("log_meta", NO_LOG)
    meta = LogMeta(*row)
    if meta.schema != SCHEMA:
        raise StoreCheckFailed("schema", f"this program knows logs of schema {SCHEMA}, this one has {meta.schema}")
    return meta


def check_server(connection: Connection) -> None:
    """Version, durability, encoding, and that it is no replica."""
    if connection.info.server_version < OLDEST_SERVER:
        raise StoreCheckFailed("server_version", "PostgreSQL 13 or later is needed")
    for name, allowed in _SETTINGS.items():
        found = _one(connection, "SELECT current_setting(%s)", (name,))
        if found not in allowed:
            raise StoreCheckFailed(name, f"expected {allowed[0]}, found {found}: what is acknowledged could be lost")
    if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
        raise StoreCheckFailed("encoding", f"the database has to be in UTF8, it is in {encoding}")
    if _one(connection, "SELECT pg_is_in_recovery()", ()):
        raise StoreCheckFailed("recovery", "this server is a replica; give the address of its primary")


def check_rights(connection: Connection) -> None:
    """The service must not be able to do what it never does."""
    if _one(connection, "SELECT pg_has_role(%s, 'MEMBER')", (schema.OWNER,)):
        raise StoreCheckFailed(
            "rights", f"the user of store.url is a member of {schema.OWNER}; use one that is only in {schema.APP}"
        )
    forbidden = [row[0] for row in connection.execute(_FORBIDDEN).fetchall()]
    if forbidden:
        raise StoreCheckFailed(
            "rights", f"the user of store.url may do more than append: {', '.join(map(str, forbidden))}"
        )


def _one(connection: Connection, query: str, parameters: Sequence[object]) -> Any:
    row: Any = connection.execute(query, parameters).fetchone()
    return row[0]


def _check_library() -> None:
    found = version("eventsourcing")
    if not found.startswith("9.5."):
        raise StoreCheckFailed("library_version", f"eventsourcing 9.5.x is needed, {found} is installed")


def _check_opened(connection: Connection, meta: LogMeta, chain_hash: bytes | None) -> None:
    row: Any = connection.execute(_OPENED, (meta.first_id, LOG_STREAM)).fetchone()
    try:
        opened = decode_payload(row[0], row[1]) if row is not None else None
    except LogCorrupt:
        opened = None
    if not isinstance(opened, LogOpened) or opened.log_id != meta.log_id or opened.origin != meta.origin:
        raise StoreCheckFailed("log_opened", "the first event is not LogOpened of this log")
    if chain_hash is not None and opened.chain_hash != chain_hash:
        raise StoreCheckFailed(
            "chain",
            "the log follows another block chain than the configured network; set `network` to that of the log, "
            "or choose another database",
        )


def _check_reader_cannot_write(connection: Connection) -> None:
    try:
        connection.execute("CREATE TEMPORARY TABLE must_not_exist (x integer)")
    except psycopg.errors.ReadOnlySqlTransaction:
        return
    except psycopg.errors.InsufficientPrivilege:
        return
    raise StoreCheckFailed("read_only", "a connection for reading was able to write")
