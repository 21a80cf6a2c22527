"""A party that is there for all its peers: it listens, dials, and makes each link anew when it breaks.

async with PartyServer(home.party, home.book, home.transport_key, listen=("127.0.0.1", 9735)) as server:
    link = await server.link(peer)          # the link of now; ask again after `TransportClosed`
    await link.update(channel_id, (490_000, 510_000))
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from domain.errors import DomainError
from watchtower.client.party.party import ChannelParty
from watchtower.client.party.peer_book import PeerBook
from watchtower.client.peer_errors import PeerError, PeerUnreachable, TransportClosed
from watchtower.client.peers.allowance import PeerAllowance
from watchtower.client.peers.link import TIMEOUT_MS, PeerLink
from watchtower.client.tower.finality import Finality
from watchtower.client.transport.admission import Admission
from watchtower.client.transport.curve import CurveDialer
from watchtower.client.transport.curve_key import PeerAddress, TransportKey
from watchtower.client.transport.curve_listener import CurveListener
from watchtower.client.transport.curve_socket import Timing
from watchtower.client.transport.port import Transport
from watchtower.ports import StoreBusy, StoreConflict, StoreFull

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
"""Seconds between attempts to reach a peer: doubled each time, shortened at random so that nobody marches in step."""

GRACE_SECONDS = 1.0
"""How long the side with the larger key waits for the other one to dial: two connections at once help nobody."""

PASSING = (TransportClosed, DomainError, StoreBusy, StoreFull, StoreConflict)
"""What ends one link. Any other error means that this party cannot trust its own log: then the server ends."""

_log = logging.getLogger(__name__)


class PartyServer:
    """One link per peer. Without `admission` only the peers with an address may connect."""

    def __init__(
        self,
        party: ChannelParty,
        book: PeerBook,
        key: TransportKey,
        *,
        listen: tuple[str, int] | None = None,
        peers: Sequence[PeerAddress] = (),
        admission: Admission | None = None,
        timeout_ms: int = TIMEOUT_MS,
        finality: Finality | None = None,
        timing: Timing | None = None,
        first_pause: float = FIRST_PAUSE,
        longest_pause: float = LONGEST_PAUSE,
    ) -> None:
        self._first_pause, self._longest_pause = first_pause, longest_pause
        self._party, self._book, self._key = party, book, key
        self._peers = list(peers)
        self._timeout_ms = timeout_ms
        self._finality = finality
        self._dialer = CurveDialer(key, timing)
        allowed = admission or self._is_known
        self._listener = CurveListener(key, *listen, allowed, timing) if listen is not None else None
        self._links: dict[bytes, tuple[PeerLink, bool]] = {}
        self._allowances: dict[bytes, PeerAllowance] = {}
        self._failures: dict[bytes, str] = {}
        self._wanted: dict[bytes, asyncio.Event] = {}
        self._changed = asyncio.Condition()
        self._running: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None

    def __repr__(self) -> str:
        return f"<PartyServer {self._key.public.hex()[:8]}, {len(self._links)} links>"

    @property
    def address(self) -> PeerAddress | None:
        """What peers dial, None for a party that only dials itself."""
        return self._listener.address if self._listener is not None else None

    async def __aenter__(self) -> Self:
        if self._listener is not None:
            await self._listener.start()
        self._running = asyncio.create_task(self._run(), name="party server")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def wait(self) -> None:
        """Run until `stop`; raises what made the server end by itself."""
        assert self._running is not None, "enter the server first"
        await asyncio.shield(self._running)

    async def stop(self) -> None:
        """End all links and stop listening."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        for link, _ in tuple(self._links.values()):
            await link.stop()
        if self._listener is not None:
            await self._listener.close()
        await self._dialer.close()

    def reach(self, address: PeerAddress) -> None:
        """Dial one peer more, and let it connect; harmless for an address that is known."""
        if address in self._peers:
            return
        self._peers.append(address)
        if self._group is not None:
            self._group.create_task(self._keep_dialing(address), name=f"dial {address}")

    async def link(self, peer: bytes, timeout_ms: int | None = None) -> PeerLink:
        """The living link to a peer; waits for it, and raises `PeerUnreachable` after the time.

        A peer without a link is dialed at once, whatever pause the attempts before have earned.
        """
        if peer == self._key.public:
            raise PeerUnreachable(f"{peer.hex()} is the key of this party itself; give the key of the other one")
        seconds = (self._timeout_ms if timeout_ms is None else timeout_ms) / 1000
        if not self._is_alive(peer) and peer in self._wanted:
            self._wanted[peer].set()
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self._is_alive(peer))
                return self._links[peer][0]
        except TimeoutError:
            raise PeerUnreachable(
                f"no connection to {peer.hex()} within {seconds * 1000:.0f} ms: {self._hindrance(peer)}"
            ) from None

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            if self._listener is not None:
                group.create_task(self._accept(self._listener, group), name="accept peers")
            for address in tuple(self._peers):
                group.create_task(self._keep_dialing(address), name=f"dial {address}")
            if self._finality is not None:
                group.create_task(self._finality.run(), name="tower")

    def _hindrance(self, peer: bytes) -> str:
        """Why there is no link, as far as this side can know."""
        if peer in self._failures:
            return self._failures[peer]
        if self._is_known(peer):
            return "it was dialed and has not answered yet"
        return "its address is not known here, and it has not called"

    def _is_alive(self, peer: bytes) -> bool:
        """Whether there is a link that takes calls: one that is over stays until its last work is done."""
        return peer in self._links and not self._links[peer][0].is_over

    def _is_known(self, peer: bytes) -> bool:
        return any(peer == address.key for address in self._peers)

    async def _accept(self, listener: CurveListener, group: asyncio.TaskGroup) -> None:
        while True:
            transport = await listener.accept()
            group.create_task(self._serve(transport, dialed=False), name=f"peer {transport.peer.hex()[:8]}")

    async def _keep_dialing(self, address: PeerAddress) -> None:
        pause, wanted = self._first_pause, self._wanted.setdefault(address.key, asyncio.Event())
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: address.key not in self._links)
            wanted.clear()
            if await self._was_dialed(address.key):
                continue
            try:
                transport = await self._dialer.dial(address)
            except PeerError as error:
                self._failures[address.key] = str(error)
                _log.info("peer_unreachable peer=%s reason=%s", address.key.hex()[:16], error)
            else:
                began = asyncio.get_running_loop().time()
                await self._serve(transport, dialed=True)
                lived = asyncio.get_running_loop().time() - began
                pause = self._first_pause if lived > LONGEST_PAUSE else pause
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wanted.wait(), pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(2 * pause, self._longest_pause)

    async def _was_dialed(self, peer: bytes) -> bool:
        """Whether the peer came first, given the chance to."""
        if self._listener is None or self._prefers_dialed(peer):
            return False
        try:
            async with asyncio.timeout(GRACE_SECONDS), self._changed:
                await self._changed.wait_for(lambda: peer in self._links)
        except TimeoutError:
            return False
        return True

    async def _serve(self, transport: Transport, *, dialed: bool) -> None:
        """Run a link to its end. Of two connections to one peer both sides keep the one that the smaller key dialed."""
        peer = transport.peer
        while (known := self._links.get(peer)) is not None:
            if known[1] != dialed and self._prefers_dialed(peer) != dialed:
                await transport.close()
                return
            await known[0].stop()
            if self._links.get(peer) is known:
                break  # else another connection of this peer came first
        allowance = self._allowances.setdefault(peer, PeerAllowance())
        link = PeerLink(
            self._party,
            transport,
            self._book,
            timeout_ms=self._timeout_ms,
            finality=self._finality,
            allowance=allowance,
        )
        await self._keep(peer, link, dialed)
        try:
            await link.run()
        except PASSING as error:
            level = logging.INFO if isinstance(error, TransportClosed) else logging.WARNING
            _log.log(level, "link_ended peer=%s reason=%s", peer.hex()[:16], error)
        finally:
            await link.stop()
            await self._forget(peer, link)
            if allowance.is_untouched and peer not in self._links:
                self._allowances.pop(peer, None)

    def _prefers_dialed(self, peer: bytes) -> bool:
        return self._key.public < peer

    async def _keep(self, peer: bytes, link: PeerLink, dialed: bool) -> None:
        self._links[peer] = (link, dialed)  # at once: whoever comes next must see it
        self._failures.pop(peer, None)
        async with self._changed:
            self._changed.notify_all()

    async def _forget(self, peer: bytes, link: PeerLink) -> None:
        """A newer link may have taken the place already."""
        async with self._changed:
            if peer in self._links and self._links[peer][0] is link:
                del self._links[peer]
                self._changed.notify_all()
