"""Making a log file and opening one.

A new log is built beside its final name and renamed when it is complete, so a crash leaves either no log or a
whole one. Opening takes the instance lock, runs the start-up checks and only then hands out the store.
"""

from __future__ import annotations

from pathlib import Path

from domain.events import LOG_STREAM, Envelope, LogOpened
from watchtower.host.durable import sync_path
from watchtower.ports import Failpoint, StoreError
from watchtower.store import schema
from watchtower.store.checks import check_log, read_meta
from watchtower.store.datastore import LogDatastore, no_failpoint
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.event_store import SqliteEventStore, SqliteLogReader
from watchtower.store.files import make_file
from watchtower.store.lock import InstanceLock
from watchtower.store.observing import Observe
from watchtower.store.reader import ignore_observation
from watchtower.store.recorders import LogMeta
from watchtower.store.segments.closed import segments_before
from watchtower.store.segments.closing import finish_closing


def create_store(
    path: Path, *, origin: str, chain_hash: bytes, log_id: bytes, stream_key: bytes, recorded_at: int
) -> None:
    """Make a log whose first event is `LogOpened`; raises `StoreError` if the file exists.

    `origin` (at most 120 characters) names the log for people, `chain_hash` is the genesis hash (internal order),
    `log_id` 16 and `stream_key` 32 random bytes, `recorded_at` Unix microseconds.
    """
    if len(log_id) != 16 or len(stream_key) != 32 or len(chain_hash) != 32 or not 0 < len(origin.encode()) <= 120:
        raise StoreError("a log needs an origin of 1-120 bytes, a log_id of 16 and a stream_key of 32 bytes")
    lock = InstanceLock(path)
    try:
        if path.exists():
            raise StoreError(f"{path} exists already; open it, or choose another data directory")
        meta = LogMeta(log_id, origin, 0, 0, 1, bytes(32), stream_key, schema.SCHEMA)
        opened = LogOpened(
            recorded_at=recorded_at,
            log_id=log_id,
            origin=origin,
            chain_hash=chain_hash,
            segment=0,
            prev_head=bytes(32),
            schema=schema.SCHEMA,
        )
        building = make_file(path, meta, Envelope(LOG_STREAM, 1, LogOpened.TOPIC, opened))
        building.rename(path)
        sync_path(path.parent)
    finally:
        lock.release()


def open_store(
    path: Path,
    *,
    chain_hash: bytes | None = None,
    observe: Observe = ignore_observation,
    failpoint: Failpoint = no_failpoint,
) -> SqliteEventStore:
    """Lock, check and open a log for writing.

    Raises `StoreLocked` if another instance holds it and `StoreCheckFailed` (a `StoreError`) that names the failed
    check. With `chain_hash` the log must follow that chain.
    """
    if not path.exists():
        raise StoreCheckFailed("exists", f"{path} does not exist; run `watchtower init` first")
    lock = InstanceLock(path)
    try:
        finish_closing(path, failpoint)
        datastore = LogDatastore(path, failpoint=failpoint)
        try:
            meta, damaged = check_log(datastore, chain_hash)
            return SqliteEventStore(datastore, meta, lock, observe, damaged, segments_before(path, meta))
        except BaseException:
            datastore.close()
            raise
    except BaseException:
        lock.release()
        raise


def open_reader(path: Path, *, immutable: bool = False) -> SqliteLogReader:
    """Open a log for reading while the service may be writing it; `immutable` for a copy that nobody writes."""
    if not path.exists():
        raise StoreCheckFailed("exists", f"{path} does not exist; run `watchtower init` first")
    datastore = LogDatastore(path, read_only=True, immutable=immutable)
    try:
        with datastore.raw() as connection:
            meta = read_meta(connection)
        return SqliteLogReader(datastore, meta, segments_before(path, meta))
    except BaseException:
        datastore.close()
        raise
