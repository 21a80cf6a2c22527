"""Events of channels as they are stored: what event streams are read from.

A reader has no queue: it has a position in the log, reads on from there, and is woken when something was stored. So a
slow reader costs no memory and one that comes back loses nothing. Who wants few channels and is behind reads their own
streams until it has caught up: the log is that of all channels, and anybody may ask for it from the beginning, again
and again. One thread waits for the log, and only while somebody reads.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice

import msgspec

from projections.channels import is_channel
from projections.timeline import TimelineRow, row_of
from watchtower.http.nonces import TooBusy
from watchtower.http.own_events import own_events
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
        self._coming = threading.Lock()
        """Held while a thread is begun, or sees that nobody reads and ends: else a reader might have none."""

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

    def own(self, streams: Sequence[str], after: int, until: int) -> Iterator[Told]:
        """The events of some channels behind a position, up to another one; read as they are asked for."""
        return (self._told(row_of(each)) for each in own_events(self._store, streams, after, until))

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
        """Somebody waits for what is stored from now on: the reader has not looked yet, so it misses nothing."""
        with self._coming:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._wait, args=(self._store.last_id(),), name="feed", daemon=True
                )
                self._thread.start()

    def _wait(self, position: int) -> None:
        while self._is_needed():
            if not self._store.wait_beyond(position, WAIT):
                continue
            position = self._store.last_id()
            self.rouse()

    def _is_needed(self) -> bool:
        """Whether somebody reads; if not, the next reader begins another thread."""
        with self._coming:
            needed = bool(self._readers)
            if not needed:
                self._thread = None
            return needed

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

    `is_stranger` = the owner has no channel yet. `own` tells the streams that it is about, and the position up to which
    these are all of them; None if it is about the whole log.
    """

    feed: Feed
    stream: str | None = None
    owner: bytes | None = None
    after: int | None = None
    is_stranger: bool = False
    own: Callable[[], tuple[int, Sequence[str]]] | None = None

    def wants(self, told: Told) -> bool:
        """True for an event that belongs into this stream."""
        return self.stream in (None, told.stream) and self.owner in (None, told.owner)


class Reader:
    """One reader's place in the log. Called in worker threads, one call at a time."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._feed = subscription.feed
        self._far = 0 if subscription.after is not None else PAGE
        self._own: Iterator[Told] | None = None
        self._until = 0
        end = self._feed.last_id()
        # Who was told more than a restored log holds knows all of it, and would pass over the next events if it waited.
        self.position = end if subscription.after is None else min(subscription.after, end)
        """Everything that is wanted up to here was handed out."""

    def read(self) -> tuple[bool, list[Told]]:
        """The next events that are wanted, in the order of the log, and whether it ends here."""
        own = self._own or self._catch_up()
        if own is None:
            end, page = self._feed.read(self.position)
            is_at_end, self.position = end == self.position, end
            return is_at_end, [told for told in page if self._subscription.wants(told)]
        told = list(islice(own, PAGE))
        is_whole = len(told) < PAGE
        self._own, self.position = (None, self._until) if is_whole else (own, told[-1].id)
        return False, told

    def _catch_up(self) -> Iterator[Told] | None:
        """The own streams, for a reader that begins in the past or fell behind; None where the log is shorter."""
        far, self._far = self._far, PAGE
        if self._subscription.own is None or self._feed.last_id() - self.position <= far:
            return None
        self._until, streams = self._subscription.own()
        if self._until - self.position <= len(streams):
            return None
        return self._feed.own(streams, self.position, self._until)


async def frames(
    subscription: Subscription, news: asyncio.Event, heartbeat: float, allowed: Callable[[], bool] = lambda: True
) -> AsyncIterator[bytes]:
    """Server-sent events, and after `heartbeat` seconds without one a comment; both carry the position.

    What happens in channels that this reader does not see is silence to it: without a comment it would take the stream
    for dead, and come back to read all of that again. `news` is that of `Feed.reading`. Ends when `allowed` says no: a
    token that was revoked reads no further.
    """
    clock = asyncio.get_running_loop().time
    reader = Reader(subscription)
    yield _silence(reader.position)
    told_at = clock()
    while allowed():
        news.clear()
        is_at_end, page = await asyncio.to_thread(reader.read)
        for told in page:
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (told.id, told.kind.encode(), told.body)
            told_at = clock()
        left = told_at + heartbeat - clock()
        if left <= 0:
            yield _silence(reader.position)
            told_at = clock()
        elif is_at_end:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await news.wait()


def _silence(position: int) -> bytes:
    """An id without data is remembered by the client and shown to nobody."""
    return b": still here\nid: %d\n\n" % position
