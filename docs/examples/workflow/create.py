"""Create a channel between the two parties."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import asyncio

import alice
import place

from watchtower.client import ChannelParams, ChannelParticipant


async def main() -> None:
    """Alice pays in 1 BTC, half of it for Bob."""
    async with alice.client() as client:
        assert client.party is not None
        alice_pubkey = client.party.next_funding_key().hex()
        bob_pubkey = place.told("bob")["pubkey"]

        # Create channel between two parties
        channel_params = ChannelParams(
            participants=[
                ChannelParticipant(
                    pubkey=alice_pubkey,
                    initial_balance=50_000_000,  # 0.5 BTC
                ),
                ChannelParticipant(
                    pubkey=bob_pubkey,
                    initial_balance=50_000_000,  # 0.5 BTC
                ),
            ],
            challenge_period=144,  # ~1 day
            funding_script="taproot",
        )

        channel_result = await client.create_channel(channel_params)
        channel_id = channel_result.channel_id
        print(f"Channel created: {channel_id}")
        print(f"funding_script:  {channel_result.descriptor}")
        place.tell("alice", channel=channel_id)

        # Check funding transaction
        funding_status = await client.get_funding_status(channel_id)
        if not funding_status.confirmed:
            print("Funding transaction not yet confirmed")


asyncio.run(main())
