"""Alice publishes a state that she revoked. `--in-block` puts it into a block that no mempool ever saw."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import argparse

import stage

from domain.chain import display
from watchtower.demo.cheater import unsafe_commitment

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("sequence", type=int)
options.add_argument("--in-block", action="store_true")
chosen = options.parse_args()

# The SDK refuses this (SelfBreach), so the cheater works from the seed that she should not have at hand.
seed = (stage.FOLDER / "alice" / "seed").read_bytes()
with stage.party("alice") as alice:
    commitment = unsafe_commitment(seed, alice, stage.channel_id(), chosen.sequence)

node = stage.node()
if chosen.in_block:
    node.generate_block([commitment.serialize()])
else:
    node.send_raw(commitment.serialize())
stage.remember_commitment(commitment.txid)
print(f"Alice published state {chosen.sequence}: {display(commitment.txid)}")
