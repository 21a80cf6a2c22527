"""Transports under test, behind one face; and a TCP proxy that sees and changes what passes.

async with curve_wire() as wire:
    near = await wire.dial(ALICE_KEY)
    far = await wire.accept()
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Protocol

import msgspec

from watchtower.client.transport import Listener, Transport
from watchtower.client.transport.admission import Admission, only
from watchtower.client.transport.curve import CurveDialer
from watchtower.client.transport.curve_key import PeerAddress, TransportKey
from watchtower.client.transport.curve_listener import CurveListener
from watchtower.client.transport.curve_socket import Timing
from watchtower.client.transport.memory import MemoryListener

QUICK = Timing(handshake=30.0, heartbeat=0.5, silence=30.0)
"""Looks often, and gives a busy machine time for its answers."""

LIVELY = Timing(handshake=30.0, heartbeat=0.2, silence=60.0)
"""Many heartbeats, and time for a machine that stands still meanwhile."""

IMPATIENT = Timing(handshake=30.0, heartbeat=0.2, silence=2.0)
"""For tests that wait for the end of a line on which nothing passes, and do nothing else on it."""


def key_of(name: str) -> TransportKey:
    """A transport key that depends on the name only."""
    return TransportKey.from_seed(sha256(b"transport " + name.encode()).digest())


ALICE_KEY, BOB_KEY, EVE_KEY = key_of("alice"), key_of("bob"), key_of("eve")
"""Bob listens and lets Alice in; Eve is a stranger."""


class Wire(Protocol):
    """A listener of Bob's and a way to it."""

    listener: Listener

    async def dial(self, key: TransportKey) -> Transport:
        """Connect with a key."""


class MemoryWire:
    """In one process."""

    def __init__(self, admission: Admission) -> None:
        self.listener = MemoryListener(BOB_KEY.public, admission)

    async def dial(self, key: TransportKey) -> Transport:
        """See `Wire`."""
        return await self.listener.dial(key.public)

    async def close(self) -> None:
        """End everything."""
        await self.listener.close()


class CurveWire:
    """Over TCP on the loopback interface."""

    def __init__(self, admission: Admission, timing: Timing) -> None:
        self.listener = CurveListener(BOB_KEY, "127.0.0.1", 0, admission, timing)
        self.timing = timing
        self._dialers: list[CurveDialer] = []
        self._made: list[Transport] = []

    async def dial(self, key: TransportKey, address: PeerAddress | None = None) -> Transport:
        """See `Wire`; another address for a detour."""
        dialer = CurveDialer(key, self.timing)
        self._dialers.append(dialer)
        self._made.append(await dialer.dial(address or self.listener.address))
        return self._made[-1]

    async def close(self) -> None:
        """End everything."""
        for each in self._made:
            await each.close()
        for dialer in self._dialers:
            await dialer.close()
        await self.listener.close()


@asynccontextmanager
async def memory_wire() -> AsyncIterator[MemoryWire]:
    """Lets only Alice in."""
    wire = MemoryWire(only([ALICE_KEY.public]))
    try:
        yield wire
    finally:
        await wire.close()


@asynccontextmanager
async def curve_wire(timing: Timing = QUICK, admission: Admission | None = None) -> AsyncIterator[CurveWire]:
    """Lets only Alice in, or whom the admission says."""
    wire = CurveWire(admission or only([ALICE_KEY.public]), timing)
    await wire.listener.start()
    try:
        yield wire
    finally:
        await wire.close()


class Tap(msgspec.Struct):
    """What a proxy saw, in both directions, and what it does to bytes on their way to the listener."""

    seen: bytearray = msgspec.field(default_factory=bytearray)
    change: Callable[[bytes], bytes] | None = None
    silent: bool = False

    def flip(self, mask: int) -> asyncio.Event:
        """Change the last byte of all that comes from now on; the event tells that something came."""
        came = asyncio.Event()

        def flipped(data: bytes) -> bytes:
            came.set()
            return data[:-1] + bytes([data[-1] ^ mask])

        self.change = flipped
        return came


@asynccontextmanager
async def tapped(address: PeerAddress, tap: Tap) -> AsyncIterator[PeerAddress]:
    """A TCP proxy before a listener; yields the address to dial instead."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, change: bool) -> None:
        while data := await source.read(65_536):
            tap.seen.extend(data)
            if tap.silent:
                continue
            target.write(tap.change(data) if change and tap.change else data)
            await target.drain()
        target.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(address.host, address.port)
        writers.extend((writer, far_writer))
        for job in (carry(reader, far_writer, True), carry(far_reader, writer, False)):
            tasks.add(asyncio.create_task(job))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield PeerAddress(address.key, "127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
