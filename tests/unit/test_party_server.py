"""Servers of parties over TCP: who is let in, links that come back, one link per peer, flipped bytes on the way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from typing import TypeVar

import pytest

from tests.fakes.keystore import MemoryKeystore
from tests.support.clocks import LoopTime
from tests.support.linking import TERMS, fund
from tests.support.parties import make_party
from tests.support.wires import LIVELY, QUICK, Tap, key_of, tapped
from watchtower.client.party.party import ChannelParty
from watchtower.client.party.peer_book import PeerBook
from watchtower.client.peer_errors import PeerError, PeerUnreachable, TransportClosed
from watchtower.client.peers.link import PeerLink
from watchtower.client.peers.server import PartyServer
from watchtower.client.peers.work import Done
from watchtower.client.transport.curve_key import PeerAddress
from watchtower.client.transport.curve_socket import Timing
from watchtower.client.transport.memory import MemoryTransport, memory_pair
from watchtower.devnode.launch import free_ports
from watchtower.ports import StoreBroken

pytestmark = pytest.mark.asyncio
T = TypeVar("T")
NEXT = (490_000, 510_000)


class Owner:
    """What survives a restart of a server: party, book, key, port."""

    def __init__(self, name: str) -> None:
        keystore = MemoryKeystore()
        self.party: ChannelParty = make_party(name, keystore=keystore)
        self.book = PeerBook(keystore)
        self.key = key_of(name)
        (port,) = free_ports(1)
        self.address = PeerAddress(self.key.public, "127.0.0.1", port)

    def server(self, *peers: PeerAddress, timeout_ms: int = 30_000, timing: Timing = QUICK) -> PartyServer:
        """A server that dials these peers and lets the same keys in."""
        return PartyServer(
            self.party,
            self.book,
            self.key,
            listen=("127.0.0.1", self.address.port),
            peers=peers,
            timeout_ms=timeout_ms,
            timing=timing,
            longest_pause=0.3,
        )


async def soon(waiting: Awaitable[T]) -> T:
    """What must happen within seconds, and on a busy machine in half a minute."""
    return await asyncio.wait_for(waiting, 30)


async def opened(a: PartyServer, b: Owner) -> bytes:
    """A channel between a server and a peer."""
    link = await a.link(b.key.public)
    return await link.open_channel(TERMS, fund)


async def ended(link: PeerLink, channel_id: bytes) -> None:
    """Wait until a link is over."""
    with pytest.raises(TransportClosed):
        await soon(link.wait_for(channel_id, lambda channel: False, 30_000))


async def failed(server: PartyServer, peer: Owner) -> None:
    """Wait until an attempt to reach a peer has failed."""
    while peer.key.public not in server._failures:  # noqa: ASYNC110 - a failure is told to nobody
        await asyncio.sleep(0.01)


async def test_both_may_dial_and_keep_one_link() -> None:
    """Two parties that dial each other end up with one connection, and both use it."""
    alice, bob = Owner("alice"), Owner("bob")
    async with alice.server(bob.address) as a, bob.server(alice.address) as b:
        channel_id = await soon(opened(a, bob))
        there = await b.link(alice.key.public)
        # The opener is done one message before the acceptor.
        await soon(there.wait_for(channel_id, lambda channel: channel.sequence >= 0, 30_000))
        made = await soon(_patiently(b, alice, channel_id))

        assert alice.key.public == there.peer
        assert 1 == made


async def test_a_restarted_peer_is_found_again() -> None:
    """The other side ends and comes back: its channel goes on over a new link, without any call for it."""
    alice, bob = Owner("alice"), Owner("bob")
    async with alice.server(bob.address) as a:
        async with bob.server(alice.address):
            channel_id = await soon(opened(a, bob))
            old = await a.link(bob.key.public)
        await ended(old, channel_id)
        async with bob.server(alice.address):
            new = await soon(a.link(bob.key.public))

            assert old is not new
            assert 1 == await soon(_patiently(a, bob, channel_id))


async def test_a_link_that_is_over_is_not_handed_out() -> None:
    """Its calls fail before its last work is done; who asks again at once is given the next one."""
    alice, bob = Owner("alice"), Owner("bob")
    may_end = threading.Event()

    def work() -> Done:
        may_end.wait(60)
        return Done()

    async with alice.server(bob.address) as a:
        async with bob.server(alice.address):
            channel_id = await soon(opened(a, bob))
            old = await a.link(bob.key.public)
            working = asyncio.create_task(old._perform(work))
        await ended(old, channel_id)
        async with bob.server(alice.address):
            asked = asyncio.create_task(a.link(bob.key.public))
            await asyncio.sleep(0)
            may_end.set()
            await working

            assert old is not await soon(asked)


class Lingering:
    """A connection whose end takes as long as the test wants."""

    def __init__(self, inner: MemoryTransport) -> None:
        self.peer, self._inner, self.may_end = inner.peer, inner, asyncio.Event()

    async def send(self, raw: bytes) -> None:
        """As the inner one."""
        await self._inner.send(raw)

    async def receive(self) -> bytes:
        """As the inner one."""
        return await self._inner.receive()

    async def close(self) -> None:
        """As the inner one, later."""
        await self.may_end.wait()
        await self._inner.close()


async def test_connections_that_come_at_once_leave_one_link() -> None:
    """Two new connections of a peer replace its old one at the same moment: one of them is served, the other ends."""
    alice, bob = Owner("alice"), Owner("bob")
    ends = [memory_pair(alice.key.public, bob.key.public)[1] for _ in range(3)]
    old = Lingering(ends[0])
    async with bob.server(alice.address) as b:
        serving = [asyncio.create_task(b._serve(old, dialed=False))]
        await b.link(alice.key.public)
        serving += [asyncio.create_task(b._serve(each, dialed=False)) for each in ends[1:]]
        await asyncio.sleep(0)
        old.may_end.set()
        await soon(asyncio.wait(serving[1:], return_when=asyncio.FIRST_COMPLETED))
        left = [task for task in serving if not task.done()]
        for each in ends:
            await each.close()
        await soon(asyncio.gather(*serving))

    assert 1 == len(left)


@pytest.mark.slow
async def test_a_flipped_byte_breaks_the_connection_and_not_the_channel() -> None:
    """The frame is thrown away with its connection; on the next one the update is made."""
    alice, bob = Owner("alice"), Owner("bob")
    tap = Tap()
    async with bob.server(alice.address, timing=LIVELY) as b, tapped(bob.address, tap) as detour:
        owner = (alice.party, alice.book, alice.key)
        dialing = PartyServer(*owner, peers=[detour], timeout_ms=600_000, timing=LIVELY, longest_pause=0.3)
        async with dialing as a:
            await soon(b.link(alice.key.public))
            channel_id = await soon(opened(a, bob))
            link = await a.link(bob.key.public)
            came = tap.flip(0x80)
            waiting = asyncio.create_task(link.update(channel_id, NEXT))
            await soon(came.wait())
            LoopTime().forward(LIVELY.silence)
            with pytest.raises(TransportClosed):
                await soon(waiting)
            tap.change = None

            assert 1 == await soon(_patiently(a, bob, channel_id))
            assert NEXT == bob.party.channel(channel_id).balances


@pytest.mark.slow
async def test_an_unknown_key_gets_no_link() -> None:
    """A stranger is not let in, and the server says that there is no connection."""
    alice, bob, eve = Owner("alice"), Owner("bob"), Owner("eve")
    async with bob.server(alice.address) as b, eve.server(bob.address) as e:
        await soon(failed(e, bob))
        with pytest.raises(PeerUnreachable, match="refuses the key of this party; its owner has to name it"):
            await e.link(bob.key.public, 500)
        with pytest.raises(PeerUnreachable, match="500 ms: its address is not known here, and it has not called"):
            await b.link(eve.key.public, 500)


async def test_who_waits_for_a_peer_is_told_what_was_in_the_way() -> None:
    """The last attempt's reason is in the error: a wrong port, or the own key by mistake."""
    alice, bob = Owner("alice"), Owner("bob")
    async with PartyServer(alice.party, alice.book, alice.key, peers=[bob.address], timing=QUICK) as a:
        await soon(failed(a, bob))
        with pytest.raises(PeerUnreachable, match=f"nobody answers at 127.0.0.1:{bob.address.port}"):
            await a.link(bob.key.public, 500)
        with pytest.raises(PeerUnreachable, match="the key of this party itself"):
            await soon(a.link(alice.key.public))


async def test_a_peer_that_somebody_waits_for_is_dialed_at_once() -> None:
    """The pauses between attempts have grown long; a call does not wait for the end of one."""
    alice, bob = Owner("alice"), Owner("bob")
    server = PartyServer(alice.party, alice.book, alice.key, peers=[bob.address], timing=QUICK, first_pause=3_600)
    async with server as a:
        await soon(failed(a, bob))
        async with bob.server(alice.address):
            link = await soon(a.link(bob.key.public, 30_000))

    assert bob.key.public == link.peer


async def test_a_peer_may_be_met_later() -> None:
    """An address that a running server hears of is dialed, its key let in; twice is once."""
    alice, bob = Owner("alice"), Owner("bob")
    async with bob.server(alice.address) as b, alice.server() as a:
        for _ in range(2):
            a.reach(bob.address)
        link = await soon(a.link(bob.key.public))
        back = await soon(b.link(alice.key.public))

    assert (bob.key.public, alice.key.public) == (link.peer, back.peer)


async def test_a_server_that_stops_ends_its_links() -> None:
    """Calls of the other side end at once; the port is free again."""
    alice, bob = Owner("alice"), Owner("bob")
    async with alice.server(bob.address) as a:
        async with bob.server(alice.address):
            channel_id = await soon(opened(a, bob))
            link = await a.link(bob.key.public)
        await ended(link, channel_id)
        async with bob.server(alice.address):
            pass

    assert 0 == alice.party.channel(channel_id).sequence


async def test_a_failing_store_ends_the_server() -> None:
    """A party that cannot trust its log any more does not go on with its peers."""
    alice, bob = Owner("alice"), Owner("bob")
    async with bob.server(alice.address) as b, alice.server(bob.address) as a:
        channel_id = await soon(opened(a, bob))
        bob.party._failpoint = _broken
        link = await a.link(bob.key.public)
        with pytest.raises(PeerError):
            await soon(link.update(channel_id, NEXT))

        with pytest.raises(ExceptionGroup) as failure:
            await soon(b.wait())
        assert "disk" in str(failure.value.exceptions[0])


def _broken(name: str) -> None:
    raise StoreBroken("the disk is gone")


async def _patiently(server: PartyServer, peer: Owner, channel_id: bytes) -> int:
    """Make the next state over whatever link there is; connections may be replaced meanwhile."""
    while True:
        try:
            return await (await server.link(peer.key.public)).update(channel_id, NEXT)
        except (TransportClosed, PeerUnreachable):
            await asyncio.sleep(0.05)
