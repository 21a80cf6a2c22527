"""Connections inside one process: nothing is encrypted, nothing leaves the memory. For tests and single programs."""

from __future__ import annotations

import asyncio
import logging

from domain.errors import MalformedInput
from watchtower.client.peer_errors import PeerNotAllowed, PeerUnreachable, TransportClosed
from watchtower.client.protocol.messages import MAX_MESSAGE
from watchtower.client.transport.admission import Admission
from watchtower.client.transport.port import Transport

WAITING_MESSAGES = 1_000
"""Messages that may wait for a slow reader before the connection ends …"""

WAITING_BYTES = 32_000_000
"""… and their bytes, whichever are too many first."""

_log = logging.getLogger(__name__)


class _Box:
    """One direction. `None` in the queue is the end."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._bytes = 0
        self.ended = False

    def put(self, raw: bytes) -> bool:
        """False if there is no room."""
        if self._queue.qsize() >= WAITING_MESSAGES or self._bytes + len(raw) > WAITING_BYTES:
            return False
        self._bytes += len(raw)
        self._queue.put_nowait(raw)
        return True

    def end(self) -> None:
        """Nothing comes after what is waiting."""
        if not self.ended:
            self.ended = True
            self._queue.put_nowait(None)

    async def get(self) -> bytes:
        """The next message, or `TransportClosed`."""
        raw = await self._queue.get()
        if raw is None:
            self._queue.put_nowait(None)
            raise TransportClosed("the connection ended")
        self._bytes -= len(raw)
        return raw


class MemoryTransport:
    """One end of an in-process connection."""

    def __init__(self, peer: bytes, incoming: _Box, outgoing: _Box) -> None:
        self.peer = peer
        self._incoming = incoming
        self._outgoing = outgoing

    def __repr__(self) -> str:
        return f"<MemoryTransport to {self.peer.hex()[:8]}>"

    async def send(self, raw: bytes) -> None:
        """See `Transport.send`."""
        if len(raw) > MAX_MESSAGE:
            raise MalformedInput(f"a message has at most {MAX_MESSAGE} bytes, got {len(raw)}")
        if self._outgoing.ended:
            raise TransportClosed("the connection ended")
        if not self._outgoing.put(raw):
            await self.close()
            _log.info("peer_gone peer=%s reason=%s", self.peer.hex()[:16], "it left too much unread")
            raise TransportClosed("the peer left too many messages or bytes unread; the connection was closed")

    async def receive(self) -> bytes:
        """See `Transport.receive`."""
        return await self._incoming.get()

    async def close(self) -> None:
        """See `Transport.close`."""
        self._outgoing.end()
        self._incoming.end()


def memory_pair(first: bytes, second: bytes) -> tuple[MemoryTransport, MemoryTransport]:
    """Both ends of a connection between two identities (32 bytes each); the first end belongs to `first`."""
    there, back = _Box(), _Box()
    return MemoryTransport(second, back, there), MemoryTransport(first, there, back)


class MemoryListener:
    """A listener of one identity; `dial` is the other side's way in."""

    def __init__(self, identity: bytes, admission: Admission) -> None:
        self.identity = identity
        self._admission = admission
        self._waiting: asyncio.Queue[MemoryTransport | None] = asyncio.Queue()
        self._accepted: list[MemoryTransport] = []
        self._closed = False

    async def dial(self, own: bytes) -> MemoryTransport:
        """Connect as `own`; `PeerNotAllowed` or `PeerUnreachable`."""
        if self._closed:
            raise PeerUnreachable("nobody listens any more")
        if not self._admission(own):
            raise PeerNotAllowed("the peer does not talk with this key")
        theirs, mine = memory_pair(self.identity, own)
        self._accepted.append(theirs)
        self._waiting.put_nowait(theirs)
        return mine

    async def accept(self) -> Transport:
        """See `Listener.accept`."""
        transport = await self._waiting.get()
        if transport is None:
            self._waiting.put_nowait(None)
            raise TransportClosed("the listener was closed")
        return transport

    async def close(self) -> None:
        """See `Listener.close`."""
        self._closed = True
        self._waiting.put_nowait(None)
        for transport in self._accepted:
            await transport.close()
