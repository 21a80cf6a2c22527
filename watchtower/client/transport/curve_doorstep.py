"""Connections that hold a file descriptor of this program and are no sessions: strangers, loiterers, peers shown out.

libzmq bounds how long a handshake takes, not how many it has in hand, and a ROUTER cannot hang up on a peer that
proved its key and stays. A party without free descriptors can open neither its log nor its tower, so their number is
bounded here, and the oldest gives way: a genuine peer is through within a few round trips, however many wait.
"""

from __future__ import annotations

import socket
from contextlib import suppress

WAITING_LIMIT = 100
"""Far below the 1,024 descriptors that a program usually has, far above the peers that connect at one moment."""


class Doorstep:
    """Who waits outside, oldest first, by libzmq's descriptor."""

    def __init__(self, limit: int = WAITING_LIMIT) -> None:
        self._limit = limit
        self._waiting: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def came(self, descriptor: int) -> None:
        """A connection was accepted, or its session is over."""
        self._waiting.pop(descriptor, None)
        self._waiting[descriptor] = None

    def left(self, descriptor: int) -> None:
        """It ended, or became a session. Harmless for one that does not wait."""
        self._waiting.pop(descriptor, None)

    def clear(self, port: int) -> None:
        """Hang up on the oldest above the limit; `port` is that of the listener."""
        while len(self._waiting) > self._limit:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            hang_up(oldest, port)


def hang_up(descriptor: int, port: int) -> None:
    """End the connection and leave the descriptor to libzmq, which closes it when it reads the end.

    It may have been closed a moment ago and stand for something else by now: only a connection to `port` is ended.
    """
    with suppress(OSError), socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as connection:
        if connection.getsockname()[1:2] == (port,):
            connection.shutdown(socket.SHUT_RDWR)
