"""How much a connection has brought since its last whole message.

libzmq gathers the parts of a message until the last one comes and bounds their sizes, not their number: a peer that
sends parts without end would fill the memory of this program, and no event tells of it. The kernel counts the bytes.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress

from watchtower.client.messages import MAX_MESSAGE
from watchtower.client.transport.curve_socket import OVERHEAD, RECEIVE_LIMIT

PART_BYTES = (RECEIVE_LIMIT + 10) * (MAX_MESSAGE + OVERHEAD)
"""24 MB: more than libzmq reads ahead in whole messages. Heartbeats alone reach it after weeks without a message; then
the connection is made anew."""

LOOK_SECONDS = 1.0
"""A look is one system call. What comes between two of them is bounded by the line."""

_RECEIVED = slice(128, 136)
"""`tcpi_bytes_received` in Linux's `struct tcp_info` (since 4.1)."""


class Meter:
    """Of one connection, by libzmq's descriptor."""

    def __init__(self, descriptor: int, limit: int = PART_BYTES) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._base = 0
        self._is_whole = False

    def whole(self) -> None:
        """A whole message came; it costs nothing, for there are many."""
        self._is_whole = True

    def is_over(self) -> bool:
        """Whether more came than any whole message needs. Never where the kernel does not count."""
        received = _received(self._descriptor)
        if self._is_whole:
            self._base, self._is_whole = received, False
        return received - self._base > self._limit


def _received(descriptor: int) -> int:
    if sys.platform != "linux":
        return 0
    with suppress(OSError), socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as connection:
        return int.from_bytes(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)[_RECEIVED], sys.byteorder)
    return 0
