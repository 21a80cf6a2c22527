"""Alice pays Bob 10,000 sat as often as the first argument says. Nothing of it touches the chain."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import asyncio
import sys

import stage

from watchtower.client.party import exchange


async def main(count: int) -> None:
    """Each payment is a new state, signed by both; it is final once Bob's tower has stored it."""
    channel_id = stage.channel_id()
    with stage.party("alice") as alice, stage.party("bob") as bob:
        async with stage.client(bob) as client:
            for number in range(1, count + 1):
                a, b = bob.channel(channel_id).balances
                balances = (a - 10_000, b + 10_000)
                exchange.update(alice, bob, channel_id, balances, state_data=f"payment_{number}".encode())
                stored = await client.synchronize(channel_id)
                print(f"state {stored.sequence}: {balances[0]:,} / {balances[1]:,}, final {stored.final_sequence}")


asyncio.run(main(int(sys.argv[1])))
