"""The example for bitcoind, made from what the tower calls: python -m tests.support.bitcoin_conf FILE."""

from __future__ import annotations

import sys
from pathlib import Path

from watchtower.ports import ALLOWED_METHODS

USER = "watchtower"

TEXT = """\
# What bitcoind needs for a state channel watchtower. Made from the program: `make pages`.
# `watchtower init` prints these lines with an rpcauth of its own; docs/node.md explains them, and
# `watchtower doctor` tells what is missing.

server=1

# A user that may do what the tower does, and no more. Replace salt and hash by the line of `watchtower init`.
rpcauth={user}:00000000000000000000000000000000$0000000000000000000000000000000000000000000000000000000000000000
rpcwhitelist={user}:{methods}
# Without this line every other user, the cookie included, is refused everything.
rpcwhitelistdefault=0

# Notifications. Required are sequence and rawtx; hashblock is optional (node.zmq_hashblock).
zmqpubsequence=tcp://127.0.0.1:28332
zmqpubrawtx=tcp://127.0.0.1:28333
#zmqpubhashblock=tcp://127.0.0.1:28334

# The fast way to full blocks; set node.rest_url = "http://127.0.0.1:8332/rest" as well. It needs no credentials and
# tells nothing but public data.
#rest=1

# Pruning is fine as long as the node keeps the blocks since the tower was last up, and best those since the oldest open
# channel was funded: 20000 MiB are some weeks. Neither txindex nor a wallet is needed.
#prune=20000
disablewallet=1

# Bitcoin Knots only: relay version 3 transactions by the rules of Bitcoin Core, so that a better penalty replaces a
# cheater's child. Bitcoin Core does not know this option and would not start with it.
#corepolicy=1

# Leave these alone: with blocksonly=1 breaches are seen a block later, and a higher minrelaytxfee keeps commitments
# with a static fee out of the mempool.
#blocksonly=0
#minrelaytxfee=0.00001
"""


def text() -> str:
    """The whole file."""
    return TEXT.format(user=USER, methods=",".join(ALLOWED_METHODS))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
