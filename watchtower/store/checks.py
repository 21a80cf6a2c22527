"""Start-up checks of a log. A failed check names itself; the service does not start on it."""

from __future__ import annotations

import sqlite3
from importlib.metadata import version

from eventsourcing.persistence import PersistenceError

from domain.errors import LogCorrupt
from domain.events import LOG_STREAM, LogOpened, decode_payload
from watchtower.store import schema
from watchtower.store.damage import StoredInFile, damaged_streams, refuse_newer
from watchtower.store.datastore import LogDatastore
from watchtower.store.errors import StoreCheckFailed, is_damaged, store_error
from watchtower.store.recorders import LogMeta
from watchtower.store.verify import verify_log

TAIL = 10_000
"""Events whose leaf hash and topic are checked before the service starts; `audit verify` checks all."""


def check_log(datastore: LogDatastore, chain_hash: bytes | None) -> tuple[LogMeta, frozenset[str]]:
    """Run all checks on a writable log; returns the channel streams with changed events too. `StoreCheckFailed`."""
    _check_library()
    try:
        with datastore.raw(commit=True) as writer:
            meta = read_meta(writer)
            _check_settings(writer)
            _check_objects(writer, meta.schema)
        with datastore.raw() as reader:
            _check_settings(reader)
            _check_reader_cannot_write(reader)
            _check_opened(reader, meta, chain_hash)
            damaged = _check_tail(reader)
    except (sqlite3.Error, PersistenceError) as error:
        if is_damaged(error):
            raise StoreCheckFailed(
                "readable", f"{datastore.path} is damaged or no event log ({error}); restore it from a backup"
            ) from error
        raise store_error(error) from error
    return meta, damaged


def read_meta(connection: sqlite3.Connection) -> LogMeta:
    """The row that says which log this is; raises `StoreCheckFailed` for a file that is not a log of ours."""
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        number = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise StoreCheckFailed("application_id", f"the file is not a readable database ({error})") from error
    if application != schema.APPLICATION_ID:
        raise StoreCheckFailed("application_id", "the file is a database, but not an event log")
    if number not in schema.KNOWN:
        raise StoreCheckFailed("schema", schema.unknown_schema(number))
    row = connection.execute(
        "SELECT log_id, origin, segment, first_leaf, first_id, prev_head, stream_key, schema FROM log_meta"
    ).fetchone()
    if row is None:
        raise StoreCheckFailed("log_meta", "the log does not say which log it is")
    if row[-1] != number:
        raise StoreCheckFailed("schema", f"the log says schema {row[-1]}, its file {number}")
    return LogMeta(*row)


def _check_library() -> None:
    found = version("eventsourcing")
    if not found.startswith("9.5."):
        raise StoreCheckFailed("library_version", f"eventsourcing 9.5.x is needed, {found} is installed")


def _check_settings(connection: sqlite3.Connection) -> None:
    expected = {"journal_mode": "wal", "synchronous": 2, "page_size": schema.PAGE_SIZE}
    for name, value in expected.items():
        found = connection.execute(f"PRAGMA {name}").fetchone()[0]
        if found != value:
            raise StoreCheckFailed(name, f"expected {value}, found {found}")


def _check_objects(connection: sqlite3.Connection, number: int) -> None:
    expected, found = schema.expected_objects(number), schema.stored_objects(connection)
    differing = sorted(name for name in expected | found if expected.get(name) != found.get(name))
    if differing:
        raise StoreCheckFailed("triggers", f"tables or triggers differ from the shipped ones: {', '.join(differing)}")


def _check_reader_cannot_write(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("CREATE TABLE must_not_exist (x)")
    except sqlite3.OperationalError:
        return
    raise StoreCheckFailed("read_only", "a connection for reading was able to write")


def _check_opened(connection: sqlite3.Connection, meta: LogMeta, chain_hash: bytes | None) -> None:
    row = connection.execute(
        "SELECT topic, state FROM stored_events WHERE rowid = ? AND originator_id = ?",
        (meta.first_id, LOG_STREAM),
    ).fetchone()
    try:
        opened = decode_payload(row[0], row[1]) if row is not None else None
    except LogCorrupt:
        opened = None
    named = isinstance(opened, LogOpened) and (opened.log_id, opened.origin, opened.segment, opened.prev_head)
    if not isinstance(opened, LogOpened) or named != (meta.log_id, meta.origin, meta.segment, meta.prev_head):
        raise StoreCheckFailed("log_opened", "the first event is not LogOpened of this log")
    if chain_hash is not None and opened.chain_hash != chain_hash:
        raise StoreCheckFailed(
            "chain",
            "the log follows another block chain than the configured network; set `network` to that of the log, "
            "or choose another data_dir",
        )


def _check_tail(connection: sqlite3.Connection) -> frozenset[str]:
    """Streams of channels with changed events; raises if more than single channels is in doubt."""
    findings = verify_log(connection, tail=TAIL).findings
    refuse_newer(findings)
    damaged = damaged_streams(StoredInFile(connection), findings) if findings else frozenset()
    if damaged is None:
        raise StoreCheckFailed(findings[0].check, findings[0].sentence)
    return damaged
