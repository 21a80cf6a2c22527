"""The peers of a client that listens and dials by itself: calls find the living link of their channel.

A link that breaks in the middle of a call is waited for and the call repeated once: every call of `Peer` but an
opening may be repeated. All of it has one deadline, `timeout_ms` from the beginning of the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from watchtower.client.errors import NotConnected
from watchtower.client.party.home import PartyHome
from watchtower.client.peer_errors import PeerUnreachable, TransportClosed
from watchtower.client.peers.link import TIMEOUT_MS, PeerLink
from watchtower.client.peers.server import PartyServer
from watchtower.client.protocol.messages import Message
from watchtower.client.protocol.opening import NO_APP, Terms
from watchtower.client.tower.finality import Finality
from watchtower.client.transport.admission import Admission
from watchtower.client.transport.curve_key import PeerAddress

T = TypeVar("T")


class ServedPeer:
    """A `Peer` over a party server of its own; `start` and `stop` are called by the client that it is given to."""

    def __init__(
        self,
        home: PartyHome,
        peers: Sequence[PeerAddress] = (),
        *,
        listen: tuple[str, int] | None = None,
        admission: Admission | None = None,
        timeout_ms: int = TIMEOUT_MS,
    ) -> None:
        """Without `admission` only `peers` may connect, see `open_client`."""
        self._home = home
        self._peers = tuple(peers)
        self._listen = listen
        self._admission = admission
        self._timeout_ms = timeout_ms
        self._server: PartyServer | None = None

    def __repr__(self) -> str:
        return f"<ServedPeer {', '.join(str(peer) for peer in self._peers) or 'listening'}>"

    @property
    def address(self) -> PeerAddress | None:
        """What peers dial, None while this party does not listen."""
        return self._server.address if self._server is not None else None

    async def start(self, finality: Finality) -> None:
        """Listen and dial; `finality` brings what the peers move to the own tower. Once is enough."""
        if self._server is not None:
            return
        self._server = PartyServer(
            self._home.party,
            self._home.book,
            self._home.transport_key,
            listen=self._listen,
            peers=self._peers,
            admission=self._admission,
            timeout_ms=self._timeout_ms,
            finality=finality,
        )
        await self._server.__aenter__()

    async def stop(self) -> None:
        """End all links. Harmless if it was not started."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop()

    def reach(self, address: PeerAddress) -> None:
        """Dial one peer more, now and after every `start`."""
        if address not in self._peers:
            self._peers = (*self._peers, address)
        if self._server is not None:
            self._server.reach(address)

    async def wait(self) -> None:
        """Run until `stop`; raises what made the server end by itself."""
        if self._server is not None:
            await self._server.wait()

    async def link(self, peer: bytes, deadline: float | None = None) -> PeerLink:
        """The living link to a peer (32 bytes); `PeerUnreachable` if there is none in time."""
        if self._server is None:
            raise NotConnected("call connect() first, or use the client as an async context manager")
        left = None if deadline is None else deadline - asyncio.get_running_loop().time()
        return await self._server.link(peer, None if left is None else max(0, round(left * 1000)))

    async def propose_channel(self, terms: Terms, *, peer: bytes | None = None) -> bytes:
        """See `Peer`; `peer` may be left out if there is one only."""
        if peer is None and len(self._peers) != 1:
            raise PeerUnreachable(f"this client has {len(self._peers)} peers; say which one the channel is with")
        deadline = self._deadline()
        link = await self.link(self._peers[0].key if peer is None else peer, deadline)
        return await link.propose_channel(terms, deadline=deadline)

    async def fix_channel(
        self, proposal_id: bytes, txid: bytes, vout: int, *, state_data: bytes = b"", app_id: bytes = NO_APP
    ) -> bytes:
        """See `Peer`."""
        return await self._over_link(
            proposal_id,
            lambda link, deadline: link.fix_channel(
                proposal_id, txid, vout, state_data=state_data, app_id=app_id, deadline=deadline
            ),
        )

    async def advance(self, channel_id: bytes, offer: Callable[[], Iterable[Message]]) -> int:
        """See `Peer`."""
        return await self._over_link(
            channel_id, lambda link, deadline: link.advance(channel_id, offer, deadline=deadline)
        )

    async def close_channel(self, channel_id: bytes, final_balances: tuple[int, int], fee: int) -> bytes:
        """See `Closer`."""
        return await self._over_link(
            channel_id, lambda link, deadline: link.close_channel(channel_id, final_balances, fee, deadline=deadline)
        )

    async def link_of(self, channel_id: bytes, deadline: float | None = None) -> PeerLink:
        """The living link to the peer of a channel; see `link`."""
        peer = self._home.book.peer_of(self._home.party.channel(channel_id))
        if peer is None:
            raise PeerUnreachable("this channel was not opened over a transport; its peer is not known")
        return await self.link(peer, deadline)

    async def _over_link(self, channel_id: bytes, call: Callable[[PeerLink, float], Awaitable[T]]) -> T:
        deadline = self._deadline()
        try:
            return await call(await self.link_of(channel_id, deadline), deadline)
        except TransportClosed:
            return await call(await self.link_of(channel_id, deadline), deadline)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_ms / 1000
