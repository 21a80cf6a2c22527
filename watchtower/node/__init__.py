"""Everything that talks to bitcoind: RPC, blocks, answers to broadcasts, and the ZMQ door-bell."""
