"""Cooperative channel closure."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import asyncio

import alice
import place


async def main() -> None:
    """Both sign the split; Alice, who asks for it, pays the fee."""
    channel_id = place.told("alice")["channel"]
    async with alice.client() as client:
        # Cooperative channel closure
        final_balances = [40_000_000, 60_000_000]  # Final state
        closure_result = await client.close_channel_cooperative(
            channel_id,
            final_balances,
        )

        print(f"Channel closed cooperatively: {closure_result}")
        place.tell("alice", close=closure_result.txid)


asyncio.run(main())
