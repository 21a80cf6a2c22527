"""The funding_script of the documentation's listing is not that of any channel: it is refused, nothing is signed."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import asyncio

import alice

from domain.errors import InvalidParams
from watchtower.client import ChannelParams, ChannelParticipant


async def main() -> None:
    """A second channel, with the script as the documentation has it."""
    channel_params = ChannelParams(
        participants=[
            ChannelParticipant(pubkey="", initial_balance=50_000_000),
            ChannelParticipant(pubkey="", initial_balance=50_000_000),
        ],
        challenge_period=144,
        funding_script="tr(alice_key,{and_v(v:pk(bob_key),after(144))})",
    )
    async with alice.client() as client:
        try:
            await client.create_channel(channel_params)
        except InvalidParams as error:
            print(f"InvalidParams: {error}")


asyncio.run(main())
