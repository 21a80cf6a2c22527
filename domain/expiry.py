"""When an HTLC stops being safe off chain, in blocks (protocol 3.5).

Pure arithmetic on heights: T is the challenge period of the channel, E the expiry of an HTLC.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from domain.contract.conditions import Condition
from domain.units import Side

CONFIRM_BLOCKS = 12
"""s: a transaction with a good fee confirms within two hours of bad luck."""

GRACE_BLOCKS = 2
"""g: the counterparty's next block and ours may differ; nobody closes over one block."""

REORG_BLOCKS = 2
"""r: how deep a reorganization the calculation absorbs."""


def closing_blocks(challenge_period: int) -> int:
    """w: from the decision to close until the settlement is confirmed."""
    return 2 * CONFIRM_BLOCKS + challenge_period


def claim_margin(challenge_period: int) -> int:
    """Blocks before its expiry in which an incoming HTLC is claimed on chain at the latest; 184 for T = 144."""
    return closing_blocks(challenge_period) + CONFIRM_BLOCKS + 2 * REORG_BLOCKS


def last_claim_height(condition: Condition, challenge_period: int) -> int:
    """The height at which the receiver of an HTLC must begin to close if it was not paid off chain."""
    return condition.expiry - claim_margin(challenge_period)


def forwarding_delta(challenge_period: int, preemptive: bool = False) -> int:
    """Least distance in blocks between the expiries of an incoming HTLC and the outgoing one that forwards it.

    `preemptive`: the outgoing channel is closed w blocks before its expiry instead of after it. 370 and 202 for
    T = 144.
    """
    waits = 1 if preemptive else 2
    return waits * closing_blocks(challenge_period) + 2 * CONFIRM_BLOCKS + 2 * GRACE_BLOCKS + 3 * REORG_BLOCKS


def must_go_on_chain(
    height: int, conditions: Iterable[Condition], own: Side, known: Collection[bytes], challenge_period: int
) -> tuple[Condition, ...]:
    """The HTLCs for whose sake this side must publish its commitment now; empty while the channel may stay open.

    Incoming ones whose preimage is known (`known`: payment hashes), from their last claim height on; outgoing ones
    that the peer neither fulfilled nor gave back, from `GRACE_BLOCKS` after their expiry on.
    """
    return tuple(
        condition
        for condition in conditions
        if condition.is_htlc and _is_urgent(height, condition, own, known, challenge_period)
    )


def _is_urgent(height: int, condition: Condition, own: Side, known: Collection[bytes], challenge_period: int) -> bool:
    if condition.offerer is own:
        return height >= condition.expiry + GRACE_BLOCKS
    return condition.hash in known and height >= last_claim_height(condition, challenge_period)
