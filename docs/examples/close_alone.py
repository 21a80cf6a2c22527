"""Alice closes alone with her newest state, as she may."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import stage

from domain.chain import display

channel_id = stage.channel_id()
with stage.party("alice") as alice:
    sequence = alice.channel(channel_id).sequence
    txid = stage.node().send_raw(alice.sign_commitment(channel_id, sequence))
stage.remember_commitment(txid)
print(f"Alice published her newest state {sequence}: {display(txid)}")
