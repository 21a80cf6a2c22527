"""Mine coins for Alice's wallet, and make the two parties."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import place

node = place.purse()
node.prepare_chain()
for name in ("alice", "bob"):
    place.make_home(name)
print(f"block {node.height()}; Alice and Bob have a log and a keystore each in {place.FOLDER}")
