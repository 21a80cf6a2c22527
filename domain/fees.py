"""What a penalty bids: an estimate, clamped between a rising floor and a rising ceiling.

Both bounds depend only on the blocks left, the challenge period and the contest value, so that a restart, a
reorg or a lying estimator cannot bring the bid down. Feerates are sat/vB as floats; fees are integers.
Source: docs/adr/0008; the phase table of the protocol (7.5) is its sanity check.
"""

from __future__ import annotations

from math import ceil, floor

import msgspec

CRITICAL_BLOCKS = 6
"""In the last six blocks everything may be spent: losing it all to fees denies the thief."""

RED_BLOCKS = 18
"""Below this many blocks (or an eighth of a long window) the ceiling rises to 75 %."""

MEMPOOL_SHARE = 0.10
"""An unconfirmed breach is answered for at most a tenth of the value: its confirmation is good for us, and
after it the cheater has no move until h_c + T."""

CLAIM_SHARE = 0.5
"""The most that a claim may cost, as a share of its output. A penalty may burn everything, because that denies it to
a thief; whoever loses the race for an HTLC loses it to somebody with a right to it."""

MINIMUM_STEP = 1.0
"""sat/vB between two bids, also where the node's own increment is 0.1: Core 28 and Knots still want 1."""


class Market(msgspec.Struct, frozen=True):
    """Feerates that the node reports, sat/vB. `estimates` maps a target in blocks to an estimate."""

    minimum: float
    relay: float
    increment: float
    estimates: tuple[tuple[int, float], ...] = ()

    @property
    def relay_floor(self) -> float:
        """A feerate that relays now and still relays if the minimum rises a little."""
        return max(1.0, 1.1 * max(self.relay, self.minimum))

    @property
    def step(self) -> float:
        """The smallest increase that replaces an own transaction everywhere."""
        return max(MINIMUM_STEP, self.increment)

    def estimate(self, target: int) -> float | None:
        """Estimate for a target, or None: a legal answer that must not stop the responder."""
        return dict(self.estimates).get(target)


def phase_estimate(remaining: int, window: int, market: Market) -> float | None:
    """The estimate that the phase asks for: patient when green, above the next block when red or critical."""
    target, factor = 6, 1.0
    if remaining <= CRITICAL_BLOCKS:
        target, factor = 1, 2.0
    elif remaining <= window / 2:
        target, factor = (3, 1.0) if remaining > max(RED_BLOCKS, window // 8) else (1, 1.25)
    found = market.estimate(target)
    return None if found is None else found * factor


def bid(
    *,
    remaining: int,
    window: int,
    value: int,
    estimate: float | None,
    last: float | None,
    relay_floor: float,
    vsize: int,
    dust: int,
    step: float = MINIMUM_STEP,
    spendable: float = 1.0,
) -> float:
    """Feerate of the penalty for a confirmed breach.

    `remaining` blocks until the deadline (may be negative), `window` = T, `value` of the contest output in sat,
    `last` the highest feerate bid so far for this output (None = none), `spendable` the owner's cap as a share
    of the value. Returns `last` unchanged when no valid step is worth making. Never falls below `last`.
    """
    cap = max(0.0, (value * spendable - dust) / vsize)
    lowest, ceiling = _shares(remaining, window)
    wanted = min(cap, max(relay_floor, min(cap * ceiling, max(cap * lowest, estimate or 0.0))))
    if last is None:
        return wanted
    if last < relay_floor:
        return max(last, min(cap, max(wanted, last + step)))
    needed = step if remaining <= CRITICAL_BLOCKS else max(step, last * 0.10)
    # Smaller steps only waste replacements, also the last one up to the cap.
    return wanted if wanted >= last + needed else last


class Limits(msgspec.Struct, frozen=True):
    """Fees in sat between which a new penalty has to stay: what the phase asks for at least, and allows at most."""

    lowest: int
    highest: int


def bid_limits(
    *,
    remaining: int,
    window: int,
    value: int,
    last: float | None,
    relay_floor: float,
    vsize: int,
    dust: int,
    step: float = MINIMUM_STEP,
    spendable: float = 1.0,
) -> Limits:
    """The bounds of `bid`, as fees: nothing above them is ever signed, and a ladder stays between them if it can.

    The relay floor wins over the ceiling, and so does the step that replaces a bid which does not relay any more.
    """
    cap = max(0.0, (value * spendable - dust) / vsize)
    lowest, ceiling = _shares(remaining, window)
    replaced = last + step if last is not None and last < relay_floor else 0.0
    highest = min(cap, max(cap * ceiling, relay_floor, replaced))
    return Limits(fee_for(min(highest, cap * lowest), vsize, value, dust), fee_for(highest, vsize, value, dust))


def _shares(remaining: int, window: int) -> tuple[float, float]:
    """Floor and ceiling as shares of the cap: green, amber and red, critical (protocol 7.5)."""
    if remaining <= CRITICAL_BLOCKS:
        return min(1.0, 0.5 + (CRITICAL_BLOCKS - remaining) / 8), 1.0
    elapsed = max(0.0, 1 - remaining / window)
    floor_share = 0.5 * elapsed**4
    if remaining > window / 2:
        return floor_share, 0.02 + 0.16 * elapsed
    return floor_share, 0.50 if remaining > max(RED_BLOCKS, window // 8) else 0.75


def fee_for(feerate: float, vsize: int, value: int, dust: int) -> int:
    """Integer fee of a feerate: rounded up, and never so high that the output becomes dust."""
    return min(value - dust, ceil(feerate * vsize - 1e-9))


def mempool_fee(
    *,
    vsize: int,
    commitment_vsize: int,
    commitment_fee: int,
    package_estimate: float | None,
    rival_fee: int | None,
    rival_feerate: float | None,
    relay_floor: float,
    last_fee: int | None,
    step: float = MINIMUM_STEP,
    least: int = 0,
) -> int:
    """Fee in sat of a penalty for an unconfirmed breach (protocol 7.5, row *mempool*).

    It must pay for the pair of commitment and penalty (at least what relays both as a package), beat the
    cheater's child in fee and in feerate (nodes before Core 31 ask for both), and replace our own earlier bid if
    one stands. `least` is what a refusal for an invisible rival asks for (sat).
    """
    package_feerate = max(relay_floor, package_estimate or 0.0)
    wanted = max(least, ceil(relay_floor * vsize), ceil(package_feerate * (commitment_vsize + vsize)) - commitment_fee)
    if rival_fee is not None:
        wanted = max(wanted, rival_fee + ceil(step * vsize) + 1)
    if rival_feerate is not None:
        wanted = max(wanted, floor(rival_feerate * vsize) + 1)
    if last_fee is None or wanted <= last_fee:
        return last_fee if last_fee is not None else wanted
    return max(wanted, last_fee + ceil(step * vsize))


def doubled_step(last_fee: int, vsize: int, step: float, refusals: int) -> int:
    """Fee in sat of the bid after one that was refused as too low although nobody was seen to bid more.

    A tenth or the increment more, and twice as much for each further refusal in a row; `refusals` is 1 for the first.
    """
    return last_fee + (ceil(max(step * vsize, last_fee * 0.10)) << (max(1, refusals) - 1))


def mempool_budget(value: int, spendable: float = 1.0) -> int:
    """The most that an answer to an unconfirmed breach may cost, in sat; never more than the owner's share."""
    return int(value * min(MEMPOOL_SHARE, spendable))
