"""Links whose transports lose chosen messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from tests.support.clocks import LoopTime
from tests.support.linking import ALICE, BOB, TIMEOUT_MS, Linked
from watchtower.client.peers.messages import decode
from watchtower.client.protocol.messages import Message
from watchtower.client.transport.memory import MemoryTransport, memory_pair

T = TypeVar("T")
NEXT = (490_000, 510_000)


class Sieve:
    """A transport that loses chosen messages on their way out."""

    def __init__(self, inner: MemoryTransport, loss: asyncio.Event) -> None:
        self._inner, self._loss = inner, loss
        self.peer = inner.peer
        self.lost: tuple[type[Message], ...] = ()
        self.sent: list[Message] = []

    async def send(self, raw: bytes) -> None:
        """Send, unless it is to be lost."""
        message = decode(raw)
        if isinstance(message, self.lost):
            self._loss.set()
            return
        self.sent.append(message)
        await self._inner.send(raw)

    async def lose(self) -> None:
        """Return when the next message was lost, at this end or the other."""
        self._loss.clear()
        await soon(self._loss.wait())

    async def receive(self) -> bytes:
        """As the inner one."""
        return await self._inner.receive()

    async def close(self) -> None:
        """As the inner one."""
        await self._inner.close()


def sieves() -> tuple[Sieve, Sieve]:
    """Both ends of a connection that can lose messages."""
    near, far = memory_pair(ALICE, BOB)
    loss = asyncio.Event()
    return Sieve(near, loss), Sieve(far, loss)


async def unanswered(two: Linked, near: Sieve, call: Awaitable[T]) -> T:
    """A call of which a message gets lost: its time passes as soon as nothing happens any more."""
    time, waiting = LoopTime(), asyncio.ensure_future(call)
    await near.lose()
    await two.rest()
    time.forward(TIMEOUT_MS / 1000)
    return await soon(waiting)


async def soon(waiting: Awaitable[T]) -> T:
    """What must happen within seconds, and on a busy machine in half a minute."""
    return await asyncio.wait_for(waiting, 30)
