"""A served party with its tower: an update counts when the tower has it, and what a crash cut short goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from domain.contract.scripts import funding_output
from domain.units import Side
from tests.support.linking import TERMS
from tests.support.parties import Pair, made_up_funding
from tests.support.towers import TOKEN, Bench
from watchtower.client import PartySettings, StateChannelClient, StateChannelConfig
from watchtower.client.errors import ChannelIsNotReady
from watchtower.client.party.home import PartyHome, create_home, open_home
from watchtower.client.serve import serve_party
from watchtower.client.transport.curve_key import PeerAddress
from watchtower.devnode.launch import free_ports

T = TypeVar("T")
NEXT = (490_000, 510_000)


class Flaky(httpx.AsyncBaseTransport):
    """A tower that is down until somebody repairs it."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.is_down = True

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Refuse the connection, or carry."""
        if self.is_down:
            raise httpx.ConnectError("refused")
        return await self._inner.handle_async_request(request)


async def soon(waiting: Awaitable[T]) -> T:
    """What must happen within seconds, and on a busy machine in half a minute."""
    return await asyncio.wait_for(waiting, 30)


def home_of(directory: Path) -> PartyHome:
    """A new home, open."""
    create_home(directory, "regtest", b"for tests", cost=2**4)
    return open_home(directory, b"for tests", PartySettings(network="regtest"))


def client_of(home: PartyHome, transport: httpx.AsyncBaseTransport) -> StateChannelClient:
    """B's client of its tower."""
    config = StateChannelConfig(network="regtest")
    return StateChannelClient(config, url="http://tower", token=TOKEN, party=home.party, transport=transport)


@pytest.mark.asyncio
async def test_a_served_party_brings_its_channels_to_the_tower(tmp_path: Path) -> None:
    """Refused, unreachable, then repaired: in the end the tower holds the newest state, without a further call."""
    tower = Bench(tmp_path)
    way = Flaky(tower.transport())
    (port,) = free_ports(1)
    with home_of(tmp_path / "a") as alice, home_of(tmp_path / "b") as bob:
        address = PeerAddress(bob.transport_key.public, "127.0.0.1", port)
        client = client_of(bob, way)
        async with (
            serve_party(
                bob,
                listen=("127.0.0.1", port),
                admission=lambda key: key == alice.transport_key.public,
                tower=client,
                retry_seconds=0.05,
            ) as there,
            serve_party(alice, peers=[address]) as here,
        ):
            link = await soon(here.link(bob.transport_key.public))
            made = []

            def fund(spk: bytes, value: int) -> tuple[bytes, int]:
                made.append(made_up_funding(spk, value))
                return made[0].txid, 0

            channel_id = await soon(link.open_channel(TERMS, fund))
            back = await soon(there.link(alice.transport_key.public))
            await soon(back.wait_for(channel_id, lambda channel: channel.sequence == 0))
            pair = Pair((alice.party, bob.party), ("a", "b"), channel_id, made[0])
            tower.node.add_coin(pair.params.funding_outpoint, pair.params.capacity, funding_output(pair.params).spk)
            way.is_down = False
            await soon(back.wait_for(channel_id, lambda channel: bool(channel.acknowledged)))

            with pytest.raises(ChannelIsNotReady):
                await soon(back.update(channel_id, TERMS.balances))
            assert 0 == bob.party.channel(channel_id).final_sequence
            tower.confirm(pair)
            await soon(back.wait_for(channel_id, lambda channel: channel.final_sequence == 1))

            assert 2 == await soon(link.update(channel_id, NEXT))
            await soon(back.wait_for(channel_id, lambda channel: channel.final_sequence == 2))
            assert Side.B is bob.party.channel(channel_id).own_side


def test_a_home_has_one_identity(tmp_path: Path) -> None:
    """The transport key follows from the seed: the same after a restart and after a restore, never the seed itself."""
    create_home(tmp_path / "a", "regtest", b"x", seed=bytes(range(32)), cost=2**4)
    create_home(tmp_path / "b", "regtest", b"y", seed=bytes(range(32)), cost=2**4)
    settings = PartySettings(network="regtest")
    with open_home(tmp_path / "a", b"x", settings) as one, open_home(tmp_path / "b", b"y", settings) as two:
        assert one.transport_key.public == two.transport_key.public
        assert bytes(range(32)).hex() not in repr(one.transport_key)
