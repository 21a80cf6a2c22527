"""What a child on a pay-to-anchor output pays for a commitment or settlement whose own fee is too small.

Pure arithmetic on heights, sizes and fees; feerates are sat/vB, fees satoshi. The bid of a parent never falls, needs no
estimate once it is late, and stays within a share of what is at stake. Source: docs/adr/0037; protocol 3.3, 7.6.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from math import ceil, floor

import msgspec

from domain.contract.conditions import Condition
from domain.expiry import CONFIRM_BLOCKS, GRACE_BLOCKS, closing_blocks, last_claim_height
from domain.fees import CLAIM_SHARE, MEMPOOL_SHARE, Market
from domain.units import Side

PATIENT_TARGET = 144
"""Blocks: nobody takes anything while a close without HTLCs waits."""

TARGETS = (2, 3, 6, 12, 24, 72, PATIENT_TARGET)
"""What estimates are asked for, in blocks."""

STEEPNESS = 4
"""How late the bid without an estimate rises: half-way to the deadline it asks for a sixteenth of the cap."""

LEAST_RAISE = 0.10
"""Smaller steps only waste replacements."""


class Parent(msgspec.Struct, frozen=True):
    """A transaction with a fixed fee."""

    fee: int
    vsize: int


class Child(msgspec.Struct, frozen=True):
    """A child of the parent in the mempool, whoever made it. `is_own`: it is the newest bid."""

    fee: int
    vsize: int
    is_own: bool


class Standing(msgspec.Struct, frozen=True):
    """The parent in the mempool with everything that depends on it; `child` is the one that a new child has to beat."""

    fee: int
    vsize: int
    child: Child | None = None


class Urgency(msgspec.Struct, frozen=True):
    """Until when the parent should be in a block, None if nobody loses by waiting; `height` is that of the tip.

    `is_late`: it was waiting at an earlier height already, so that a block has passed it over.
    """

    height: int
    confirm_by: int | None
    is_late: bool

    @property
    def remaining(self) -> int | None:
        """Blocks that are left, never negative."""
        return None if self.confirm_by is None else max(0, self.confirm_by - self.height)

    @property
    def target(self) -> int:
        """Confirmation target in blocks: half of what is left, so that an estimate may be wrong once."""
        left = self.remaining
        if left is None:
            return PATIENT_TARGET
        return max((each for each in TARGETS if each <= left // 2), default=TARGETS[0])

    @property
    def share(self) -> float:
        """Share of the cap to bid whatever the estimate: 0 until a block passed the parent over, 1 at the deadline."""
        left = self.remaining
        if left is None or not self.is_late:
            return 0.0
        return max(0.0, 1 - left / CONFIRM_BLOCKS) ** STEEPNESS


class Bid(msgspec.Struct, frozen=True):
    """What is to be done: a child with this `fee`, or nothing (None). `is_capped`: more would be needed."""

    fee: int | None
    is_capped: bool = False


NO_CHILD = Bid(None)


def child_bid(
    *,
    parent: Parent,
    child_vsize: int,
    standing: Standing | None,
    last: int | None,
    market: Market,
    urgency: Urgency,
    cap: int,
    least: int = 0,
) -> Bid:
    """The child that the parent needs now. `standing` None: the parent is in no mempool, and in no block.

    `last` is the highest fee bid so far for this parent; it is bid again if it was lost, and never undercut, also above
    a `cap` that was lowered. `least` is what a refusal asks for. All but `market` and `urgency` in sat and vB.
    """
    size = parent.vsize + child_vsize
    wanted_rate = max(_estimate(market, urgency.target), urgency.share * (parent.fee + cap) / size)
    admitted = max(market.minimum, market.relay)
    stands = standing or Standing(parent.fee, parent.vsize)
    enters = standing is not None or parent.fee >= admitted * parent.vsize
    if enters and stands.fee >= wanted_rate * stands.vsize - 1e-6 and not least:
        return NO_CHILD

    wanted = _fee(max(wanted_rate, market.relay_floor), size) - parent.fee
    lowest = max(least, last or 0, _fee(admitted, child_vsize), _beating(stands.child, child_vsize, market))
    if stands.child is not None and stands.child.is_own and wanted < lowest:
        return NO_CHILD  # not worth a replacement yet
    if not enters:
        lowest = max(lowest, _fee(admitted, size) - parent.fee)
    fee, highest = max(wanted, lowest), max(cap, last or 0)
    if fee <= highest:
        return Bid(fee)
    return Bid(highest if highest >= lowest else None, is_capped=True)


def raised(fee: int, child_vsize: int, market: Market) -> int:
    """The least fee that is worth replacing a child with this fee for."""
    return fee + max(ceil(market.step * child_vsize), ceil(fee * LEAST_RAISE))


def _estimate(market: Market, target: int) -> float:
    """The highest estimate for this target or a longer one, which nobody asks less for; 0 without any."""
    return max((rate for blocks, rate in market.estimates if blocks >= target), default=0.0)


def _beating(child: Child | None, vsize: int, market: Market) -> int:
    """More in fee and in feerate than the child that stands there: nodes before Core 31 ask for both."""
    if child is None:
        return 0
    if child.is_own:
        return raised(child.fee, vsize, market)
    return max(child.fee + ceil(market.step * vsize), floor(child.fee * vsize / child.vsize) + 1)


def _fee(feerate: float, vsize: int) -> int:
    return ceil(feerate * vsize - 1e-9)


def confirm_by(htlcs: Iterable[Condition], own: Side, challenge_period: int, *, preemptive: bool = False) -> int | None:
    """Height at which the commitment of a state should be in a block for these HTLCs (`pressing`), None without any.

    Incoming ones need settlement and claim before their expiry; outgoing ones are taken back as early as the expiries
    of forwarding count on it (protocol 3.5), which `preemptive` forwarders do around the expiry already.
    """
    late = GRACE_BLOCKS + CONFIRM_BLOCKS if not preemptive else CONFIRM_BLOCKS - closing_blocks(challenge_period)
    heights = [
        htlc.expiry + late if htlc.offerer is own else last_claim_height(htlc, challenge_period) + CONFIRM_BLOCKS
        for htlc in htlcs
    ]
    return min(heights, default=None)


def settled_by(commit_by: int | None, challenge_period: int) -> int | None:
    """The same for the settlement: T blocks later, with as many blocks to get in."""
    return None if commit_by is None else commit_by + challenge_period + CONFIRM_BLOCKS


def pressing(conditions: Iterable[Condition], own: Side, known: Collection[bytes]) -> tuple[Condition, ...]:
    """HTLCs that this side claims or takes back, and may lose to a close that comes late. `known`: payment hashes."""
    return tuple(c for c in conditions if c.is_htlc and (c.offerer is own) != (c.hash in known))


def most(balance: int, at_risk: int, max_fee: int) -> int:
    """The most that a child may pay: a tenth of the own balance and half of the HTLCs at risk, and never `max_fee`."""
    return min(max_fee, int(balance * MEMPOOL_SHARE) + int(at_risk * CLAIM_SHARE))
