"""`open_client`: two clients on two directories over CURVE, each with its own tower, without a node."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.sdk import HALF, MemoryWallet, confirm, tower_at
from tests.support.towers import TOKEN
from watchtower.client import (
    ChannelParams,
    ChannelParticipant,
    PartyHome,
    PeerAddress,
    PeerError,
    ServedPeer,
    StateChannelClient,
    StateChannelConfig,
    StateChannelError,
    StateUpdate,
    SyncStateChannelClient,
    create_home,
    open_client,
    open_home,
)
from watchtower.client.errors import ConfigurationError, NotConnected
from watchtower.client.peer_errors import PeerUnreachable
from watchtower.client.transport.admission import everybody

pytestmark = pytest.mark.asyncio

CONFIG = StateChannelConfig(network="regtest", timeout_ms=30_000)
LOOPBACK = ("127.0.0.1", 0)
PARAMS = ChannelParams([ChannelParticipant("", HALF)] * 2)


def home_at(directory: Path) -> PartyHome:
    """A new home, open."""
    create_home(directory, "regtest", b"for tests", cost=2**4)
    return open_home(directory, b"for tests", CONFIG.party_settings())


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[tuple[PartyHome, PartyHome]]:
    """Alice's and Bob's."""
    with home_at(tmp_path / "alice") as alice, home_at(tmp_path / "bob") as bob:
        yield alice, bob


class Town:
    """Two towers and two clients; Bob listens, Alice dials."""

    def __init__(self, homes: tuple[PartyHome, PartyHome], directory: Path) -> None:
        self.homes = homes
        self.towers = tuple(tower_at(directory / name) for name in ("alice", "bob"))

    def client(self, number: int, **options: Any) -> StateChannelClient:
        """One party's client, not connected; the funding of its channels is known to its tower's node."""
        client = open_client(self.homes[number], CONFIG, url="http://tower", token=TOKEN, **options)
        client._transport = self.towers[number].transport()
        return client

    @asynccontextmanager
    async def clients(self) -> AsyncIterator[tuple[StateChannelClient, StateChannelClient]]:
        """Both, connected."""
        async with self.client(1, listen=LOOPBACK, admission=everybody) as bob:
            wallet = MemoryWallet(self.towers[0].node)
            async with self.client(0, peers=[str(address_of(bob))], wallet=wallet) as alice:
                yield alice, bob


def address_of(client: StateChannelClient) -> PeerAddress:
    """Where a client listens."""
    assert isinstance(client.peer, ServedPeer)
    assert client.peer.address is not None
    return client.peer.address


@pytest.fixture
def town(homes: tuple[PartyHome, PartyHome], tmp_path: Path) -> Town:
    """Both parties and their towers."""
    return Town(homes, tmp_path)


async def open_channel(town: Town, alice: StateChannelClient) -> str:
    """A channel that is active at Alice's tower."""
    created = await alice.create_channel(PARAMS)
    confirm(town.towers[0], town.homes[0].party, created.channel_id)
    return created.channel_id


async def test_a_channel_lives_between_two_clients(town: Town) -> None:
    """Created and updated through CURVE on loopback; both logs hold the same state."""
    async with town.clients() as (alice, _):
        channel_id = await open_channel(town, alice)
        result = await alice.update_state(StateUpdate(channel_id, 1, [HALF - 7, HALF + 7], "seven"))

        state = town.homes[1].party.state(bytes.fromhex(channel_id), 1)
        assert (result.state_hash, b"seven") == (state.content.state_hash.hex(), state.content.state_data)


async def test_a_link_that_broke_is_dialed_again(town: Town) -> None:
    """Between two updates, and in the middle of a call, the connection ends; the next one goes on."""
    async with town.clients() as (alice, _):
        channel_id = await open_channel(town, alice)
        assert isinstance(alice.peer, ServedPeer)
        link = await alice.peer.link(town.homes[1].transport_key.public)
        await link.stop()
        await alice.update_state(StateUpdate(channel_id, 1, [HALF - 1, HALF + 1]))
        link = await alice.peer.link(town.homes[1].transport_key.public)
        waiting = asyncio.create_task(alice.update_state(StateUpdate(channel_id, 2, [HALF - 2, HALF + 2])))
        await link.stop()

        assert 2 == (await waiting).sequence


async def test_a_client_that_comes_back_goes_on(town: Town) -> None:
    """After `disconnect` and `connect` the same objects work again, on both sides."""
    async with town.clients() as (alice, _):
        channel_id = await open_channel(town, alice)
        await alice.disconnect()
        with pytest.raises(NotConnected):
            await alice.update_state(StateUpdate(channel_id, 1, [HALF - 1, HALF + 1]))
        await alice.connect()
        result = await alice.update_state(StateUpdate(channel_id, 1, [HALF - 1, HALF + 1]))

        assert (1, 1) == (result.sequence, result.final_sequence)


async def test_nobody_there_is_said_in_time(town: Town) -> None:
    """`timeout_ms` limits the wait for a peer, too."""
    stranger = PeerAddress(town.homes[1].transport_key.public, "127.0.0.1", 9)
    client = town.client(0, peers=[stranger], wallet=MemoryWallet(town.towers[0].node))
    assert isinstance(client.peer, ServedPeer)
    client.peer._timeout_ms = 300
    async with client:
        began = asyncio.get_running_loop().time()
        with pytest.raises(PeerUnreachable, match="within 300 ms"):
            await client.create_channel(PARAMS)

        assert asyncio.get_running_loop().time() - began < 20


async def test_one_of_several_peers_must_be_chosen(town: Town) -> None:
    """Without peers there is nobody to open a channel with; a channel of an unknown peer is refused."""
    async with town.client(0, wallet=MemoryWallet(town.towers[0].node)) as client:
        with pytest.raises(PeerUnreachable, match="0 peers; say which one"):
            await client.create_channel(PARAMS)
        with pytest.raises(PeerError, match="no connection"):
            assert isinstance(client.peer, ServedPeer)
            client.peer._timeout_ms = 100
            await client.create_channel(PARAMS, peer=b"\x01" * 32)


async def test_an_address_that_cannot_be_read_is_refused(town: Town) -> None:
    """KEY@host:port, or a sentence."""
    with pytest.raises(ConfigurationError, match="@host:port, got 'localhost:9735'"):
        open_client(town.homes[0], CONFIG, peers=["localhost:9735"])


async def test_a_port_that_is_taken_leaves_the_client_closed(town: Town) -> None:
    """The error is typed; the same client connects once the port is free. Connecting twice is harmless."""
    with socket.socket() as taken:
        taken.bind(LOOPBACK)
        taken.listen()
        port = taken.getsockname()[1]
        client = town.client(1, listen=("127.0.0.1", port), admission=everybody)
        with pytest.raises(StateChannelError, match=str(port)):
            await client.connect()
        with pytest.raises(NotConnected):
            await client.get_state()
    await client.connect()
    await client.connect()
    address = address_of(client)
    await client.disconnect()

    assert port == address.port


async def test_the_twin_of_an_opened_client(town: Town) -> None:
    """`SyncStateChannelClient.of` runs peers and tower in its own thread."""

    def story(address: str) -> int:
        client = town.client(0, peers=[address], wallet=MemoryWallet(town.towers[0].node))
        with SyncStateChannelClient.of(client) as alice:
            created = alice.create_channel(PARAMS)
            confirm(town.towers[0], town.homes[0].party, created.channel_id)
            return alice.update_state(StateUpdate(created.channel_id, 1, [HALF - 1, HALF + 1])).final_sequence

    async with town.client(1, listen=LOOPBACK, admission=everybody) as bob:
        assert 1 == await asyncio.to_thread(story, str(address_of(bob)))
