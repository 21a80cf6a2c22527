"""Deadlines in blocks. The wall clock never enters one (protocol 7.3)."""

from __future__ import annotations

from domain.units import FINAL_DEPTH, SOFT_FINAL_DEPTH

PROMISED_REORG, PROMISED_OUTAGE, LAST_BLOCKS = 24, 100, 6
"""No loss if a reorganization, an outage and the last blocks, in which all has to work, fit into T (docs/promises.md).

Deepest reorganizations of mainnet so far: 53 blocks in August 2010, 24 in March 2013, 6 in July 2015.
"""


def deadline(commitment_height: int, challenge_period: int) -> int:
    """`D = h_c + T - 1`: the last height at which the penalty has no competitor."""
    return commitment_height + challenge_period - 1


def settle_valid_from(commitment_height: int, challenge_period: int) -> int:
    """`h_c + T`: the first height of a block that may contain the settlement (BIP-68)."""
    return commitment_height + challenge_period


def remaining(deadline_height: int, tip_height: int) -> int:
    """Blocks that can still take the penalty without a race; negative after the deadline."""
    return deadline_height - tip_height


def depth(block_height: int, tip_height: int) -> int:
    """Confirmations of something in a block: 1 when the block is the tip."""
    return tip_height - block_height + 1


def is_soft_final(block_height: int, tip_height: int) -> bool:
    """At least 6 confirmations: may be announced, may still be undone."""
    return depth(block_height, tip_height) >= SOFT_FINAL_DEPTH


def is_final(block_height: int, tip_height: int) -> bool:
    """At least 100 confirmations: the tower stops defending the outcome."""
    return depth(block_height, tip_height) >= FINAL_DEPTH
