"""A client of the tower of a world."""

from __future__ import annotations

from hashlib import sha256

import httpx

from tests.regtest.world import World
from tests.support.parties import Pair
from tests.support.towers import TOKEN, TOWER_ID
from watchtower.channels.context import Context
from watchtower.client import InProcessPeer, StateChannelClient, StateChannelConfig
from watchtower.http.app import create_app
from watchtower.http.auth import Gate
from watchtower.http.services import Standing, bind


def client_of(
    world: World, pair: Pair, *, with_party: bool = True, context: Context | None = None
) -> StateChannelClient:
    """B's client of the world's tower, over the real HTTP application; `context` instead of the tower's own."""

    def standing() -> Standing:
        return Standing(operational=True, watching=True, phase="watching", height=world.node.height())

    services = bind(context or world.context, standing, version="1.2.3", network="regtest", tower_id=TOWER_ID)
    return StateChannelClient(
        StateChannelConfig(network="regtest"),
        url="http://tower",
        token=TOKEN,
        party=pair.b if with_party else None,
        closer=InProcessPeer(pair.b, pair.a),
        transport=httpx.ASGITransport(create_app(services, gate=Gate(sha256(TOKEN.encode()).digest()))),
    )
