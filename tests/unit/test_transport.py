"""What every transport promises, on both of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import pytest

from domain.errors import MalformedInput
from tests.support.wires import ALICE_KEY, BOB_KEY, EVE_KEY, Wire, curve_wire, memory_wire
from watchtower.client.peer_errors import PeerNotAllowed, TransportClosed
from watchtower.client.protocol.messages import MAX_MESSAGE
from watchtower.client.transport import Transport
from watchtower.client.transport.curve_meter import UNSENT_BYTES
from watchtower.client.transport.curve_socket import RECEIVE_LIMIT, SEND_LIMIT

pytestmark = pytest.mark.asyncio

T = TypeVar("T")
MakeWire = Callable[[], AbstractAsyncContextManager[Wire]]


@pytest.fixture(params=[memory_wire, curve_wire], ids=["memory", "curve"])
def make_wire(request: pytest.FixtureRequest) -> MakeWire:
    """Both kinds."""
    made: MakeWire = request.param
    return made


async def both(wire: Wire) -> tuple[Transport, Transport]:
    """Alice's end and Bob's."""
    near = await wire.dial(ALICE_KEY)
    return near, await soon(wire.listener.accept())


async def soon(waiting: Awaitable[T]) -> T:
    """What must happen within seconds, and on a busy machine in half a minute."""
    return await asyncio.wait_for(waiting, 30)


async def test_messages_arrive_whole_and_in_order(make_wire: MakeWire) -> None:
    """Both directions, the empty one and the longest one, and a hundred in a row."""
    sent = [b"", b"one", bytes(MAX_MESSAGE), *(b"%d" % number for number in range(100))]
    async with make_wire() as wire:
        near, far = await both(wire)
        for raw in sent:
            await near.send(raw)
            await far.send(raw)

        assert sent == [await soon(far.receive()) for _ in sent]
        assert sent == [await soon(near.receive()) for _ in sent]


async def test_both_ends_know_each_other(make_wire: MakeWire) -> None:
    """The identity is the proved key, on both sides."""
    async with make_wire() as wire:
        near, far = await both(wire)

        assert (BOB_KEY.public, ALICE_KEY.public) == (near.peer, far.peer)


async def test_a_stranger_is_refused(make_wire: MakeWire) -> None:
    """A key that is not allowed is told so, and the listener has nobody to accept."""
    async with make_wire() as wire:
        with pytest.raises(PeerNotAllowed):
            await wire.dial(EVE_KEY)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.listener.accept(), 0.2)


async def test_a_longer_message_is_not_sent(make_wire: MakeWire) -> None:
    """The limit is checked before anything leaves; the connection goes on."""
    async with make_wire() as wire:
        near, far = await both(wire)
        for end in (near, far):
            with pytest.raises(MalformedInput, match="at most"):
                await end.send(bytes(MAX_MESSAGE + 1))
        await near.send(b"next")

        assert b"next" == await soon(far.receive())


@pytest.mark.parametrize("closer", [0, 1])
async def test_the_end_comes_after_what_was_sent(make_wire: MakeWire, closer: int) -> None:
    """Messages sent before a close are read, then both sides know of the end, as often as they ask."""
    async with make_wire() as wire:
        ends = await both(wire)
        await ends[closer].send(b"last words")
        await ends[closer].close()
        await ends[closer].close()

        assert b"last words" == await soon(ends[1 - closer].receive())
        for end in ends:
            for _ in range(2):
                with pytest.raises(TransportClosed):
                    await soon(end.receive())
        for end in ends:
            with pytest.raises(TransportClosed):
                await end.send(b"too late")


@pytest.mark.parametrize("closer", [0, 1])
async def test_waiting_receivers_hear_of_the_end(make_wire: MakeWire, closer: int) -> None:
    """Tasks that wait for a message are woken by a close, on the own side as on the other."""
    async with make_wire() as wire:
        ends = await both(wire)
        waiting = [asyncio.create_task(end.receive()) for end in ends]
        await asyncio.sleep(0.05)
        await ends[closer].close()

        for task in waiting:
            with pytest.raises(TransportClosed):
                await soon(task)


async def test_a_slow_reader_loses_the_connection_and_no_message(make_wire: MakeWire) -> None:
    """Who sends more than the bounds hear `TransportClosed`; what was read before is a gapless beginning."""
    async with make_wire() as wire:
        near, far = await both(wire)
        sent = 0
        with pytest.raises(TransportClosed):
            while sent < 100_000:
                await near.send(b"%d" % sent + bytes(20_000))
                sent += 1
                await asyncio.sleep(0)
        read = []
        with pytest.raises(TransportClosed):
            while True:
                read.append(int((await soon(far.receive())).rstrip(b"\0")))

        assert list(range(len(read))) == read
        assert 0 < len(read) <= sent


@pytest.mark.slow
async def test_what_waits_for_a_slow_reader_is_bounded_in_bytes(
    make_wire: MakeWire, caplog: pytest.LogCaptureFixture
) -> None:
    """Few of the longest messages are too many, long before their number is; the peer is left, and it is said."""
    caplog.set_level(logging.INFO)
    async with make_wire() as wire:
        _, near = await both(wire)
        sent = 0
        with pytest.raises(TransportClosed, match="bytes unread"):
            while sent < SEND_LIMIT:
                await near.send(bytes(MAX_MESSAGE))
                sent += 1
                await asyncio.sleep(0)
        with pytest.raises(TransportClosed):
            await near.send(b"more")

        # What libzmq and the kernel of the other side have taken in does not wait here any more.
        read_ahead = RECEIVE_LIMIT * MAX_MESSAGE + 20_000_000
        assert UNSENT_BYTES - MAX_MESSAGE <= sent * MAX_MESSAGE <= UNSENT_BYTES + read_ahead
        assert f"peer_gone peer={near.peer.hex()[:16]} " in caplog.text


async def test_a_burst_of_preimages_passes(make_wire: MakeWire) -> None:
    """Two hundred messages of a hundred kilobytes, none of them read before the last was sent."""
    async with make_wire() as wire:
        near, far = await both(wire)
        for number in range(200):
            await near.send(bytes([number]) * 100_000)

        assert list(range(200)) == [(await soon(far.receive()))[0] for _ in range(200)]


async def test_a_closed_listener_accepts_nobody(make_wire: MakeWire) -> None:
    """`accept` ends, the connections end, and nobody can dial any more."""
    async with make_wire() as wire:
        near, _ = await both(wire)
        await wire.listener.close()

        with pytest.raises(TransportClosed):
            await soon(wire.listener.accept())
        with pytest.raises(TransportClosed):
            await soon(near.receive())
