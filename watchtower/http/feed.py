"""Events of channels as they are stored: what event streams are read from.

A reader has no queue: it has a position in the log, reads on from there, and is woken when something was stored. So a
slow reader costs no memory and one that comes back loses nothing. One thread waits for the log, and only while somebody
reads.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from projections.channels import is_channel
from projections.timeline import TimelineRow, row_of
from watchtower.http.nonces import TooBusy
from watchtower.ports import EventStore
from watchtower.repository import Channels
from watchtower.wire.events import EventBody
from watchtower.wire.hexes import Hex32, TxidHex, to_json

PAGE = 500
WAIT = 1.0
"""Seconds of one wait in the thread: so long it lives on after its last reader."""

MAX_READERS = 128
MAX_PER_KEY = 4
MAX_STRANGERS = 16
"""Streams of keys without a channel: whoever makes keys must not take the places of owners."""


class Told(msgspec.Struct, frozen=True):
    """An event, ready to be sent; `owner` is the x-only auth key of its channel's owner."""

    id: int
    stream: str
    owner: bytes
    kind: str
    body: bytes


class Feed:
    """The log of channel events for any number of readers, each page decoded once."""

    def __init__(self, store: EventStore, channels: Channels, limit: int | None = None) -> None:
        """`limit` is how many may read at once, `MAX_READERS` unless it is given."""
        self._limit = limit
        self._store = store
        self._channels = channels
        self._mutex = threading.Lock()
        self._page: tuple[int, int, tuple[Told, ...]] = (-1, -1, ())
        self._readers: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._keys: Counter[bytes] = Counter()
        self._strangers = 0
        self._thread: threading.Thread | None = None

    def rouse(self) -> None:
        """Wake all readers: there is news that is not in the log. May be called from any thread."""
        for news, loop in list(self._readers.items()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(news.set)

    def last_id(self) -> int:
        """Position of the newest event."""
        return self._store.last_id()

    def read(self, after: int) -> tuple[int, tuple[Told, ...]]:
        """The next events behind a position, and the position that was read to. Called in worker threads."""
        with self._mutex:
            begin, end, told = self._page
            if begin == after and (end >= self._store.last_id() or end >= after + PAGE):
                return end, told
            page = self._store.read_log(after, PAGE)
            end = page[-1].id if page else after
            told = tuple(self._told(row_of(each)) for each in page if is_channel(each.envelope))
            self._page = (after, end, told)
            return end, told

    @contextmanager
    def reading(self, key: bytes | None, *, is_stranger: bool = False) -> Iterator[asyncio.Event]:
        """Be a reader: the event is set whenever something was stored. Raises `TooBusy` beyond the limits."""
        of_key = key is not None and self._keys[key] >= MAX_PER_KEY
        of_strangers = is_stranger and self._strangers >= MAX_STRANGERS
        if of_key or of_strangers or len(self._readers) >= (self._limit or MAX_READERS):
            raise TooBusy("too many event streams are open; close one, or try again")
        news = asyncio.Event()
        self._readers[news] = asyncio.get_running_loop()
        self._keys.update([key] if key is not None else [])
        self._strangers += is_stranger
        self._ensure_thread()
        try:
            yield news
        finally:
            del self._readers[news]
            self._strangers -= is_stranger
            self._keys.subtract([key] if key is not None else [])
            self._keys += Counter()  # forgets keys that have no stream left

    def _ensure_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._wait, name="feed", daemon=True)
            self._thread.start()

    def _wait(self) -> None:
        position = self._store.last_id()
        while self._readers:
            if not self._store.wait_beyond(position, WAIT):
                continue
            position = self._store.last_id()
            self.rouse()

    def _told(self, row: TimelineRow) -> Told:
        channel = self._channels.load(row.stream)
        body = EventBody(
            id=row.id,
            channel_id=Hex32(channel.params.channel_id),
            version=row.version,
            recorded_at=row.recorded_at // 1_000_000,
            height=row.height,
            kind=row.kind,
            text=row.line,
            txid=None if row.txid is None else TxidHex(row.txid),
        )
        owner = channel.params.keys(channel.own_side).auth
        return Told(row.id, row.stream, owner, row.kind, to_json(body))


class Subscription(msgspec.Struct, frozen=True):
    """Which events somebody wants: those of one stream, of one owner, or all; behind `after`, or from now on.

    `is_stranger` = the owner has no channel yet.
    """

    feed: Feed
    stream: str | None = None
    owner: bytes | None = None
    after: int | None = None
    is_stranger: bool = False

    def wants(self, told: Told) -> bool:
        """True for an event that belongs into this stream."""
        return self.stream in (None, told.stream) and self.owner in (None, told.owner)


async def frames(
    subscription: Subscription, news: asyncio.Event, heartbeat: float, allowed: Callable[[], bool] = lambda: True
) -> AsyncIterator[bytes]:
    """Server-sent events, and after `heartbeat` seconds without one a comment; both carry the position.

    What happens in channels that this reader does not see is silence to it: without a comment it would take the stream
    for dead, and come back to read all of that again. `news` is that of `Feed.reading`. Ends when `allowed` says no: a
    token that was revoked reads no further.
    """
    feed, clock = subscription.feed, asyncio.get_running_loop().time
    position = feed.last_id() if subscription.after is None else subscription.after
    yield _silence(position)
    told_at = clock()
    while allowed():
        news.clear()
        end, page = await asyncio.to_thread(feed.read, position)
        for told in page:
            if subscription.wants(told):
                yield b"id: %d\nevent: %s\ndata: %s\n\n" % (told.id, told.kind.encode(), told.body)
                told_at = clock()
        is_at_end, position = end == position, end
        left = told_at + heartbeat - clock()
        if left <= 0:
            yield _silence(position)
            told_at = clock()
        elif is_at_end:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await news.wait()


def _silence(position: int) -> bytes:
    """An id without data is remembered by the client and shown to nobody."""
    return b": still here\nid: %d\n\n" % position
