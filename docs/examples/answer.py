"""Wait until somebody spends the commitment's money, and ask the node what the spender pays."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import stage

from domain.chain import display
from domain.transaction import Transaction

txid = stage.wait_for_spender(stage.contest_outpoint())
raw = stage.node().transaction(txid)
if raw is None:
    raise SystemExit("the transaction was replaced a moment ago; ask again")
with stage.party("bob") as bob:
    sweep = bytes(bob.registration(stage.channel_id()).sweep_spk)
    params = bob.channel(stage.channel_id()).params
names = {sweep: "Bob, as a penalty", params.keys_a.payout: "Alice", params.keys_b.payout: "Bob"}
for output in Transaction.parse(raw).outputs:
    print(f"{display(txid)[:16]} pays {output.value:,} sat to {names.get(output.spk, 'the anchor')}")
