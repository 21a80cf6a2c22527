"""A hostile peer on the encrypted TCP transport: it repeats everything, breaks off anywhere, speaks out of order.

The near side is honest. Whatever comes, its calls end with a result or a typed error, and over an honest connection
the channel goes on from a state that both sides hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import pytest

from domain.errors import DomainError
from tests.support.linking import Linked, linked, new_parties
from tests.support.wires import ALICE_KEY, curve_wire
from watchtower.client.peer_errors import PeerError, TransportClosed
from watchtower.client.peers.messages import decode
from watchtower.client.protocol.messages import Reestablish
from watchtower.client.transport import Transport

pytestmark = pytest.mark.asyncio
T = TypeVar("T")
Act = Callable[["Mischief", bytes], Awaitable[None]]
NEXT, LAST = (490_000, 510_000), (480_000, 520_000)
SECONDS = 60.0


class Mischief:
    """The far end of a connection whose owner does something with each message that it sends."""

    def __init__(self, inner: Transport, act: Act) -> None:
        self.inner, self.said = inner, list[bytes]()
        self._act = act

    @property
    def peer(self) -> bytes:
        """As the inner one."""
        return self.inner.peer

    async def send(self, message: bytes) -> None:
        """Do it instead of sending."""
        self.said.append(message)
        await self._act(self, message)

    async def receive(self) -> bytes:
        """As the inner one."""
        return await self.inner.receive()

    async def close(self) -> None:
        """As the inner one."""
        await self.inner.close()


async def parrot(end: Mischief, message: bytes) -> None:
    """The message, then everything that was ever said but greetings, which would be answered without end."""
    for each in (message, *end.said):
        if each is message or not isinstance(decode(each), Reestablish):
            await end.inner.send(each)


async def backwards(end: Mischief, message: bytes) -> None:
    """The newest first, then the oldest three once more."""
    for each in (message, *reversed(end.said[:3])):
        if each is message or not isinstance(decode(each), Reestablish):
            await end.inner.send(each)


def breaks_off(at: int, keep: float) -> Act:
    """The message of that number is sent in part, and the connection is closed."""

    async def act(end: Mischief, message: bytes) -> None:
        if len(end.said) < at:
            await end.inner.send(message)
            return
        await end.inner.send(message[: int(len(message) * keep)])
        await end.inner.close()

    return act


@asynccontextmanager
async def connected(before: Linked | None, act: Act | None) -> AsyncIterator[Linked]:
    """Links over TCP between new parties or those of before; the far side does `act`."""
    parties, books = (before.parties, before.books) if before else new_parties()
    async with curve_wire() as wire:
        near = await wire.dial(ALICE_KEY)
        far = await asyncio.wait_for(wire.listener.accept(), SECONDS)
        ends = (near, Mischief(far, act) if act else far)
        async with linked(ends, parties, books, timeout_ms=30_000) as two:
            yield two


async def tried(call: Awaitable[T]) -> T | None:
    """The result, or None for a typed error."""
    with suppress(PeerError, TransportClosed, DomainError):
        return await asyncio.wait_for(call, SECONDS)
    return None


async def assert_goes_on(before: Linked, channel_id: bytes) -> None:
    """Honest again: what was cut off is finished, both sides are at one state, not older than before, and move on."""
    had = max(party.channel(channel_id).sequence for party in before.parties)
    async with connected(before, None) as two:
        await two.a.wait_for(channel_id, lambda channel: channel.pending is None)
        done = await asyncio.wait_for(two.a.update(channel_id, LAST), SECONDS)
        ends = [party.channel(channel_id) for party in two.parties]

        assert done > had
        assert [done, LAST, None] == [ends[0].sequence, ends[0].balances, ends[0].frozen]
        assert ends[0].state == ends[1].state


@pytest.mark.parametrize("act", [parrot, backwards])
async def test_a_peer_that_repeats_itself(act: Act) -> None:
    """Old messages after every new one: no state but those that were agreed to, none twice."""
    async with connected(None, None) as two:
        channel_id = await two.open()
    async with connected(two, act) as hostile:
        for balances in (NEXT, (495_000, 505_000)):
            await tried(hostile.a.update(channel_id, balances))
        sequence = hostile.parties[0].channel(channel_id).sequence

    assert sequence == 2
    await assert_goes_on(two, channel_id)


@pytest.mark.parametrize("keep", [0.0, 0.5])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
async def test_a_peer_that_breaks_off(at: int, keep: float) -> None:
    """Nothing, or half a message, then the end of the connection, at every message of an update."""
    async with connected(None, None) as two:
        channel_id = await two.open()
    async with connected(two, breaks_off(at, keep)) as hostile:
        await tried(hostile.a.update(channel_id, NEXT))

    await assert_goes_on(two, channel_id)
