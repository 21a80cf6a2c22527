"""Making the views again from the log, and comparing two copies of them.

A rebuild goes into a fresh file that takes the old one's name when it is complete; a crash leaves the old one.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from domain.channel import Channel
from domain.channel_fold import fold
from domain.errors import DomainError
from projections.catalog import PROJECTIONS
from projections.channel_info import TABLE as CHANNEL_INFO
from projections.channels import ChannelViews
from projections.parts import can_be_parted
from projections.projector import Projector, Stuck
from projections.tables import Projection, Table
from watchtower.host.durable import sync_path
from watchtower.ports import Failpoint
from watchtower.store.assemble import OnProgress, assemble
from watchtower.store.create import open_reader
from watchtower.store.datastore import no_failpoint
from watchtower.store.reader import LogReader
from watchtower.store.snapshots import ChannelSnapshots
from watchtower.store.views import SqliteRows, new_views_file

PAGE = 5_000
"""Events per transaction of a rebuild that goes through the log page by page."""

LARGE = 50_000
"""Events from which a rebuild works on parts of the log in several processes."""

LONG = 512
"""Events of a stream that are too many to be folded while somebody waits: that takes ten milliseconds."""

_LONG = f"SELECT stream FROM {CHANNEL_INFO.name} WHERE version >= ?"  # noqa: S608

_encode = msgspec.msgpack.Encoder().encode


def no_progress(_done: int, _total: int) -> None:
    """Nobody looks."""


def open_views(
    path: Path,
    log: LogReader,
    projections: Sequence[Projection] = PROJECTIONS,
    failpoint: Failpoint = no_failpoint,
    rebuilt: Callable[[float], object] = lambda _seconds: None,
) -> SqliteRows:
    """The views of a log for writing; rebuilt first if the file is missing, foreign, damaged or of another version.

    `rebuilt` is told how many seconds that took.
    """
    if path.exists():
        rows = SqliteRows(path, failpoint=failpoint)
        known = log.last_id() if log.known_until is None else min(log.known_until, log.last_id())
        if rows.fits(log.meta.log_id, projections, known):
            return rows
        rows.close()
    began = time.monotonic()
    rebuild(path, log, projections, failpoint=failpoint)
    rebuilt(time.monotonic() - began)
    return SqliteRows(path, failpoint=failpoint)


def open_views_reader(path: Path) -> SqliteRows:
    """The views for reading only, also while the service writes them."""
    return SqliteRows(path, read_only=True)


def rebuild(
    path: Path,
    log: LogReader,
    projections: Sequence[Projection] = PROJECTIONS,
    until: int | None = None,
    failpoint: Failpoint = no_failpoint,
    on_progress: OnProgress = no_progress,
) -> None:
    """Fold the log from position 0 (up to event `until`) into a fresh file and put it in place of `path`.

    This is the upgrade of the views: each step passes the failpoint `migration_step`.
    """
    building = path.with_name(path.name + ".rebuild")
    end = log.last_id() if until is None else min(until, log.last_id())
    if log.file is not None and end >= LARGE and can_be_parted(projections):
        with _step(failpoint):
            _remove(building)
            assemble(
                building, log.file, log.meta.log_id, projections, end, skipped=log.damaged, on_progress=on_progress
            )
    else:
        _fold_by_pages(building, log, projections, until, failpoint, on_progress)
    if until is None:
        _take_snapshots(building, log, projections)
    _put_in_place(building, path, failpoint)


def _fold_by_pages(
    building: Path,
    log: LogReader,
    projections: Sequence[Projection],
    until: int | None,
    failpoint: Failpoint,
    on_progress: OnProgress,
) -> None:
    with _step(failpoint):
        _remove(building)
        rows = new_views_file(building, log.meta.log_id, projections)
    try:
        projector, total = Projector(log, rows, projections, page=PAGE), until or log.last_id()
        for _ in projector.catch_up(until):
            with _step(failpoint):
                on_progress(projector.position, total)
        rows.fold_wal()
    finally:
        rows.close()


def _take_snapshots(path: Path, log: LogReader, projections: Sequence[Projection]) -> None:
    """Folds of the channels with long streams, so that none of them has to be folded when somebody asks for it."""
    if not any(isinstance(projection, ChannelViews) for projection in projections):
        return
    rows = SqliteRows(path)
    try:
        snapshots = ChannelSnapshots(rows)
        broken = log.damaged.union(rows.quarantined(ChannelViews.name))
        for (stream,) in rows.select(_LONG, (LONG,)):
            channel = None if stream in broken else _folded(log, str(stream))
            snapshots.keep(() if channel is None else (channel,))
        rows.fold_wal()
    finally:
        rows.close()


def _folded(log: LogReader, stream: str) -> Channel | None:
    channel = None
    try:
        while events := log.read_stream(stream, after=0 if channel is None else channel.version, limit=PAGE):
            channel = fold(channel, events)
    except (DomainError, AssertionError):
        return None  # nothing depends on a snapshot; whoever loads this channel says what is wrong with it
    return channel


def _put_in_place(building: Path, path: Path, failpoint: Failpoint = no_failpoint) -> None:
    """Replace the old file. It goes first and as a whole; no file at all means another rebuild.

    Its write-ahead log must not be applied to the new file, and without that it may be half of what it was.
    """
    with _step(failpoint):
        _remove(path)
    with _step(failpoint):
        building.rename(path)
        # The old views may hold events that waited for space and were lost: no power cut must bring them back.
        sync_path(path.parent)


@contextmanager
def _step(failpoint: Failpoint) -> Iterator[None]:
    failpoint("migration_step:before")
    yield
    failpoint("migration_step:after")


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class Digests(msgspec.Struct, frozen=True):
    """SHA-256 per table over position and rows, at one position."""

    position: int
    tables: dict[str, bytes]


def digests(rows: SqliteRows, projections: Sequence[Projection] = PROJECTIONS) -> Digests:
    """Digests of all tables in one read transaction."""
    with rows.datastore.raw() as connection:
        connection.execute("BEGIN")
        try:
            query = "SELECT coalesce(max(notification_id), 0) FROM tracking WHERE application_name = ?"
            position = connection.execute(query, (f"wt:{projections[0].name}",)).fetchone()[0]
            tables = [table for projection in projections for table in projection.tables]
            return Digests(position, {table.name: _digest(connection, table, position) for table in tables})
        finally:
            connection.execute("ROLLBACK")


def _digest(connection: sqlite3.Connection, table: Table, position: int) -> bytes:
    order = ", ".join(table.columns[: table.key])
    state = hashlib.sha256(position.to_bytes(8, "big"))
    for row in connection.execute(f"SELECT * FROM {table.name} ORDER BY {order}"):  # noqa: S608
        state.update(_encode(tuple(row)))
    return state.digest()


class ReplayReport(msgspec.Struct, frozen=True):
    """Result of a replay: the position compared at, tables whose digest differs, digests of the replay (hex).

    `compared` is False without live views of this log and of these projections; `stuck` events could not be folded.
    """

    position: int
    last_id: int
    events: int
    differing: tuple[str, ...]
    digests: dict[str, str]
    compared: bool = False
    stuck: tuple[Stuck, ...] = ()

    @property
    def is_identical(self) -> bool:
        """True if every live table equals its replay."""
        return not self.differing


def replay(store_path: Path, views_path: Path, scratch: Path, *, replace: bool = False) -> ReplayReport:
    """Fold the log into the fresh file `scratch` and compare it with the live views at *their* position.

    Works while the service runs. With `replace` (service stopped) the result, brought to the end of the log,
    becomes the live file; it does so too if there were no live views. `scratch` is removed. Raises `StoreError`.
    """
    with open_reader(store_path) as log:
        return replay_log(log, views_path, scratch, replace=replace)


def replay_log(log: LogReader, views_path: Path, scratch: Path, *, replace: bool = False) -> ReplayReport:
    """As `replay`, for a log that is open already."""
    last_id = log.last_id()
    live = _live_digests(views_path, log)
    until = live.position if live is not None else last_id
    rebuild(scratch, log, until=until)
    fresh = SqliteRows(scratch)
    try:
        made = digests(fresh)
        stuck = tuple(each for projection in PROJECTIONS for each in fresh.quarantined(projection.name).values())
        if replace:
            for _ in Projector(log, fresh, PROJECTIONS, page=PAGE).catch_up():
                pass
            fresh.fold_wal()
    finally:
        fresh.close()
    if replace:
        _put_in_place(scratch, views_path)
    _remove(scratch)
    compared = live.tables if live is not None else {}
    differing = tuple(name for name, digest in made.tables.items() if name in compared and compared[name] != digest)
    shown = {name: digest.hex() for name, digest in made.tables.items()}
    return ReplayReport(until, last_id, until, differing, shown, live is not None, stuck)


def _live_digests(path: Path, log: LogReader) -> Digests | None:
    if not path.exists():
        return None
    rows = open_views_reader(path)
    try:
        return digests(rows) if rows.fits(log.meta.log_id, PROJECTIONS, log.last_id()) else None
    finally:
        rows.close()
