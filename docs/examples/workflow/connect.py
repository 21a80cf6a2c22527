"""Initialize the client and connect."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import asyncio

import place

from watchtower.client import StateChannelConfig, open_client


async def main() -> None:
    """Alice's client: her tower, her keys, her wallet, and Bob's address."""
    # Initialize client
    config = StateChannelConfig(network="regtest")
    with place.home("alice") as home:
        client = open_client(
            home,
            config,
            url=place.TOWERS["alice"],
            token=place.token("alice"),
            peers=[place.told("bob")["address"]],
            wallet=place.wallet(),
        )

        # Connect to network
        await client.connect()

        state = await client.get_state()
        print(f"connected: {state.network}, block {state.height}, {state.channels} channels, {state.capacity} sat")
        await client.disconnect()


asyncio.run(main())
