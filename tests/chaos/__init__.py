"""Random schedules on real nodes: the network, the tower's own node, and everything that goes wrong between them."""
