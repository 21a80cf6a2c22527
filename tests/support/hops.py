"""Three parties in a row with links between them: alice – bob – carol, each with its payments.

    async with three_parties() as row:
        invoice = row.carol.payments.invoice(50_000, payable_until=10_000)
        await row.alice.payments.pay(row.route(50_000), invoice)

Parties agree to what does not cost them anything, as real ones do. Amounts are satoshi, T is 6 by default.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from tests.fakes.keystore import MemoryKeystore
from tests.fakes.store import MemoryEventStore
from tests.support.parties import made_up_funding, make_party, settings_of
from watchtower.client.party import exchange
from watchtower.client.party.party import ChannelParty
from watchtower.client.party.peer_book import PeerBook
from watchtower.client.payments import ForwardingPolicy, Payments, PaymentTower, Route, RouteChannel, plan_route
from watchtower.client.peer_errors import PeerUnreachable
from watchtower.client.peers.link import PeerLink
from watchtower.client.protocol.consent import never_lose
from watchtower.client.protocol.news import HtlcNews, Listener
from watchtower.client.protocol.opening import Terms
from watchtower.client.transport.memory import memory_pair
from watchtower.devnode.purse import Funding
from watchtower.ports import Failpoint

T = 6
HEIGHT = 1_000
POLICY = ForwardingPolicy(base_fee=10, fee_rate=1_000)


class End:
    """One party: its files, its payments, and its links by channel. `name` gives the seed."""

    def __init__(self, name: str, listener: Listener, profile: int = 0) -> None:
        self.name = name
        self._listener = listener
        self.store, self.keystore = MemoryEventStore(), MemoryKeystore()
        self._settings = settings_of(profile)
        self.failpoint: Failpoint = lambda name: None
        self.party = self._make()
        self.book = PeerBook(self.keystore)
        self.links: dict[bytes, PeerLink] = {}
        self.payments: Payments

    def _make(self) -> ChannelParty:
        return make_party(
            self.name,
            store=self.store,
            keystore=self.keystore,
            settings=self._settings,
            consent=never_lose,
            listener=self._listener,
            failpoint=lambda name: self.failpoint(name),
        )

    def revive(self) -> None:
        """The party as it is after a crash: made again from its log, without faults."""
        self.failpoint = lambda name: None
        self.party = self._make()

    @property
    def identity(self) -> bytes:
        """32 bytes on the memory transport."""
        return self.name.encode().ljust(32, b"\0")

    async def link_of(self, channel_id: bytes) -> PeerLink:
        """The link to the peer of a channel."""
        if channel_id not in self.links:
            raise PeerUnreachable("the peer is silent")
        return self.links[channel_id]

    def start(self, policy: ForwardingPolicy | None = None, tower: PaymentTower | None = None) -> Payments:
        """New payments over the party as it is now."""
        self.payments = Payments(
            self.party, self.link_of, tower=tower, policy=policy, strict=tower is not None, retry_seconds=0.05
        )
        return self.payments

    def balance(self, channel_id: bytes) -> int:
        """Own balance of the newest state."""
        channel = self.party.channel(channel_id)
        return channel.balances[channel.own_side]


class Row:
    """alice – `first` – bob – `second` – carol."""

    def __init__(self, profile: int = 0, fund: Callable[[bytes, int], Funding] = made_up_funding, period: int = T):
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.ends = tuple(End(name, self._hear, profile) for name in ("alice", "bob", "carol"))
        self.alice, self.bob, self.carol = self.ends
        self.fundings: list[Funding] = []
        self._fund, self._profile, self.period = fund, profile, period
        self.first = self._open(self.alice, self.bob)
        self.second = self._open(self.bob, self.carol)

    def _open(self, opener: End, peer: End) -> bytes:
        def pay(spk: bytes, amount: int) -> tuple[bytes, int]:
            self.fundings.append(self._fund(spk, amount))
            return self.fundings[-1].txid, self.fundings[-1].vout

        terms = Terms(balances=(500_000, 500_000), challenge_period=self.period, profile=self._profile)
        channel_id = exchange.open_channel(opener.party, peer.party, terms, pay)
        for own, other in ((opener, peer), (peer, opener)):
            own.book.bind(own.party.channel(channel_id).params.proposal_id, other.identity)
        return channel_id

    def tell_height(self, height: int) -> None:
        """All parties see a block."""
        for end in self.ends:
            end.payments.note_height(height)

    def route(self, amount: int, height: int = HEIGHT) -> Route:
        """From alice over bob to carol."""
        channels = [RouteChannel(self.first, self.period), RouteChannel(self.second, self.period, POLICY)]
        return plan_route(channels, amount, height)

    async def until(self, reached: Callable[[], bool], seconds: float = 30) -> None:
        """Wait for an effect: it is looked for after each piece of news of any party, and now and then without."""
        async with asyncio.timeout(seconds):
            while not reached():
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self._changed.wait()

    def _hear(self, news: HtlcNews) -> None:
        del news
        self._loop.call_soon_threadsafe(self._changed.set)

    @asynccontextmanager
    async def linked(self, channel_id: bytes) -> AsyncIterator[None]:
        """The two owners of a channel talk to each other."""
        a, b = (self.alice, self.bob) if channel_id == self.first else (self.bob, self.carol)
        ours, theirs = memory_pair(a.identity, b.identity)
        one = PeerLink(a.party, ours, a.book)
        two = PeerLink(b.party, theirs, b.book)
        async with one, two:
            a.links[channel_id], b.links[channel_id] = one, two
            try:
                yield
            finally:
                a.links.pop(channel_id, None)
                b.links.pop(channel_id, None)


@asynccontextmanager
async def three_parties(height: int = HEIGHT, profile: int = 0) -> AsyncIterator[Row]:
    """A running row without towers; bob forwards."""
    row = Row(profile)
    async with AsyncExitStack() as stack:
        for end in row.ends:
            await stack.enter_async_context(end.start(POLICY if end is row.bob else None))
        row.tell_height(height)
        await stack.enter_async_context(row.linked(row.first))
        await stack.enter_async_context(row.linked(row.second))
        yield row
