"""Questions about the past: a channel, its state, its timeline, all channels and the tower as of a point of the log.

The cost of an answer is bounded: whoever asks gets threads and a number of events, not the whole log. What needs more
is for `watchtower audit` on the tower's own machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from msgspec.structs import replace

from domain.as_of import AsOf
from domain.channel import Channel
from domain.errors import PastTooLong, UnknownChannel
from projections import channel_info, open_breaches
from projections.channel_info import ChannelInfoRow
from projections.channels import ChannelViews, is_channel
from projections.open_breaches import OpenBreachRow
from projections.tables import Key
from watchtower.channels.context import Context
from watchtower.channels.finding import find_stream
from watchtower.channels.info import channel_body
from watchtower.channels.latest import state_body
from watchtower.channels.liquidity import liquidity_body
from watchtower.channels.listing import OVER
from watchtower.channels.queries import timeline_entry
from watchtower.history.channels import PastChannels, info_of
from watchtower.history.points import Point, resolve
from watchtower.history.tower import TowerState, all_rows, tower_state
from watchtower.ports import StoreBusy
from watchtower.wire.api import ChannelBody, ChannelPage, TimelinePage
from watchtower.wire.disputes import ChannelStateBody
from watchtower.wire.hexes import BlockHashHex, Hex32, TxidHex
from watchtower.wire.history import LISTED_BREACHES, OpenBreachBody, PointBody, TowerPastBody

AT_ONCE = 4
"""Questions that are answered at a time; they take processor time from the pass thread."""

MAX_EVENTS = 250_000
"""Events that one answer may fold: some seconds."""

PAGE_EVENTS = 50_000
"""Events that one page of channels may fold; then the page ends, however few channels it has."""

PER_CHANNEL = 20
"""What beginning a fold costs, in events."""

MAX_SCAN = 50_000
PAGE = 500


class Past:
    """The use cases of one tower; called in worker threads."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._channels = PastChannels(context.store)
        self._turns = BoundedSemaphore(AT_ONCE)

    def get_channel(self, name: str, as_of: AsOf) -> ChannelBody:
        """`ChannelInfo` with its liquidity."""
        with self._turn():
            point, stream = self._point(as_of), find_stream(self._context, name)
            channel = self._load(stream, point)
            body = self._body(channel, point)
            if channel.sequence < 0:
                return body
            return replace(body, liquidity=liquidity_body(channel, self._context.policy, point.height))

    def get_state(self, name: str, as_of: AsOf) -> ChannelStateBody:
        """The complete state that was the newest then, with all signatures."""
        with self._turn():
            point, stream = self._point(as_of), find_stream(self._context, name)
            body = state_body(self._context, self._load(stream, point), point.height)
            return replace(body, as_of=point_body(point))

    def get_timeline(self, name: str, as_of: AsOf, after: int = 0, limit: int = 100) -> TimelinePage:
        """The channel's history up to then, a page at a time."""
        with self._turn():
            point, stream = self._point(as_of), find_stream(self._context, name)
            last = self._channels.version(stream, point)
            if last == 0:
                raise _not_there_yet()
            entries = tuple(map(timeline_entry, self._channels.timeline(stream, point, after, limit)))
            more = entries[-1].version if entries and entries[-1].version < last else None
            channel_id = self._context.channels.load(stream).params.channel_id
            return TimelinePage(channel_id=Hex32(channel_id), entries=entries, next=more, as_of=point_body(point))

    def list_channels(
        self, as_of: AsOf, after: str | None = None, limit: int = 100, status: str | None = None
    ) -> ChannelPage:
        """The channels that were there, in the order of the live list; a page may be short although more follow."""
        with self._turn():
            point = self._point(as_of)
            bodies: list[ChannelBody] = []
            left = PAGE_EVENTS
            for row in live_channels(self._context, after):
                if len(bodies) == limit or left <= 0:
                    return ChannelPage(channels=tuple(bodies), next=after, as_of=point_body(point))
                after = row.stream
                version = self._channels.version(row.stream, point)
                left -= 1 if version == row.version else PER_CHANNEL + version
                channel = self._at(row.stream, version, point)
                body = None if channel is None else self._body(channel, point)
                if body is not None and status in (None, body.status):
                    bodies.append(body)
            return ChannelPage(channels=tuple(bodies), next=None, as_of=point_body(point))

    def get_tower(self, as_of: AsOf) -> TowerPastBody:
        """Everything that the log said of the tower; `PastTooLong` if too much has happened since."""
        with self._turn():
            return past_body(_TowerThen(self._context, self._channels, self._point(as_of)).state())

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(blocking=False):
            raise StoreBusy("other questions about the past are being answered; ask again")
        try:
            yield
        finally:
            self._turns.release()

    def _point(self, as_of: AsOf) -> Point:
        return resolve(self._context.store, self._context.views, as_of, max_scan=MAX_SCAN)

    def _load(self, stream: str, point: Point) -> Channel:
        channel = self._at(stream, self._channels.version(stream, point), point)
        if channel is None:
            raise _not_there_yet()
        return channel

    def _at(self, stream: str, version: int, point: Point) -> Channel | None:
        """The live fold where nothing has happened since."""
        if version == 0:
            return None
        if version == self._context.store.version(stream):
            return self._context.channels.find(stream)
        if version > MAX_EVENTS:
            raise _too_long()
        return self._channels.channel(stream, point)

    def _body(self, channel: Channel, point: Point) -> ChannelBody:
        return replace(channel_body(channel, self._context.policy, point.height), as_of=point_body(point))


class _TowerThen:
    """Live rows of channels to which nothing has happened since the point and nothing happens now, else folds."""

    def __init__(self, context: Context, channels: PastChannels, point: Point) -> None:
        self._context, self._channels, self._point = context, channels, point
        self._breaches: list[OpenBreachRow] = []
        self._left = MAX_EVENTS

    def state(self) -> TowerState:
        """Add up all channels. Live breaches are read first: one that begins meanwhile is seen at its channel."""
        rows: Iterator[OpenBreachRow] = all_rows(self._context.views, open_breaches.TABLE)
        contested = {row.stream for row in rows}
        return tower_state(self._point, self._infos(contested), self._breaches)

    def _infos(self, contested: set[str]) -> Iterator[ChannelInfoRow]:
        waiting = self._not_in_views()
        for row in live_channels(self._context, None):
            if row.last_id <= self._point.position and row.stream not in waiting and row.stream not in contested:
                yield row
            else:
                waiting.discard(row.stream)
                yield from self._fold(row.stream)
        for stream in sorted(waiting):
            yield from self._fold(stream)

    def _fold(self, stream: str) -> Iterator[ChannelInfoRow]:
        version = self._channels.version(stream, self._point)
        self._left -= PER_CHANNEL + version
        if self._left < 0:
            raise _too_long()
        facts = self._channels.facts(stream, self._point)
        if facts is not None:
            self._breaches.extend(map(open_breaches.TABLE.read, open_breaches.rows(stream, facts)))
            yield info_of(stream, facts)

    def _not_in_views(self) -> set[str]:
        """Channels of the events that the read models have not applied yet."""
        covered, waiting = self._context.views.position(ChannelViews.name), set[str]()
        if self._point.position - covered > MAX_SCAN:
            raise StoreBusy("the read models are far behind the log; ask again later")
        while covered < self._point.position:
            page = self._context.store.read_log(covered, min(PAGE, self._point.position - covered))
            if not page:
                break
            covered = page[-1].id
            waiting.update(each.envelope.stream for each in page if is_channel(each.envelope))
        return waiting


def live_channels(context: Context, after: str | None) -> Iterator[ChannelInfoRow]:
    """Rows of the live view behind a stream: no channel ever leaves it, so it names all that were there before."""
    key: Key | None = None if after is None else (after,)
    while rows := context.views.page(channel_info.TABLE, key, PAGE):
        yield from map(channel_info.TABLE.read, rows)
        key = channel_info.TABLE.key_of(rows[-1])


def point_body(point: Point) -> PointBody:
    """What an answer says of its point."""
    return PointBody(
        position=point.position,
        recorded_at=None if point.recorded_at is None else point.recorded_at // 1_000_000,
        height=None if point.tip is None else point.tip.height,
        tip_hash=None if point.tip is None else BlockHashHex(point.tip.hash),
    )


def past_body(state: TowerState) -> TowerPastBody:
    """The tower as the API tells it."""
    return TowerPastBody(
        point=point_body(state.point),
        channels=state.channels,
        capacity=state.capacity,
        open_breaches=len(state.breaches),
        breaches=tuple(_breach(state, row) for row in state.breaches[:LISTED_BREACHES]),
        alerts=state.alerts,
        clients=state.clients,
    )


def totals_of(past: TowerPastBody) -> tuple[int, int]:
    """Number of channels and their capacity in satoshi, without those that were over, as `queries.totals`."""
    alive = [status for status in past.channels if status not in OVER]
    return sum(past.channels[status] for status in alive), sum(past.capacity[status] for status in alive)


def _breach(state: TowerState, row: OpenBreachRow) -> OpenBreachBody:
    penalty = row.penalty_txid or row.bid_txid
    return OpenBreachBody(
        channel_id=Hex32(state.breached[row.stream]),
        commit_txid=TxidHex(row.commit_txid),
        sequence=row.sequence,
        value=row.value,
        height=row.height,
        deadline=row.deadline,
        penalty_txid=None if penalty is None else TxidHex(penalty),
        penalty_height=row.penalty_height,
    )


def _not_there_yet() -> UnknownChannel:
    return UnknownChannel("this channel was not registered yet at that point of the log")


def _too_long() -> PastTooLong:
    return PastTooLong(
        "too much has happened since that point for an answer here; "
        "ask with `watchtower audit` on the tower's own machine"
    )
