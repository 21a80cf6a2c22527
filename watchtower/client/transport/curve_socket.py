"""Options of both ends and the frames between them.

A message is one frame: a kind and a body. `HELLO` begins a connection in both directions, `BYE` ends it where a
socket cannot (a ROUTER has no way to hang up on one peer), `PING` says now and then that this side lives. libzmq has
heartbeats of its own, and they must stay off: its timer aborts the program (assertion `!_io_error`, 4.3.5) if it fires
when a connection broke of which more than `RECEIVE_LIMIT` messages are unread, and a peer can see to both.
"""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from watchtower.client.protocol.messages import MAX_MESSAGE

HELLO, MESSAGE, BYE, PING = b"H", b"M", b"B", b"P"
OVERHEAD = 64
"""CURVE adds 33 bytes to a frame (command name, nonce, authenticator, flags), the kind one more."""

SEND_LIMIT = 1_000
"""Messages that may wait for a slow reader before the connection ends; their bytes are bounded in `curve_meter.py`."""

RECEIVE_LIMIT = 50
"""Messages that libzmq reads ahead; then TCP makes the sender wait."""

HANDSHAKE_SECONDS = 10.0
HEARTBEAT_SECONDS = 5.0
SILENCE_SECONDS = 15.0
"""A connection from which no frame came for so long, not even a heartbeat, is dead."""

LOOK_SECONDS = 1.0
"""A look is one system call. What comes between two of them is bounded by the line."""

LINGER_MS = 500


class Timing(msgspec.Struct, frozen=True):
    """Time limits of a connection, in seconds."""

    handshake: float = HANDSHAKE_SECONDS
    heartbeat: float = HEARTBEAT_SECONDS
    silence: float = SILENCE_SECONDS

    @property
    def look(self) -> float:
        """Seconds between two looks at what no event tells."""
        return min(LOOK_SECONDS, self.heartbeat)

    @property
    def death(self) -> str:
        """Why a silent connection ends."""
        return f"nothing came from the peer for {self.silence:g} s"


def prepare(socket: zmq.asyncio.Socket, timing: Timing) -> None:
    """Limits that hold for both ends."""
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE + OVERHEAD)
    socket.setsockopt(zmq.SNDHWM, SEND_LIMIT)
    socket.setsockopt(zmq.RCVHWM, RECEIVE_LIMIT)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.setsockopt(zmq.IPV6, 1)
    socket.setsockopt(zmq.HANDSHAKE_IVL, _ms(timing.handshake))


class Watched:
    """A socket with its monitor: what happened to connections, and frames, in one wait."""

    def __init__(self, socket: zmq.asyncio.Socket) -> None:
        self.socket = socket
        self._closed = False
        self._monitor: zmq.asyncio.Socket = socket.get_monitor_socket()
        self._poller = zmq.asyncio.Poller()
        self._poller.register(socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)

    async def wait(self, seconds: float) -> None:
        """Return when there is an event or a message, the socket was closed, or the time is over."""
        try:
            await self._poller.poll(_ms(seconds))
        except asyncio.CancelledError:
            # Closing a socket cancels whoever waits for it; that must not look like the end of the waiting task.
            task = asyncio.current_task()
            if not self._closed or (task is not None and task.cancelling()):
                raise

    async def event(self) -> tuple[int, int] | None:
        """The next event of a connection (kind, value), None if there is none now."""
        frames = await _now(self._monitor)
        if frames is None:
            return None
        event = parse_monitor_message([frame.bytes for frame in frames])
        return int(event["event"]), int(event["value"])

    async def frames(self) -> list[zmq.Frame] | None:
        """The next message, None if there is none now."""
        return await _now(self.socket)

    def close(self) -> None:
        """Close both; what was sent still leaves for `LINGER_MS`."""
        self._closed = True
        with contextlib.suppress(zmq.ZMQError):
            self.socket.disable_monitor()
        self._monitor.close(0)
        self.socket.close()


async def end(context: zmq.asyncio.Context) -> None:
    """Wait for the last bytes to leave, outside the event loop; all sockets must be closed."""
    await asyncio.to_thread(context.term)


async def _now(socket: zmq.asyncio.Socket) -> list[zmq.Frame] | None:
    try:
        return await socket.recv_multipart(flags=zmq.NOBLOCK, copy=False)
    except zmq.Again:
        return None


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
