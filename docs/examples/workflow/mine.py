"""Mine blocks, and wait until both towers have worked through them."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import asyncio
import sys

import place

from watchtower.client import StateChannelClient


async def main(count: int) -> None:
    """A miner's script; the parties have no part in it."""
    node = place.purse()
    node.mine(count)
    height = node.height()
    for name, url in place.TOWERS.items():
        async with StateChannelClient(place.CONFIG, url=url, token=place.token(name)) as client:
            while ((await client.get_state()).height or 0) < height:  # noqa: ASYNC110 - blocks have no event stream
                await asyncio.sleep(0.05)
    print(f"block {height}, both towers have seen it")


asyncio.run(main(int(sys.argv[1])))
