"""Follows the chain: cursor to tip, block by block; looks into the mempool for early warnings."""
