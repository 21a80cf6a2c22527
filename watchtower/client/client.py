"""`StateChannelClient`: the documented methods over a tower's HTTP API, a party and the link to its peer.

    async with StateChannelClient(config, url=url, token=token, party=party, peer=link, wallet=wallet) as client:
        result = await client.create_channel(params)
        await client.update_state(StateUpdate(result.channel_id, 1, (49_000_000, 51_000_000), "payment_1"))

`open_client` makes one from a party's directory and addresses. A client without a party carries what it is given; with
a party it also makes the uploads; with a peer it makes the states. After `TowerUnreachable` the same call may be
repeated: identical bytes are stored once.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from pathlib import Path

import httpx

from watchtower.client.config import StateChannelConfig
from watchtower.client.disputes import DisputeCalls
from watchtower.client.errors import ConfigurationError
from watchtower.client.fee_children import FeeChildPolicy, FeeChildren, FeeChildStatus
from watchtower.client.funding import send_fundings
from watchtower.client.ids import channel_id_of
from watchtower.client.opening_calls import OpeningCalls
from watchtower.client.party.party import ChannelParty
from watchtower.client.peers.port import Closer, Peer
from watchtower.client.peers.served import ServedPeer
from watchtower.client.tower.comparing import TowerComparison
from watchtower.client.tower.finality import Alarm, Finality, log_alarm
from watchtower.client.tower.spend_watch import SpendWatch
from watchtower.client.update_calls import UpdateCalls
from watchtower.client.wallet import FundingWallet

MAX_UNACKED = 10
"""The most that mode async may leave to chance (protocol annex B): states that the tower does not hold yet."""


class StateChannelClient(OpeningCalls, UpdateCalls, DisputeCalls):
    """Talks to one tower. Use as an async context manager, or call `connect` and `disconnect`."""

    def __init__(
        self,
        config: StateChannelConfig | None = None,
        *,
        url: str = "http://127.0.0.1:9815",
        token: str = "",
        party: ChannelParty | None = None,
        peer: Peer | None = None,
        wallet: FundingWallet | None = None,
        closer: Closer | None = None,
        auth: httpx.Auth | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        tower_id: bytes | None = None,
        max_unacked: int = 0,
        receipts_path: str | Path | None = None,
        alarm_ms: int = 60_000,
        alarm: Alarm = log_alarm,
        fee_children: FeeChildPolicy | None = None,
    ) -> None:
        """`party` signs, `peer` reaches the other party, `wallet` funds channels, `closer` replaces it for closes.

        `auth` replaces the token, `tower_id` (32 bytes) pins the tower. `max_unacked` 0 is mode strict: a state is at
        the tower before a call returns; 1 to 10 is mode async: so many states may still be on their way.
        `receipts_path` is a directory in which the tower's receipts are kept as files. `alarm` is told of a channel
        whose newest state has no good receipt for `alarm_ms`: it is not armed so long. With a `party` and a wallet that
        knows the market (`FeeWallet`) own closes get fee children by themselves, as `fee_children` allows.
        """
        super().__init__(
            config,
            url=url,
            token=token,
            party=party,
            auth=auth,
            transport=transport,
            tower_id=tower_id,
            receipts_path=receipts_path,
        )
        if not 0 <= max_unacked <= MAX_UNACKED:
            raise ConfigurationError(f"max_unacked lies between 0 and {MAX_UNACKED}, got {max_unacked}")
        self.peer = peer
        self.wallet = wallet
        self.closer = closer or peer
        self.finality = (
            None
            if party is None
            else Finality(self.synchronize, max_unacked=max_unacked, alarm_seconds=alarm_ms / 1000, alarm=alarm)
        )
        self._fees = None if party is None else FeeChildren(self, party, lambda: self.wallet, fee_children)
        self._active = set()
        self._delivered = {}
        self._uploading: asyncio.Task[None] | None = None
        self._comparing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._bumping: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Open the session with the tower, and reach the peers if this client serves them itself.

        What a crash cut short goes on: signed funding transactions are sent again, states that the tower lacks are
        brought to it. Raises `WrongTower` unless protocol version, chain, tower id and profile are the expected ones,
        `ConfigurationError` if the party is set to another network than the client.
        """
        self._delivered.clear()
        await super().connect()
        if self.party is not None:
            self._watch_spends(self.party)
        if self._fees is not None and self._bumping is None:
            self._bumping = asyncio.create_task(self._fees.run(), name="fee children")
        if self.party is None or self.peer is None or self.finality is None:
            return
        try:
            await self._go_on(self.party, self.finality)
        except BaseException:
            await self.disconnect()
            raise

    async def disconnect(self) -> None:
        """Bring to the tower what it lacks, and close the session; harmless if there is none."""
        if isinstance(self.peer, ServedPeer):
            await self.peer.stop()
        running = (self._uploading, self._comparing, self._watching, self._bumping)
        tasks = [task for task in running if task is not None]
        self._uploading = self._comparing = self._watching = self._bumping = self._spend_watch = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._http is not None and self.finality is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.config.timeout_seconds):
                    await self.finality.flush()
        await super().disconnect()

    async def get_fee_children(self, channel_id: str) -> FeeChildStatus:
        """The fee children of a channel's close, and what keeps one from being sent; `UnknownChannel`."""
        self._own_party()
        assert self._fees is not None, "there is a party"
        return await asyncio.to_thread(self._fees.told, channel_id_of(channel_id))

    async def _go_on(self, party: ChannelParty, finality: Finality) -> None:
        """What a crash cut short, and the peers."""
        if self.wallet is not None:
            await asyncio.to_thread(send_fundings, party, self.wallet)
        for channel in await asyncio.to_thread(party.channels):
            finality.touch(channel)
        if isinstance(self.peer, ServedPeer):
            await self.peer.start(finality)
        elif self._uploading is None:
            self._uploading = asyncio.create_task(finality.run(), name="uploads")
        if self._comparing is None:
            again = partial(self._watch_spends, party)
            comparison = TowerComparison(self, party, self._bring_again, lambda: self._book.highest, again)
            self._comparing = asyncio.create_task(comparison.run(), name="compare the tower")

    def _watch_spends(self, party: ChannelParty) -> None:
        """From the tower's present on: what was read of another log says nothing about this one."""
        if self._watching is not None:
            self._watching.cancel()
        self._spend_watch = SpendWatch(self, party, by_channel=self._auth is not None)
        self._watching = asyncio.create_task(self._spend_watch.run(), name="watch spends")

    async def _bring_again(self, channel_id: bytes) -> None:
        """Synchronize from what the tower says, not from what this session remembers of it."""
        self._delivered.pop(channel_id, None)
        if self.finality is not None:
            await self.finality.bring(channel_id)
