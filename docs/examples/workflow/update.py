"""Perform multiple state updates: Alice pays Bob ten times."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import asyncio

import alice
import place

from watchtower.client import StateUpdate


async def main() -> None:
    """Each update is final when the call returns: both signed it, and the state before cannot come back unpunished."""
    channel_id = place.told("alice")["channel"]
    async with alice.client() as client:
        await client.wait_for_status(channel_id, "ACTIVE")

        # Perform multiple state updates
        for i in range(1, 11):
            alice_balance = 50_000_000 - (i * 1_000_000)  # Alice pays Bob
            bob_balance = 50_000_000 + (i * 1_000_000)

            state_update = StateUpdate(
                channel_id=channel_id,
                sequence_number=i,
                balances=[alice_balance, bob_balance],
                state_data=f"payment_{i}",
            )

            update_result = await client.update_state(state_update)
            print(f"State update {i}: {update_result}")


asyncio.run(main())
