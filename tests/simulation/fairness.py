"""What a schedule within the bounds of the promise may do to the tower.

The promise (promised reorg depth + promised outage + 6 <= T) in terms of single steps: a fault that delays the tower,
a reorg, and a block without a pass are allowed only while every open breach keeps `remaining` >= 6 afterwards. From
then on no fault is injected and every block is followed by a clean pass; only a block that cannot be parsed may stay
so if every open breach is in the log already. The miners' threshold never exceeds the full budget of a penalty.
Schedules beyond the bounds ask nobody; they are not held against O1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from domain.chain import make_outpoint
from tests.simulation.case import Case, Known, known_transactions

if TYPE_CHECKING:
    from tests.simulation.world import SimWorld

SAFETY = 6
"""Blocks at the end of the window in which tower and node have to work."""


def room(world: SimWorld) -> int:
    """Blocks that may still pass before every open breach has exactly `SAFETY` left; large without an open breach."""
    height = world.chain.height
    lefts = [deadline - height - SAFETY for deadline in _open_deadlines(world)]
    return min(lefts, default=10**6)


def knows_every_breach(world: SimWorld) -> bool:
    """Whether every open breach is in the tower's log, where it stands on the chain.

    Then a block that the tower cannot read is no excuse, however long: the answers go on from what is durable.
    """
    for case in world.cases:
        known, height = _commitment(world, case)
        if known is None or not _counts(case, known) or _taken_at(world, case) is not None:
            continue
        channel = world.channels.find(case.stream)
        spend = None if channel is None else channel.confirmed_spend
        if spend is None or spend.block is None or spend.block.hash != world.chain.hash_at(height):
            return False
    return True


def excuse(world: SimWorld, case: Case) -> None:
    """A revocation that came just now, with hardly any block left, cannot be used any more: nobody is held against it.

    To be called after everything that a client says. One that was known before excuses nothing.
    """
    news, case.asked = range(case.asked + 1, case.revoked + 1), case.revoked
    known, height = _commitment(world, case)
    late = height + case.channel.period - 1 - world.chain.height < SAFETY
    if known is not None and known.kind == "commit" and known.sequence in news and late:
        case.excused.add(known.sequence)


def has_open_breach(world: SimWorld) -> bool:
    """Whether a revoked commitment stands in a block with nothing behind it."""
    return any(True for _ in _open_deadlines(world))


def allows_blocks(world: SimWorld, count: int) -> bool:
    """Whether so many blocks may pass without the tower."""
    return not world.bounded or room(world) >= count


def allows_reorg(world: SimWorld, depth: int, length: int) -> bool:
    """Whether the last `depth` blocks may be replaced by `length` new ones.

    A breach below the fork keeps its height, and a penalty above the fork is undone; a commitment that was in the
    replaced blocks can return in the first new one at the earliest.
    """
    if not world.bounded:
        return True
    fork = world.chain.height - depth
    tip = fork + length
    for case in world.cases:
        known, height = _commitment(world, case)
        if known is None:
            continue
        taken = _taken_at(world, case)
        if height <= fork and taken is not None and taken <= fork:
            continue
        deadline = max(min(height, fork + 1), 0) + case.channel.period - 1
        if _counts(case, known) and deadline - tip < SAFETY:
            return False
    return True


def _open_deadlines(world: SimWorld) -> Iterator[int]:
    for case in world.cases:
        known, height = _commitment(world, case)
        if known is not None and _counts(case, known) and _taken_at(world, case) is None:
            yield height + case.channel.period - 1


def _counts(case: Case, known: Known) -> bool:
    return known.kind == "commit" and case.is_stale(known.sequence) and known.sequence not in case.excused


def _commitment(world: SimWorld, case: Case) -> tuple[Known | None, int]:
    ledger = world.chain.ledger
    txid = ledger.spenders.get(case.funding)
    place = None if txid is None else ledger.confirmation(txid)
    if txid is None or place is None:
        return None, 0
    return known_transactions(case.channel.index).get(txid), place.height


def _taken_at(world: SimWorld, case: Case) -> int | None:
    ledger = world.chain.ledger
    txid = ledger.spenders.get(case.funding)
    taker = None if txid is None else ledger.spenders.get(make_outpoint(txid, 0))
    place = None if taker is None else ledger.confirmation(taker)
    return None if place is None else place.height
