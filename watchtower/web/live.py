"""The page's event stream: it says that something changed, and the page asks for itself again.

No content travels here: what is shown comes from one place, the templates. A reader that was away gets one message with
the present position, however much it missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import structlog
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from watchtower.http.feed import Feed
from watchtower.http.openapi import EVENT_STREAM
from watchtower.http.traffic import Traffic

STREAMS = 8
"""Open pages with live updates; further ones are told to come back. The listener has 16 connections in all."""

HEARTBEAT = 15.0
"""Seconds of silence after which a page draws itself again: ages grow, and the node's numbers change unheard."""

PACE = 0.5
"""Least seconds between two messages: a flood of updates is one change after the other, not thousands."""

SLOW_READER = 30.0
RETRY_MS = 3_000

_log = structlog.get_logger(__name__)


class PageStream(StreamingResponse):
    """Messages for one open page, until it leaves, reads nothing for long, or may not stay."""

    def __init__(self, feed: Feed, seen: int | None, may_stay: Callable[[], bool], traffic: Traffic) -> None:
        """`seen` is the position that the page shows; None: it wants to hear of what comes now."""
        super().__init__((), 200, {"X-Accel-Buffering": "no"}, EVENT_STREAM)
        self._feed, self._seen, self._may_stay, self._traffic = feed, seen, may_stay, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, if there is room for one more page; else `TooBusy`."""
        with self._feed.reading(None) as news:
            self.body_iterator = messages(self._feed, news, self._seen, self._may_stay)
            self._traffic.began()
            self._traffic.became_stream()
            try:
                await super().__call__(scope, receive, send)
            finally:
                self._traffic.ended(is_stream=True)

    async def stream_response(self, send: Send) -> None:
        """Send the messages; a page that reads nothing is left."""

        async def in_time(message: Message) -> None:
            async with asyncio.timeout(SLOW_READER):
                await send(message)

        try:
            await super().stream_response(in_time)
        except TimeoutError:
            _log.info("event_stream_ended", reason="the reader takes nothing")


async def messages(
    feed: Feed, news: asyncio.Event, seen: int | None, may_stay: Callable[[], bool], heartbeat: float = HEARTBEAT
) -> AsyncIterator[bytes]:
    """`hello`, `changed` with the position of the log when something did, `beat` after a silence."""
    position = feed.last_id()
    yield b"retry: %d\n\n" % RETRY_MS
    yield _message(b"hello" if seen in (None, position) else b"changed", position)
    while may_stay():
        try:
            async with asyncio.timeout(heartbeat):
                await news.wait()
        except TimeoutError:
            yield _message(b"beat", feed.last_id())
            continue
        news.clear()
        yield _message(b"changed", feed.last_id())
        await asyncio.sleep(PACE)


def _message(kind: bytes, position: int) -> bytes:
    return b'id: %d\nevent: %s\ndata: {"position":%d}\n\n' % (position, kind, position)
