"""Alice opens a channel with Bob, 500,000 sat each. Bob's tower knows it before the funding is broadcast."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import asyncio

import stage

from watchtower.client import Terms
from watchtower.client.party import exchange
from watchtower.devnode.purse import Funding


async def main() -> None:
    """Both sign state 0, Bob registers the channel at his tower, and only then the money moves."""
    node, made = stage.node(), list[Funding]()

    def fund(spk: bytes, amount: int) -> tuple[bytes, int]:
        made.append(node.fund(spk, amount, broadcast=False))
        return made[0].txid, made[0].vout

    with stage.party("alice") as alice, stage.party("bob") as bob:
        terms = Terms(balances=(500_000, 500_000), challenge_period=144)
        channel_id = exchange.open_channel(alice, bob, terms, fund)
        async with stage.client(bob) as client:
            await client.synchronize(channel_id, made[0].raw)
            print((await client.get_channel_info(channel_id.hex())).status)
    node.send_raw(made[0].raw)
    stage.remember_channel(channel_id)
    print(f"channel {channel_id.hex()[:16]}")


asyncio.run(main())
