"""Alice's client for the steps after connect.py: `async with alice.client() as client`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import place

from watchtower.client import StateChannelClient, open_client


@asynccontextmanager
async def client() -> AsyncIterator[StateChannelClient]:
    """The same as in connect.py; the block connects and disconnects."""
    with place.home("alice") as home:
        made = open_client(
            home,
            place.CONFIG,
            url=place.TOWERS["alice"],
            token=place.token("alice"),
            peers=[place.told("bob")["address"]],
            wallet=place.wallet(),
        )
        async with made:
            yield made
