"""What the node's chain says in the end."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import place

node, txid = place.purse(), place.told("alice")["close"]
outputs = [node.rpc("gettxout", txid, vout) for vout in (0, 1)]
for output in outputs:
    print(f"{round(output['value'] * 100_000_000):,} sat, {output['confirmations']} confirmation")
