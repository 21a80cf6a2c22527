"""Bob's side: answers Alice, brings what they sign to his tower, and tells what his tower saw until the end."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import asyncio

import place

from watchtower.client import ServedPeer, open_client
from watchtower.client.transport.admission import only


async def main() -> None:
    """Only Alice may connect. Bob agrees by himself to whatever does not cost him anything."""
    with place.home("bob") as home:
        client = open_client(
            home,
            place.CONFIG,
            url=place.TOWERS["bob"],
            token=place.token("bob"),
            listen=place.BOB_LISTENS,
            admission=only([bytes.fromhex(place.told("alice")["key"])]),
        )
        await place.wait_watching(client)
        assert isinstance(client.peer, ServedPeer)
        place.tell("bob", address=str(client.peer.address), pubkey=home.party.next_funding_key().hex())
        print(f"Bob answers at {client.peer.address}", flush=True)
        try:
            async for event in client.follow(after=0):
                print(event.text, flush=True)
                if event.kind == "SpendConfirmed":
                    return
        finally:
            await client.disconnect()


asyncio.run(main())
