"""What a client asks a tower in a dispute."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from domain.units import Side
from tests.regtest.clients import client_of
from tests.regtest.world import World
from tests.support.parties import Pair
from watchtower.client import StateChannelClient

T = TypeVar("T")


Work = Callable[[StateChannelClient], Awaitable[T]]


def ask(world: World, pair: Pair, work: Work[T], with_party: bool = True) -> T:
    """Run one piece of work of a connected client."""

    async def connected() -> T:
        async with client_of(world, pair, with_party=with_party) as client:
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
