"""A party as a program of its own: peers, tower, wallet, until it is told to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from watchtower.client.client import StateChannelClient
from watchtower.client.funding import send_fundings
from watchtower.client.party.home import PartyHome
from watchtower.client.peers.link import TIMEOUT_MS
from watchtower.client.peers.server import PartyServer
from watchtower.client.tower.finality import RETRY_SECONDS, Finality, Synchronize
from watchtower.client.transport.admission import Admission
from watchtower.client.transport.curve_key import PeerAddress
from watchtower.client.wallet import FundingWallet


@asynccontextmanager
async def serve_party(
    home: PartyHome,
    *,
    listen: tuple[str, int] | None = None,
    peers: Sequence[PeerAddress] = (),
    tower: StateChannelClient | None = None,
    wallet: FundingWallet | None = None,
    admission: Admission | None = None,
    timeout_ms: int = TIMEOUT_MS,
    retry_seconds: float = RETRY_SECONDS,
) -> AsyncIterator[PartyServer]:
    """A running party server. With a `tower` no update is final before the tower holds it (rule U4, strict).

    What a crash cut short goes on first: signed funding transactions are sent again, channels that the tower does
    not hold are brought to it, every `retry_seconds` until it has taken them. It may be unreachable at the start.
    It is disconnected at the end.
    """
    if wallet is not None:
        await asyncio.to_thread(send_fundings, home.party, wallet)
    finality = Finality(_synchronize(tower), retry_seconds=retry_seconds) if tower is not None else None
    if finality is not None:
        for channel in await asyncio.to_thread(home.party.channels):
            finality.touch(channel)
    try:
        async with PartyServer(
            home.party,
            home.book,
            home.transport_key,
            listen=listen,
            peers=peers,
            admission=admission,
            timeout_ms=timeout_ms,
            finality=finality,
        ) as server:
            yield server
    finally:
        if tower is not None:
            await tower.disconnect()


def _synchronize(tower: StateChannelClient) -> Synchronize:
    """The client's `synchronize`, connected when it is first needed and again after a failure to connect."""
    connected = False

    async def synchronize(channel_id: bytes) -> object:
        nonlocal connected
        if not connected:
            await tower.connect()
            connected = True
        return await tower.synchronize(channel_id)

    return synchronize
