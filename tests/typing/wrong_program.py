"""What a user may get wrong: `mypy --strict` must find every marked line, else the types promise nothing."""

from __future__ import annotations

from watchtower.client import ChannelParams, ChannelParticipant, StateChannelClient, StateUpdate, SyncStateChannelClient


async def mistakes(client: StateChannelClient, twin: SyncStateChannelClient) -> None:
    """One mistake per line."""
    ChannelParams(participants=["alice"])  # wrong: list-item
    ChannelParticipant(pubkey=b"key", initial_balance=1)  # wrong: arg-type
    StateUpdate("id", "1", [1, 2])  # wrong: arg-type
    client.get_state().network  # wrong: attr-defined
    (await client.get_channel_info("id")).balance  # wrong: attr-defined
    await client.close_channel_unilateral("id")  # wrong: call-arg
    await twin.get_state()  # wrong: misc
    twin.update_state("id")  # wrong: arg-type
    twin.get_channel_info("id").balance  # wrong: attr-defined
