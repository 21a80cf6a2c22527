"""Two parties with links between them, over any transport, in one event loop.

    async with linked() as two:                 # memory transport, parties in memory
        channel_id = await two.open()
        await two.a.update(channel_id, (490_000, 510_000))

Amounts are satoshi; the funding transactions are made up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.fakes.keystore import MemoryKeystore
from tests.support.parties import made_up_funding, make_party
from watchtower.client.party.party import ChannelParty
from watchtower.client.party.peer_book import PeerBook
from watchtower.client.peers.link import PeerLink
from watchtower.client.protocol.opening import Terms
from watchtower.client.tower.finality import Finality
from watchtower.client.transport import Transport
from watchtower.client.transport.memory import memory_pair

ALICE, BOB = b"\xaa" * 32, b"\xbb" * 32
"""Identities on the memory transport."""

TIMEOUT_MS = 30_000
"""Of a call, if the test names no other: on a busy machine it must not end for want of time."""

TERMS = Terms(balances=(500_000, 500_000))


def fund(spk: bytes, value: int) -> tuple[bytes, int]:
    """A funding outpoint that exists nowhere."""
    made = made_up_funding(spk, value)
    return made.txid, made.vout


class Linked:
    """Both links, their parties and books; `a` is the opener."""

    def __init__(
        self,
        transports: tuple[Transport, Transport],
        parties: tuple[ChannelParty, ChannelParty],
        books: tuple[PeerBook, PeerBook],
        timeout_ms: int,
        finality: Finality | None,
    ) -> None:
        self.parties, self.books, self.transports = parties, books, transports
        self.a = PeerLink(parties[0], transports[0], books[0], timeout_ms=timeout_ms, finality=finality)
        self.b = PeerLink(parties[1], transports[1], books[1], timeout_ms=timeout_ms)

    async def rest(self) -> None:
        """Return when neither link has anything in hand, and who waited for it has heard."""
        while tasks := self.a._tasks | self.b._tasks:
            await asyncio.wait(tasks)
        for _ in range(10):
            await asyncio.sleep(0)

    async def open(self, terms: Terms = TERMS) -> bytes:
        """A channel with a complete state 0 on both sides."""
        channel_id = await self.a.open_channel(terms, fund)
        await self.b.wait_for(channel_id, lambda channel: channel.sequence == 0)
        return channel_id


def new_parties() -> tuple[tuple[ChannelParty, ChannelParty], tuple[PeerBook, PeerBook]]:
    """Parties and books in memory; a keystore holds both the seed and the book of its party."""
    keystores = (MemoryKeystore(), MemoryKeystore())
    parties = (make_party("alice", keystore=keystores[0]), make_party("bob", keystore=keystores[1]))
    return parties, (PeerBook(keystores[0]), PeerBook(keystores[1]))


@asynccontextmanager
async def linked(
    transports: tuple[Transport, Transport] | None = None,
    parties: tuple[ChannelParty, ChannelParty] | None = None,
    books: tuple[PeerBook, PeerBook] | None = None,
    *,
    timeout_ms: int = TIMEOUT_MS,
    finality: Finality | None = None,
) -> AsyncIterator[Linked]:
    """Running links; what is not given is new and in memory."""
    ends, known = new_parties()
    two = Linked(
        transports or memory_pair(ALICE, BOB), parties or ends, books or known, timeout_ms=timeout_ms, finality=finality
    )
    async with two.a, two.b:
        yield two
