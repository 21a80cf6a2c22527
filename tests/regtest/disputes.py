"""What a client asks a tower in a dispute."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, TypeVar

import httpx

from domain.units import Side
from tests.regtest.world import World
from tests.support.parties import Pair
from tests.support.towers import TOKEN, TOWER_ID
from watchtower.client import InProcessPeer, StateChannelClient, StateChannelConfig
from watchtower.http.app import create_app
from watchtower.http.auth import Gate
from watchtower.http.services import Standing, bind

T = TypeVar("T")


Work = Callable[[StateChannelClient], Awaitable[T]]


def client_of(world: World, pair: Pair, with_party: bool = True) -> StateChannelClient:
    """B's client of the world's tower, over the real HTTP application."""
    standing = Standing(operational=True, watching=True, phase="watching", height=world.node.height())
    services = bind(world.context, lambda: standing, version="1.2.3", network="regtest", tower_id=TOWER_ID)
    transport = httpx.ASGITransport(create_app(services, gate=Gate(sha256(TOKEN.encode()).digest())))
    return StateChannelClient(
        StateChannelConfig(network="regtest"),
        url="http://tower",
        token=TOKEN,
        party=pair.b if with_party else None,
        closer=InProcessPeer(pair.b, pair.a),
        transport=transport,
    )


def ask(world: World, pair: Pair, work: Work[T], with_party: bool = True) -> T:
    """Run one piece of work of a connected client."""

    async def connected() -> T:
        async with client_of(world, pair, with_party) as client:
            return await work(client)

    return asyncio.run(connected())


def challenge(world: World, pair: Pair, sequence: int, proof: bytes) -> Any:
    """`challenge_state` of B's client."""
    return ask(world, pair, lambda client: client.challenge_state(pair.channel_id.hex(), sequence, proof.hex()))


def stopped_short(world: World, newest: int = 4, uploaded: int = 1, **options: Any) -> Pair:
    """A channel whose last states never reached the tower: its keys are here, the peer's secrets are not."""
    pair = world.open(updates=uploaded, **options)
    pair.updates(newest - uploaded)
    return pair


def sweep_of(pair: Pair) -> bytes:
    """B's registered sweep script."""
    return bytes(pair.registration(Side.B).sweep_spk)
