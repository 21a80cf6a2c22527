"""Commands about the past: the log, the point that was meant, and read models as of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from domain.as_of import AsOf, time_text
from domain.chain import display
from domain.errors import MalformedInput, UnknownChannel
from projections.catalog import PROJECTIONS
from projections.channel_info import ChannelInfoRow
from watchtower.audit.progress import Progress, Style, style_for
from watchtower.config import Settings
from watchtower.history.channels import PastChannels
from watchtower.history.points import Point, needs_views, resolve
from watchtower.history.views import check_keep, views_at
from watchtower.store.places import open_log_reader
from watchtower.store.reader import LogReader
from watchtower.store.rebuild import open_views_reader
from watchtower.store.views import SqliteRows


class Then(msgspec.Struct, frozen=True):
    """An open log, a point of it, and the live read models if there are some that fit the log."""

    log: LogReader
    point: Point
    live: SqliteRows | None


@contextmanager
def opened(settings: Settings, as_of: AsOf | None, style: Style | None = None) -> Iterator[Then]:
    """Open the log and find the point; if that needs read models and there are none, the log is folded once for it."""
    with open_log_reader(settings) as log:
        live = live_views(settings, log)
        try:
            yield Then(log, _find(log, live, as_of, style), live)
        finally:
            if live is not None:
                live.close()


def _find(log: LogReader, live: SqliteRows | None, as_of: AsOf | None, style: Style | None) -> Point:
    if live is not None or not needs_views(as_of):
        return resolve(log, live, as_of)
    with folded(log, log.last_id(), style) as rows:
        return resolve(log, rows, as_of)


@contextmanager
def folded(
    log: LogReader, position: int, style: Style | None, keep: Path | None = None, settings: Settings | None = None
) -> Iterator[SqliteRows]:
    """The read models after the first `position` events, with progress on stderr."""
    live = None if settings is None else Path(settings.views_path)
    try:
        check_keep(keep, live)
    except MalformedInput as error:
        raise click.UsageError(str(error)) from None
    progress = Progress(style_for(style, sys.stderr), sys.stderr, time.monotonic)
    progress.begin("replay", position)
    try:
        with views_at(log, position, lambda done, _: progress.show(done), keep=keep) as rows:
            progress.end()
            yield rows
    finally:
        progress.end()


@contextmanager
def tower_then(
    settings: Settings, as_of: AsOf | None, keep: Path | None, style: Style | None = None
) -> Iterator[tuple[SqliteRows, Point]]:
    """All read models as of a point, and the point, which is said on stderr."""
    with opened(settings, as_of, style) as then:
        with folded(then.log, then.point.position, style, keep, settings) as rows:
            yield rows, then.point
        tell_point(then.point)


def point_of(settings: Settings, rows: SqliteRows, as_of: AsOf) -> Point:
    """The point, found with read models that are open already."""
    with open_log_reader(settings) as log:
        return resolve(log, rows, as_of)


def channel_then(settings: Settings, rows: SqliteRows, stream: str, as_of: AsOf) -> tuple[ChannelInfoRow, Point]:
    """One channel as of a point, from its own stream; raises `UnknownChannel` if it was not there yet."""
    with open_log_reader(settings) as log:
        point = resolve(log, rows, as_of)
        info = PastChannels(log).info(stream, point)
    if info is None:
        raise UnknownChannel(f"this channel was not registered yet at position {point.position} of the log")
    return info, point


def live_views(settings: Settings, log: LogReader) -> SqliteRows | None:
    """The live read models for reading; None if there are none that fit this log."""
    path = Path(settings.views_path)
    if not path.exists():
        return None
    rows = open_views_reader(path)
    if rows.fits(log.meta.log_id, PROJECTIONS, log.last_id()):
        return rows
    rows.close()
    return None


def point_document(point: Point) -> dict[str, Any]:
    """The point for people and programs: time in Unix seconds, hash in display order."""
    return {
        "position": point.position,
        "recorded_at": None if point.recorded_at is None else point.recorded_at / 1e6,
        "height": None if point.tip is None else point.tip.height,
        "tip_hash": None if point.tip is None else display(point.tip.hash),
    }


def tell_point(point: Point) -> None:
    """Say on stderr what an answer is about."""
    when = "" if point.recorded_at is None else f", recorded {time_text(point.recorded_at)}"
    where = "before the first block" if point.tip is None else f"height {point.tip.height}"
    click.echo(f"as of position {point.position}{when}, {where}", err=True)
