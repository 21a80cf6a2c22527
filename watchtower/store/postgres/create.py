"""Beginning a log in a database whose schema is there. One transaction: there is a whole log afterwards, or none."""

from __future__ import annotations

from typing import Any

import psycopg
from eventsourcing.persistence import StoredEvent

from domain.events import LOG_STREAM, LogOpened, encode_payload
from domain.log_chain import first_head
from watchtower.ports import StoreError
from watchtower.store.postgres.connection import Connection, connect, shown
from watchtower.store.postgres.errors import store_error
from watchtower.store.postgres.migrate import check_schema
from watchtower.store.postgres.recorder import append
from watchtower.store.recorders import ChainTip, LogMeta
from watchtower.store.schema import SCHEMA

_HAS_LOG = (
    "SELECT EXISTS (SELECT 1 FROM watchtower.log_meta), EXISTS (SELECT 1 FROM watchtower.commit_chain), "
    "EXISTS (SELECT 1 FROM watchtower.wt_events)"
)


def create_store(
    url: str, *, origin: str, chain_hash: bytes, log_id: bytes, stream_key: bytes, recorded_at: int
) -> None:
    """Make a log whose first event is `LogOpened`; raises `StoreError` if the database holds one, or has no schema.

    The arguments are those of `watchtower.store.create.create_store`; the user has to be a member of wt_app.
    """
    if len(log_id) != 16 or len(stream_key) != 32 or len(chain_hash) != 32 or not 0 < len(origin.encode()) <= 120:
        raise StoreError("a log needs an origin of 1-120 bytes, a log_id of 16 and a stream_key of 32 bytes")
    meta = LogMeta(log_id, origin, 0, 0, 1, bytes(32), stream_key, SCHEMA)
    opened = LogOpened(
        recorded_at=recorded_at,
        log_id=log_id,
        origin=origin,
        chain_hash=chain_hash,
        segment=0,
        prev_head=bytes(32),
        schema=SCHEMA,
    )
    first = StoredEvent(LOG_STREAM, 1, LogOpened.TOPIC, encode_payload(opened))
    try:
        with connect(url) as connection:
            check_schema(connection)
            with connection.transaction():
                begin_empty(connection, url)
                name_log(connection, meta)
                start = first_head(meta.origin, meta.log_id, meta.first_leaf, meta.first_id, meta.prev_head)
                append(connection, ChainTip(0, meta.first_leaf, meta.first_id - 1, start), [first])
    except psycopg.Error as error:
        raise store_error(error) from error


def begin_empty(connection: Connection, url: str) -> None:
    """In an open transaction: take the writers' lock and make sure that there is no log; raises `StoreError`."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('watchtower.wt_events', 0))")
    found: Any = connection.execute(_HAS_LOG).fetchone()
    if any(found):
        raise StoreError(f"{shown(url)} holds a log already; open it, or choose another database")


def name_log(connection: Connection, meta: LogMeta) -> None:
    """Write the row that says which log this is; a second one is refused."""
    connection.execute(
        "SELECT watchtower.name_log(%b, %b, %b::bigint, %b::bigint, %b::bigint, %b, %b, %b::integer)",
        (
            meta.log_id,
            meta.origin,
            meta.segment,
            meta.first_leaf,
            meta.first_id,
            meta.prev_head,
            meta.stream_key,
            meta.schema,
        ),
    )
