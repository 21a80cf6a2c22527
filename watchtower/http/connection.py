"""What uvicorn leaves out: a request has to arrive in time, and one address may not take all connections.

uvicorn has no limit for headers and bodies in transit, and an ASGI application is not called before the headers are
there. So the protocol class itself is extended: one timer per connection, armed while a request is incomplete. It
relies on inner names of uvicorn; tests hold sockets open in every way against both protocol classes.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import h11
import msgspec
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from watchtower.http.buckets import group_of
from watchtower.http.problems import EdgeRefusal, problem_response

GRACE = 1.0
"""Seconds behind the deadline until the connection is cut, so that a 408 can still be sent."""

HARD_LIMIT = 2
"""Beyond so many times the limit a connection is cut without an answer."""

HEAD_BYTES = 16_384
"""Request line and header fields. h11 has this limit itself, httptools has none."""

USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", 18)
"""Linux: how long sent bytes may stay unacknowledged, or a peer's window closed. Without it a reader that takes nothing
would hold its place for ever: closing a connection waits for what is still to be sent."""


class ConnectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds for a request to arrive; connections at once, all and of one address.

    `request_bytes` may arrive for one request with all its framing, refused or not; `unread` is for how many seconds
    a client may leave an answer lying.
    """

    seconds: float = 5.0
    total: int = 512
    per_address: int = 16
    request_bytes: int = 2**21
    unread: float = 30.0


class Doorman:
    """Counts connections of one listener. `group` tells which addresses count together, None for no limit.

    `refused` is called for each connection beyond the limits.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        group: Callable[[str], bytes | None] = group_of,
        refused: Callable[[], object] = lambda: None,
    ) -> None:
        self.limits = limits
        self.refused = refused
        self._group = group
        self._count = 0
        self._groups: Counter[bytes] = Counter()

    def enter(self, host: str) -> tuple[bytes | None, int]:
        """Count a connection; returns its group and how many times the tighter limit is used."""
        group = self._group(host)
        self._count += 1
        used = -(-self._count // self.limits.total)
        if group is not None:
            self._groups[group] += 1
            used = max(used, -(-self._groups[group] // self.limits.per_address))
        return group, used

    def leave(self, group: bytes | None) -> None:
        """A connection that was counted has ended."""
        self._count -= 1
        if group is not None:
            self._groups[group] -= 1
            if not self._groups[group]:
                del self._groups[group]


class _Timed:
    """The part that both protocol classes share; the names of its attributes are those of uvicorn."""

    doorman: Doorman
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    client: tuple[str, int] | None
    app: Any

    _timer: asyncio.TimerHandle | None = None
    _group: bytes | None = None
    _entered = False
    _received = 0

    def admit(self) -> None:
        """Count the connection and start its timer; too many are answered 503, far too many are cut."""
        own = self.transport.get_extra_info("socket")
        if own is not None and own.family in (socket.AF_INET, socket.AF_INET6):
            own.setsockopt(socket.IPPROTO_TCP, USER_TIMEOUT, round(self.doorman.limits.unread * 1000))
        self._group, used = self.doorman.enter(self.client[0] if self.client else "")
        self._entered = True
        self.arm()
        if used > 1:
            self.doorman.refused()
        if used > HARD_LIMIT:
            self.transport.abort()
        elif used > 1:
            self.app = _too_many

    def arm(self) -> None:
        """Start the timer unless it runs."""
        if self._timer is None:
            self._timer = self.loop.call_later(self.doorman.limits.seconds + GRACE, self.transport.abort)

    def disarm(self) -> None:
        """Stop the timer: the request is complete, or there is none."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def weigh(self, size: int, *, incomplete: bool) -> None:
        """Note that bytes of a request have arrived, and whether it is complete with them; cut what has no end.

        The application counts the body itself. What it does not see counts here: framing, trailers, and all that
        comes after its refusal.
        """
        self._received = self._received + size if incomplete else 0
        if self._received > self.doorman.limits.request_bytes:
            self.transport.abort()

    def end(self) -> None:
        """The connection is gone."""
        self.disarm()
        if self._entered:
            self._entered = False
            self.doorman.leave(self._group)


_LONG_HEAD = f"The head of a request may have at most {HEAD_BYTES} bytes."


async def _too_many(scope: Scope, receive: Receive, send: Send) -> None:
    refusal = EdgeRefusal("too-busy", "there are too many connections; close some, or try again")
    answer = problem_response(refusal)
    answer.headers["Connection"] = "close"
    await answer(scope, receive, send)


def h11_protocol(doorman: Doorman) -> type[asyncio.Protocol]:
    """uvicorn's pure Python protocol with limits."""

    class TimedH11Protocol(_Timed, H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.admit()

        def connection_lost(self, exc: Exception | None) -> None:
            self.end()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.weigh(len(data), incomplete=self._look())

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._look()

        def _look(self) -> bool:
            """Whether a request is on its way."""
            state = self.conn.their_state
            is_begun = state is h11.IDLE and bool(self.conn.trailing_data[0])
            if is_begun or state is h11.SEND_BODY:
                self.arm()
                return True
            self.disarm()
            return False

    TimedH11Protocol.doorman = doorman
    return TimedH11Protocol


def httptools_protocol(doorman: Doorman) -> type[asyncio.Protocol]:
    """uvicorn's fast protocol with limits; raises `ImportError` without httptools."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol  # noqa: PLC0415 - an extra

    class TimedHttpToolsProtocol(_Timed, HttpToolsProtocol):
        _in_head = False
        _in_request = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.admit()

        def connection_lost(self, exc: Exception | None) -> None:
            self.end()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.weigh(len(data), incomplete=self._in_request)
            if self._in_head and self._received > HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(_LONG_HEAD)

        def on_message_begin(self) -> None:
            self._in_head = self._in_request = True
            self.arm()
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._in_head = False
            if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
                raise ValueError(_LONG_HEAD)  # the parser turns it into a 400
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._in_request = False
            self.disarm()
            super().on_message_complete()

    TimedHttpToolsProtocol.doorman = doorman
    return TimedHttpToolsProtocol


def protocol(doorman: Doorman) -> type[asyncio.Protocol]:
    """The fast one if it is installed, else the other."""
    try:
        return httptools_protocol(doorman)
    except ImportError:
        return h11_protocol(doorman)
