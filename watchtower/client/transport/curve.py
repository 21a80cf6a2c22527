"""Authenticated and encrypted connections over TCP: the side that dials.

ZeroMQ's CURVE gives both sides proof of the other's key, forward secrecy, and frames that cannot be changed
unseen. Its habit of connecting again by itself is switched off: a message that was on the way when a connection
broke may be lost, and then the link has to know (see `port.Transport`).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import NoReturn

import zmq
import zmq.asyncio

from domain.errors import MalformedInput
from watchtower.client.peer_errors import PeerNotAllowed, PeerUnreachable, TransportClosed
from watchtower.client.protocol.messages import MAX_MESSAGE
from watchtower.client.transport.curve_key import PeerAddress, TransportKey
from watchtower.client.transport.curve_meter import Backlog, Meter
from watchtower.client.transport.curve_socket import BYE, HELLO, MESSAGE, PING, Timing, Watched, end, prepare

ENDED = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_CONNECT_RETRIED
FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL

_log = logging.getLogger(__name__)


class CurveDialer:
    """Makes connections as one party. Close it after its connections."""

    def __init__(self, key: TransportKey, timing: Timing | None = None) -> None:
        self._key = key
        self._timing = timing or Timing()
        self._context = zmq.asyncio.Context()

    def __repr__(self) -> str:
        return f"<CurveDialer {self._key.public.hex()[:8]}>"

    async def dial(self, address: PeerAddress) -> CurveConnection:
        """Connect to the program that holds the key of the address.

        Raises `PeerUnreachable` if nobody or somebody else answers, `PeerNotAllowed` if the peer refuses this key.
        """
        connection = CurveConnection(self._context.socket(zmq.DEALER), self._key, address, self._timing)
        try:
            async with asyncio.timeout(self._timing.handshake):
                await connection.greet()
        except TimeoutError:
            await connection.close()
            raise PeerUnreachable(f"no answer from {address.host}:{address.port} in time") from None
        except BaseException:
            await connection.close()
            raise
        return connection

    async def close(self) -> None:
        """Free the context; waits until last messages have left, half a second at most."""
        await end(self._context)


class CurveConnection:
    """A `Transport` to a listener."""

    def __init__(self, socket: zmq.asyncio.Socket, key: TransportKey, address: PeerAddress, timing: Timing) -> None:
        self.peer = address.key
        self._address = address
        self._timing = timing
        prepare(socket, timing)
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        key.apply(socket)
        socket.curve_serverkey = address.key
        self._watched = Watched(socket)
        self._ended = ""
        self._closed = False
        self._meter = Meter(-1)
        self._backlog = Backlog(-1)
        self._looked = 0.0
        self._heard = 0.0
        self._beating: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<CurveConnection to {self._address}>"

    async def greet(self) -> None:
        """Connect, wait for the proof of the peer's key, and for its hello."""
        place = f"{self._address.host}:{self._address.port}"
        try:
            self._watched.socket.connect(self._address.endpoint)
        except zmq.ZMQError as error:
            raise PeerUnreachable(f"{place} is no address to connect to ({error.strerror})") from None
        while (found := await self._next_event()) != zmq.EVENT_HANDSHAKE_SUCCEEDED:
            if found == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                raise PeerNotAllowed(
                    f"the program at {place} refuses the key of this party; its owner has to name it as a peer"
                )
            if found & FAILED:
                raise PeerUnreachable(f"the program at {place} does not hold the key {self._address.key.hex()}")
            if found & ENDED:
                raise PeerUnreachable(f"nobody answers at {place}")
        await self._put(HELLO)
        answer = await self._take()
        if answer == BYE:
            raise PeerUnreachable(f"the program at {place} takes no further connection now")
        if answer != HELLO:
            raise PeerUnreachable(f"the program at {place} does not speak this protocol")
        self._beating = asyncio.create_task(self._beat(), name=f"heartbeat to {self._address}")

    async def send(self, raw: bytes) -> None:
        """See `Transport.send`."""
        if len(raw) > MAX_MESSAGE:
            raise MalformedInput(f"a message has at most {MAX_MESSAGE} bytes, got {len(raw)}")
        await self._put(MESSAGE + raw)

    async def receive(self) -> bytes:
        """See `Transport.receive`."""
        while (payload := await self._take()) == PING:
            pass
        if payload[:1] == MESSAGE:
            return payload[1:]
        await self.close()
        raise TransportClosed("the peer ended the connection" if payload == BYE else "the peer sent an unknown frame")

    async def close(self) -> None:
        """See `Transport.close`."""
        if self._closed:
            return
        self._closed = True
        self._ended = self._ended or "the connection was closed here"
        self._watched.close()
        if self._beating is not None:
            self._beating.cancel()

    async def _beat(self) -> None:
        """Say now and then that this side lives; whether it could be sent, `receive` finds out by itself."""
        while not self._ended:
            await asyncio.sleep(self._timing.heartbeat)
            with suppress(zmq.ZMQError):
                await self._watched.socket.send(PING, flags=zmq.NOBLOCK)

    async def _put(self, payload: bytes) -> None:
        if self._ended:
            raise TransportClosed(self._ended)
        try:
            await self._watched.socket.send(payload, flags=zmq.NOBLOCK)
        except zmq.Again:
            await self._leave("the connection ended, or the peer left too many messages unread")
        if not self._backlog.add(len(payload)):
            await self._leave("the peer left too many bytes unread")

    async def _leave(self, reason: str) -> NoReturn:
        """End a connection that takes no more."""
        _log.info("peer_gone peer=%s reason=%s", self.peer.hex()[:16], reason)
        self._ended = reason
        await self.close()
        raise TransportClosed(reason) from None

    async def _take(self) -> bytes:
        """The next frame; what arrived before the end comes before the news of the end."""
        while True:
            if self._closed:
                raise TransportClosed(self._ended)
            await self._note_events()
            frames = await self._watched.frames()
            if frames is not None and len(frames) == 1:
                self._meter.whole()
                self._heard = asyncio.get_running_loop().time()
                return bytes(frames[0].bytes)
            self._measure()
            if self._ended or frames is not None:
                await self.close()
                raise TransportClosed(self._ended)
            await self._watched.wait(self._timing.look)

    def _measure(self) -> None:
        """End a connection that is dead, and one whose message does not end."""
        now = asyncio.get_running_loop().time()
        if now - self._looked < self._timing.look or self._ended:
            return
        self._looked = now
        if self._meter.is_over():
            self._ended = "a message without end came"
        elif self._heard and now - self._heard > self._timing.silence:
            self._ended = self._timing.death

    async def _note_events(self) -> None:
        while (event := await self._watched.event()) is not None:
            if event[0] & ENDED:
                self._ended = self._ended or "the connection to the peer was lost"

    async def _next_event(self) -> int:
        while (event := await self._watched.event()) is None:
            await self._watched.wait(self._timing.look)
        if event[0] == zmq.EVENT_CONNECTED:
            self._meter, self._backlog = Meter(event[1]), Backlog(event[1])
        return event[0]
