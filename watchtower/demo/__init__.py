"""The demonstration: a private regtest node, a real tower process, and six acts on the node's own chain."""
