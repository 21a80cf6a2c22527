"""Mine blocks, and wait until the tower has worked through them if it runs."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import asyncio
import sys

import stage

from watchtower.client.errors import TowerUnreachable


async def main(count: int) -> None:
    """A tower that is stopped is not waited for."""
    node = stage.node()
    node.mine(count)
    height = node.height()
    try:
        async with stage.client() as client:
            while ((await client.get_state()).height or 0) < height:  # noqa: ASYNC110 - blocks have no event stream
                await asyncio.sleep(0.05)
        print(f"block {height}, the tower has seen it")
    except TowerUnreachable:
        print(f"block {height}, the tower is not running")


asyncio.run(main(int(sys.argv[1])))
