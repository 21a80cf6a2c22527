"""Alice and Bob close together: one small transaction that pays both at once."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import stage

from domain.chain import display
from watchtower.client.party import exchange

channel_id = stage.channel_id()
with stage.party("alice") as alice, stage.party("bob") as bob:
    final = bob.channel(channel_id).balances
    closing = exchange.close(alice, bob, channel_id, final, fee=1_000)
txid = stage.node().send_raw(closing)
print(f"{display(txid)} pays {final[0] - 1_000:,} to Alice and {final[1]:,} to Bob")
