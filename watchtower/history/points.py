"""From a point that somebody names to the prefix of the log that it means."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from domain.as_of import AsOf
from domain.chain import BlockRef, display
from domain.errors import UnknownPoint
from domain.events import CHAIN_STREAM, Envelope, Recorded
from projections.chain_tip import tip_after
from projections.landmarks import LANDMARKS, MOMENTS, STRETCH, LandmarkRow, Landmarks, Moments
from projections.tables import Key, Row
from watchtower.history.log import HistoryLog, HistoryViews, commit_end, version_at
from watchtower.ports import StoreBusy

PAGE = 5_000
WINDOW = 16
"""Events of the chain stream read at once in search of one that moved the cursor; nearly all do."""


class Point(msgspec.Struct, frozen=True):
    """The first `position` events of the log; `position` is also the notification id of the last one.

    `tip` is where the tower's cursor stood, `recorded_at` (Unix microseconds) the time of the last event: both None
    before the first.
    """

    position: int
    recorded_at: int | None = None
    tip: BlockRef | None = None

    @property
    def height(self) -> int:
        """Height of the tip, 0 before the first block."""
        return 0 if self.tip is None else self.tip.height


def needs_views(as_of: AsOf | None) -> bool:
    """Whether read models are needed to find a point: for times and blocks."""
    return as_of is not None and as_of.position is None and as_of.id is None


def resolve(log: HistoryLog, views: HistoryViews | None, as_of: AsOf | None, *, max_scan: int | None = None) -> Point:
    """The point that is meant; None is the end of the log at this moment. `views` may be None unless they are needed.

    Raises `UnknownPoint` if the log has no such position, block or height, and `StoreBusy` if the read models are more
    than `max_scan` events behind the log, so that more would have to be read.
    """
    end = log.last_id()
    if as_of is None:
        return point_at(log, end)
    if not needs_views(as_of):
        return point_at(log, _counted(as_of, end))
    assert views is not None, "the caller has asked needs_views"
    return point_at(log, _position(log, views, as_of, end, max_scan))


def point_at(log: HistoryLog, position: int) -> Point:
    """The point behind the first `position` events, which exist."""
    last = log.read_log(position - 1, 1) if position > 0 else []
    recorded_at = last[0].envelope.payload.recorded_at if last else None
    return Point(position, recorded_at, _tip(log, position))


def _position(log: HistoryLog, views: HistoryViews, as_of: AsOf, end: int, max_scan: int | None) -> int:
    if as_of.at is not None:
        return _before(log, views, as_of.microseconds, end, max_scan)
    if as_of.height is not None:
        return _height(log, views, as_of.height, end)
    return _block(log, views, as_of.block_hash, end)


def _counted(as_of: AsOf, end: int) -> int:
    position = as_of.position if as_of.position is not None else as_of.id
    assert position is not None, "one of the five is given"
    if position > end:
        raise UnknownPoint(f"{as_of} lies beyond the end of the log, which has {end} events")
    return position


# ── times ────────────────────────────────────────────────────────────────────────────────────────────────


def _before(log: HistoryLog, views: HistoryViews, at: int, end: int, max_scan: int | None) -> int:
    """The position in front of the first event that was recorded after `at`."""
    covered = min(views.position(Moments.name), end)
    stretch = _first_late_stretch(views, at)
    start = covered if stretch is None else min(stretch * STRETCH, covered)
    if stretch is None and max_scan is not None and end - covered > max_scan:
        raise StoreBusy(
            f"the read models are {end - covered} events behind the log; ask again when they have caught up"
        )
    while start < end:
        page = log.read_log(start, min(PAGE, end - start))
        late = next((each.id for each in page if each.envelope.payload.recorded_at > at), None)
        if late is not None:
            return min(late - 1, end)
        if not page:
            break
        start = page[-1].id
    return end


def _first_late_stretch(views: HistoryViews, at: int) -> int | None:
    after: Key | None = None
    while rows := views.page(MOMENTS, after, PAGE):
        for row in rows:
            stretch, latest = row
            assert isinstance(stretch, int)
            assert isinstance(latest, int)
            if latest > at:
                return stretch
        after = MOMENTS.key_of(rows[-1])
    return None


# ── blocks ───────────────────────────────────────────────────────────────────────────────────────────────


def _height(log: HistoryLog, views: HistoryViews, height: int, end: int) -> int:
    news = _news(log, views, end)
    known = [row for row in views.find(LANDMARKS, "height", height) if LANDMARKS.key_of(row) not in news]
    blocks: list[LandmarkRow] = [LANDMARKS.read(row) for row in (*known, *news.values())]
    found = [block.id for block in blocks if block.height == height and block.connected and block.id <= end]
    if not found:
        tip = _tip(log, end)
        where = "it has followed no chain yet" if tip is None else f"it stands at height {tip.height}"
        raise UnknownPoint(f"the tower has connected no block of height {height} that is still connected; {where}")
    return commit_end(log, max(found))


def _block(log: HistoryLog, views: HistoryViews, block_hash: bytes, end: int) -> int:
    news = _news(log, views, end)
    rows = [news[key] for key in [(block_hash,)] if key in news] or views.find(LANDMARKS, "block_hash", block_hash)
    if not rows or LANDMARKS.read(rows[0]).id > end:
        raise UnknownPoint(f"the tower has never connected the block {display(block_hash)}")
    return commit_end(log, LANDMARKS.read(rows[0]).id)


def _news(log: HistoryLog, views: HistoryViews, end: int) -> dict[Key, Row]:
    """What the log says about blocks behind the position of the read models."""
    covered = views.position(Landmarks.name)
    if covered >= end:
        return {}
    landmarks, events = Landmarks(), _chain_events(log, covered, end)
    keys = {key for event in events for key in landmarks.keys(event)}
    before = {key: row for key in keys for row in views.find(LANDMARKS, "block_hash", _hash(key))}
    return {change.key: change.row for change in landmarks.apply(before, events) if change.row is not None}


def _chain_events(log: HistoryLog, after: int, end: int) -> Sequence[Recorded]:
    version = version_at(log, CHAIN_STREAM, after)
    found = []
    for envelope in log.read_stream(CHAIN_STREAM, after=version):
        event_id = log.event_id(CHAIN_STREAM, envelope.version)
        if event_id is not None and event_id <= end:
            found.append(Recorded(event_id, envelope))
    return found


def _hash(key: Key) -> bytes:
    assert isinstance(key[0], bytes)
    return key[0]


def _tip(log: HistoryLog, position: int) -> BlockRef | None:
    """Where the cursor stood: the last event of the chain stream that moved it."""
    upto = version_at(log, CHAIN_STREAM, position)
    while upto > 0:
        after = max(0, upto - WINDOW)
        moved = _moved(log.read_stream(CHAIN_STREAM, after=after, limit=upto - after))
        if moved:
            return moved[-1]
        upto = after
    return None


def _moved(events: Sequence[Envelope]) -> list[BlockRef]:
    return [block for event in events for block in tip_after(event.payload)]
