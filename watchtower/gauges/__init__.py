"""Metrics of the views, of money, of the node, and of what became of each submitted state."""
