"""One channel as of a point: folds of its own stream, whatever else the log holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Generic, TypeVar

from msgspec.structs import replace

from domain import channel_fold
from domain.channel import Channel
from domain.events import Envelope, Recorded
from projections import channel_info, folding
from projections.channel_info import ChannelInfoRow
from projections.facts import ChannelFacts
from projections.timeline import TimelineRow, row_of
from watchtower.history.log import HistoryLog, version_at
from watchtower.history.points import Point

STEP = 1_000
"""Events between two folds that are kept, and events read at once."""

KEPT = 512
"""Folds kept on the way to long streams; 1 to 9 kB each."""

T = TypeVar("T")


class PastChannels:
    """Safe to use from several threads. A stream is read from its beginning, or from a fold that was kept before."""

    def __init__(self, log: HistoryLog) -> None:
        self._log = log
        self._channels: _Folds[Channel] = _Folds(log, channel_fold.evolve, lambda channel: channel)
        self._facts: _Folds[ChannelFacts] = _Folds(log, _advance, replace)

    def version(self, stream: str, point: Point) -> int:
        """How many events the channel had, 0 if it was not there yet."""
        return version_at(self._log, stream, point.position)

    def channel(self, stream: str, point: Point) -> Channel | None:
        """The channel with its states; None if it was not there yet."""
        return self._channels.at(stream, self.version(stream, point))

    def facts(self, stream: str, point: Point) -> ChannelFacts | None:
        """The channel in the compact form of the read models; None if it was not there yet."""
        version = self.version(stream, point)
        facts = self._facts.at(stream, version)
        # The fold of a stream alone does not know the ids of its events, and the view shows only the last one.
        return None if facts is None else replace(facts, last_id=self._log.event_id(stream, version) or 0)

    def info(self, stream: str, point: Point) -> ChannelInfoRow | None:
        """The row of the view `channel_info` as it stood; None if the channel was not there yet."""
        facts = self.facts(stream, point)
        return None if facts is None else info_of(stream, facts)

    def timeline(self, stream: str, point: Point, after: int = 0, limit: int | None = None) -> Iterator[TimelineRow]:
        """The rows of the view `timeline` behind version `after`, at most `limit` of them, oldest first."""
        last = self.version(stream, point)
        last = last if limit is None else min(last, after + limit)
        while after < last:
            page = self._log.read_stream(stream, after=after, limit=min(STEP, last - after))
            for event in page:
                yield row_of(Recorded(self._log.event_id(stream, event.version) or 0, event))
            if not page:
                return
            after = page[-1].version


def info_of(stream: str, facts: ChannelFacts) -> ChannelInfoRow:
    """The row of the view `channel_info` that follows from facts."""
    (row,) = channel_info.rows(stream, facts)
    info: ChannelInfoRow = channel_info.TABLE.read(row)
    return info


def _advance(facts: ChannelFacts | None, event: Envelope) -> ChannelFacts:
    return folding.advance(facts, event, 0)


class _Folds(Generic[T]):
    """Folds of streams up to a version, with some kept on the way: a second question about a long one is quick."""

    def __init__(self, log: HistoryLog, evolve: Callable[[T | None, Envelope], T], copied: Callable[[T], T]) -> None:
        """`evolve` may change the fold that it is given; `copied` keeps one from that."""
        self._log, self._evolve, self._copied = log, evolve, copied
        self._kept: OrderedDict[tuple[str, int], T] = OrderedDict()
        self._mutex = Lock()

    def at(self, stream: str, version: int) -> T | None:
        """The fold of the first `version` events of a stream; None for none."""
        done, value = self._nearest(stream, version)
        while done < version:
            page = self._log.read_stream(stream, after=done, limit=min(STEP, version - done))
            if not page:
                break
            for event in page:
                value = self._evolve(value, event)
            done = page[-1].version
            if done % STEP == 0 and value is not None:
                self._keep(stream, done, value)
        return value

    def _nearest(self, stream: str, version: int) -> tuple[int, T | None]:
        with self._mutex:
            for done in range(version - version % STEP, 0, -STEP):
                if (stream, done) in self._kept:
                    self._kept.move_to_end((stream, done))
                    return done, self._copied(self._kept[stream, done])
        return 0, None

    def _keep(self, stream: str, version: int, value: T) -> None:
        with self._mutex:
            self._kept[stream, version] = self._copied(value)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
