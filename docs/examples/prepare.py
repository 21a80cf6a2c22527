"""Mine coins for a wallet of the private node, and make the two parties."""
# ruff: noqa: T201 - a script for a terminal

from __future__ import annotations

import stage

node = stage.node()
node.prepare_chain()
stage.make_parties()
print(f"block {node.height()}; Alice and Bob have a log and a keystore each in {stage.FOLDER}")
