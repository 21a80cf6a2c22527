"""How much of a connection libzmq holds in memory: of a message that does not end, and for a peer that does not read.

libzmq gathers the parts of a message until the last one comes and bounds their sizes, not their number: a peer that
sends parts without end would fill the memory of this program, and no event tells of it. What waits to be sent it counts
in messages, not in bytes: a peer that asks for long ones and reads none would fill it as well. The kernel counts the
bytes in both directions.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress

from watchtower.client.protocol.messages import MAX_MESSAGE
from watchtower.client.transport.curve_socket import OVERHEAD, RECEIVE_LIMIT

PART_BYTES = (RECEIVE_LIMIT + 10) * (MAX_MESSAGE + OVERHEAD)
"""24 MB: more than libzmq reads ahead in whole messages. Heartbeats alone reach it after weeks without a message; then
the connection is made anew."""

UNSENT_BYTES = 32_000_000
"""What may wait for one peer: 80 of the longest messages. All that an honest peer asks for after a break is less."""

LOOK_BYTES = 1_000_000
"""So many are sent between two looks at what has arrived."""

_ARRIVED, _RECEIVED = slice(120, 128), slice(128, 136)
"""`tcpi_bytes_acked` and `tcpi_bytes_received` in Linux's `struct tcp_info` (since 4.1)."""

_FRAME = 35
"""What a message of this transport takes on the line above its bytes, at least."""


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
        received = _counted(self._descriptor, _RECEIVED)
        if self._is_whole:
            self._base, self._is_whole = received, False
        return received - self._base > self._limit


class Backlog:
    """What was sent to one peer and has not arrived at its machine, by libzmq's descriptor."""

    def __init__(self, descriptor: int, limit: int = UNSENT_BYTES) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._before = _counted(descriptor, _ARRIVED)
        self._sent = 0
        self._looked = 0

    def add(self, size: int) -> bool:
        """A message of so many bytes was sent. False if too much waits now; never where the kernel does not count."""
        self._sent += size + _FRAME
        if self._sent - self._looked < min(LOOK_BYTES, self._limit):
            return True
        counted = _counted(self._descriptor, _ARRIVED)
        arrived = counted - self._before
        # Heartbeats arrive that nobody has counted here.
        self._sent = self._looked = max(self._sent, arrived)
        return counted == 0 or self._sent - arrived <= self._limit


def _counted(descriptor: int, field: slice) -> int:
    if sys.platform != "linux":
        return 0
    with suppress(OSError), socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as connection:
        return int.from_bytes(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)[field], sys.byteorder)
    return 0
