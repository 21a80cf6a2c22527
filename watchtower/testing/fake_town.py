"""Two parties with their clients, towers and a link in memory: a channel for the tests of an application."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from domain.application import Application
from watchtower.client import ChannelParams, ChannelParticipant, PeerLink, StateChannelClient, StateChannelConfig
from watchtower.client.party.home import PartyHome, create_home, open_home
from watchtower.client.protocol.consent import Consent, never_lose
from watchtower.client.protocol.opening import NO_APP
from watchtower.client.transport.memory import memory_pair
from watchtower.testing.fake_tower import FakeTower
from watchtower.testing.fake_wallet import FakeWallet

PASSPHRASE = b"fake"
NAMES = ("alice", "bob")


class FakeTown:
    """Use it as an async context manager; `alice` and `bob` are connected clients, and Alice has money."""

    alice: StateChannelClient
    bob: StateChannelClient

    def __init__(
        self,
        config: StateChannelConfig | None = None,
        *,
        applications: Sequence[Application] = (),
        consent: Consent = never_lose,
    ) -> None:
        """`applications` and `consent` are those of both parties, see `ChannelParty`."""
        self._config = config or StateChannelConfig(network="regtest")
        self._applications = tuple(applications)
        self._consent = consent
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<FakeTown {self._config.network}>"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def params(self, balances: tuple[int, int]) -> ChannelParams:
        """What Alice asks for to open a channel with Bob; satoshi."""
        return ChannelParams([ChannelParticipant("", balance) for balance in balances])

    def confirm(self, channel_id: str) -> None:
        """The funding is confirmed, for both towers; `open` does all that brings the channel to them."""
        for tower in self._towers:
            tower.confirm(channel_id)

    async def open(self, balances: tuple[int, int], *, state_data: str | bytes = "", app_id: bytes = NO_APP) -> str:
        """An active channel; its id. `state_data` and `app_id` are those of `create_channel`."""
        created = await self.alice.create_channel(self.params(balances), state_data=state_data, app_id=app_id)
        channel_id = bytes.fromhex(created.channel_id)
        await self._links[1].wait_for(channel_id, lambda channel: channel.sequence == 0)
        await self.bob.synchronize(channel_id)
        self.confirm(created.channel_id)
        return created.channel_id

    async def _open(self, stack: AsyncExitStack) -> None:
        config = self._config
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        taproot = config.taproot_enabled
        self._towers = tuple(stack.enter_context(FakeTower(config.network, taproot_enabled=taproot)) for _ in NAMES)
        homes = [stack.enter_context(self._home(directory / name)) for name in NAMES]
        ends = memory_pair(*(home.transport_key.public for home in homes))
        self._links = tuple(
            PeerLink(home.party, end, home.book, timeout_ms=config.timeout_ms)
            for home, end in zip(homes, ends, strict=True)
        )
        for link in self._links:
            await stack.enter_async_context(link)
        wallet = FakeWallet(*(tower.node for tower in self._towers))
        self.alice, self.bob = (
            StateChannelClient(config, party=home.party, peer=link, wallet=wallet, **tower.options)
            for home, link, tower in zip(homes, self._links, self._towers, strict=True)
        )
        for client in (self.alice, self.bob):
            await stack.enter_async_context(client)

    def _home(self, directory: Path) -> PartyHome:
        create_home(directory, self._config.network, PASSPHRASE, cost=2**4)
        settings = self._config.party_settings()
        return open_home(directory, PASSPHRASE, settings, consent=self._consent, applications=self._applications)
