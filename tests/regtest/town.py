"""Two parties that don't trust each other: each with its own directory, SDK client and tower process, and one node.

    async with town.clients(config) as (alice, bob): ...

Alice dials Bob over CURVE on loopback; she has the node's wallet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from tests.support.new_towers import create
from tests.support.service import Run, ServiceProcess, settings_for
from watchtower.client import (
    BitcoindWallet,
    PartyHome,
    ServedPeer,
    StateChannelClient,
    StateChannelConfig,
    SyncStateChannelClient,
    create_home,
    open_client,
    open_home,
)
from watchtower.client.party.home import export_seed
from watchtower.client.transport.admission import only
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import NewTower
from watchtower.node.transport import RpcTransport

PASSPHRASE = b"for tests"
NAMES = ("alice", "bob")


class Town:
    """Homes and running towers, Alice's first."""

    def __init__(self, node: RegtestNode, homes: tuple[PartyHome, PartyHome], towers: list[ServiceProcess]) -> None:
        self.node = node
        self.homes = homes
        self.towers = towers
        self.made: list[NewTower] = []
        self.seeds: list[bytes] = []

    def client(self, number: int, config: StateChannelConfig, **options: Any) -> StateChannelClient:
        """A client of this party with its own tower, not connected."""
        made = self.made[number]
        return open_client(
            self.homes[number],
            config,
            url=f"http://{self.towers[number].address('api')}",
            token=made.token_path.read_text().strip(),
            tower_id=made.pubkey[-32:],
            **options,
        )

    def wallet(self) -> BitcoindWallet:
        """The node's wallet by its own address."""
        return BitcoindWallet(RpcTransport(f"{self.node.rpc_url}/wallet/purse", cookie_path=self.node.cookie_path))

    def bob(self, config: StateChannelConfig) -> StateChannelClient:
        """Bob listens, for Alice only."""
        alice = self.homes[0].transport_key.public
        return self.client(1, config, listen=("127.0.0.1", 0), admission=only([alice]))

    def alice(self, config: StateChannelConfig, bob: StateChannelClient) -> StateChannelClient:
        """Alice dials Bob, who is connected already."""
        assert isinstance(bob.peer, ServedPeer)
        assert bob.peer.address is not None
        return self.client(0, config, peers=[str(bob.peer.address)], wallet=self.wallet())

    @asynccontextmanager
    async def clients(self, config: StateChannelConfig) -> AsyncIterator[tuple[StateChannelClient, StateChannelClient]]:
        """Alice's and Bob's clients, connected."""
        async with self.bob(config) as bob, self.alice(config, bob) as alice:
            yield alice, bob

    @asynccontextmanager
    async def sync_clients(self, config: StateChannelConfig) -> AsyncIterator[tuple[Any, Any]]:
        """The same through synchronous twins, whose calls run in threads of this test."""
        with ExitStack() as stack:
            bob = SyncStateChannelClient.of(self.bob(config))
            await asyncio.to_thread(stack.enter_context, bob)
            alice = SyncStateChannelClient.of(self.alice(config, bob.asynchronous))
            await asyncio.to_thread(stack.enter_context, alice)
            try:
                yield Threaded(alice), Threaded(bob)
            finally:
                await asyncio.to_thread(stack.close)


class Threaded:
    """Makes the calls of a synchronous client awaitable, so that one story is told with both kinds."""

    def __init__(self, client: SyncStateChannelClient) -> None:
        self._client = client
        self.party = client.asynchronous.party

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            return await asyncio.to_thread(method, *arguments, **options)

        return call


@contextmanager
def found_town(node: RegtestNode, directory: Path, run: Run, config: StateChannelConfig) -> Iterator[Town]:
    """Make both homes and start both towers; all ends with the block."""
    with ExitStack() as stack:
        homes, seeds = [], []
        for name in NAMES:
            create_home(directory / name, config.network, PASSPHRASE, cost=2**4)
            seeds.append(export_seed(directory / name, PASSPHRASE))
            homes.append(stack.enter_context(open_home(directory / name, PASSPHRASE, config.party_settings())))
        town = Town(node, (homes[0], homes[1]), [])
        town.seeds = seeds
        settings = {"": {"taproot_enabled": config.taproot_enabled}, **settings_for(node)}
        for name in NAMES:
            place = directory / f"{name}-tower"
            town.made.append(create(place, place / "config.toml", config.network, settings))
            town.towers.append(run(place / "config.toml"))
        for tower in town.towers:
            tower.wait_watching()
        yield town
