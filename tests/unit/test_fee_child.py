"""Until when a close is needed, what it may cost, and the steps of a bid, by example."""

from __future__ import annotations

import pytest

from domain.fee_child import (
    NO_CHILD,
    Bid,
    Child,
    Parent,
    Standing,
    Urgency,
    child_bid,
    confirm_by,
    most,
    pressing,
    raised,
    settled_by,
)
from domain.fees import Market
from domain.units import Side
from tests.support.parties import htlc

PARENT = Parent(332, 166)
SIZE = 152
CALM = Market(1.0, 1.0, 1.0)
PATIENT = Urgency(100, None, is_late=True)
IN, OUT = htlc(Side.A, 1, 50_000, 1_000), htlc(Side.B, 2, 70_000, 900)


def bid(
    market: Market = CALM,
    *,
    standing: Standing | None = None,
    last: int | None = None,
    urgency: Urgency = PATIENT,
    cap: int = 100_000,
    least: int = 0,
) -> Bid:
    """For a commitment at 2 sat/vB."""
    return child_bid(
        parent=PARENT,
        child_vsize=SIZE,
        standing=standing,
        last=last,
        market=market,
        urgency=urgency,
        cap=cap,
        least=least,
    )


def test_a_calm_market_needs_no_child() -> None:
    """As on a fresh chain: no estimate, a minimum of 1 sat/vB, and a parent that pays 2."""
    assert [NO_CHILD] * 2 == [bid(), bid(standing=Standing(332, 166))]


def test_the_pair_pays_the_estimate() -> None:
    """20 sat/vB for 318 vB, less what the parent pays itself."""
    assert Bid(20 * 318 - 332) == bid(Market(1.0, 1.0, 1.0, ((144, 20.0),)))


def test_a_longer_target_is_no_cheaper_than_its_estimate() -> None:
    """Where the node lacks the estimate that is asked for, the highest one for a longer time counts."""
    urgency = Urgency(100, 112, is_late=False)

    assert Bid(30 * 318 - 332) == bid(Market(1.0, 1.0, 1.0, ((2, 99.0), (24, 30.0), (144, 3.0))), urgency=urgency)


def test_a_full_mempool_is_entered_with_room() -> None:
    """A tenth above the minimum, for it may rise a little until the next look."""
    assert Bid(11 * 318 - 332) == bid(Market(10.0, 1.0, 1.0))


def test_small_steps_are_not_worth_a_replacement() -> None:
    """A tenth more, or the increment of the node: less is left as it is."""
    standing = Standing(332 + 6_028, 318, Child(6_028, SIZE, is_own=True))

    assert NO_CHILD == bid(Market(1.0, 1.0, 1.0, ((144, 21.0),)), standing=standing, last=6_028)
    assert 6_028 + 603 == raised(6_028, SIZE, CALM)
    assert Bid(22 * 318 - 332) == bid(Market(1.0, 1.0, 1.0, ((144, 22.0),)), standing=standing, last=6_028)


def test_a_lost_child_is_bid_again_although_the_market_fell() -> None:
    """What was bid once is bid again, neither more nor less."""
    dear = Market(1.0, 1.0, 1.0, ((144, 5.0),))

    assert [Bid(6_028)] * 2 == [bid(dear, last=6_028), bid(dear, standing=Standing(332, 166), last=6_028)]


def test_a_lowered_cap_keeps_what_was_bid() -> None:
    """More than the cap is never bid anew, and what was bid is not taken back."""
    dear = Market(1.0, 1.0, 1.0, ((144, 50.0),))

    assert Bid(6_028, is_capped=True) == bid(dear, last=6_028, cap=1_000)
    assert Bid(None, is_capped=True) == bid(dear, standing=Standing(332, 166, Child(2_000, 100, is_own=False)), cap=900)
    assert Bid(9_000, is_capped=True) == bid(dear, cap=9_000)


def test_a_small_dear_rival_is_beaten_in_feerate_too() -> None:
    """95 vB at 40 sat/vB: a step above its fee would be enough for new nodes, older ones want a higher rate."""
    rival = Standing(332 + 3_800, 166 + 95, Child(3_800, 95, is_own=False))

    assert Bid(40 * 152 + 1) == bid(Market(1.0, 1.0, 1.0, ((144, 17.0),)), standing=rival)


def test_a_refusal_is_answered_with_a_step() -> None:
    """The node said too low, though nobody was seen to pay more."""
    dear = Market(1.0, 1.0, 1.0, ((144, 20.0),))

    assert Bid(6_631) == bid(dear, last=6_028, least=raised(6_028, SIZE, CALM))


@pytest.mark.parametrize(
    ("left", "late", "target", "share"),
    [(None, True, 144, 0.0), (400, True, 144, 0.0), (50, True, 24, 0.0), (12, True, 6, 0.0), (6, True, 3, 0.0625),
     (6, False, 3, 0.0), (1, True, 2, (11 / 12) ** 4), (0, True, 2, 1.0), (-9, True, 2, 1.0), (-9, False, 2, 0.0)],
)  # fmt: skip
def test_urgency(left: int | None, late: bool, target: int, share: float) -> None:
    """Half of what is left as the target; the cap comes nearer only once a block has passed the parent over."""
    urgency = Urgency(100, None if left is None else 100 + left, is_late=late)

    assert (target, pytest.approx(share)) == (urgency.target, urgency.share)


def test_deadlines_of_htlcs() -> None:
    """T = 144: incoming with its preimage 172 blocks before the expiry, outgoing 14 after it, or 156 before it."""
    assert (IN,) == pressing((IN,), Side.B, {IN.hash})
    assert () == pressing((IN, OUT), Side.B, {OUT.hash})
    assert 1_000 - 172 == confirm_by((IN,), Side.B, 144)
    assert 900 + 14 == confirm_by((OUT,), Side.B, 144)
    assert 900 - 156 == confirm_by((OUT,), Side.B, 144, preemptive=True)
    assert 1_000 - 172 == confirm_by((IN, OUT), Side.B, 144)
    assert (None, None) == (confirm_by((), Side.B, 144), settled_by(None, 144))
    assert 1_000 - 16 == settled_by(1_000 - 172, 144)


def test_what_a_child_may_cost() -> None:
    """A tenth of the own balance, half of the HTLCs at risk, and never more than the setting."""
    assert (50_000, 75_000, 60_000) == (most(500_000, 0, 10**6), most(500_000, 50_000, 10**6), most(10**6, 0, 60_000))
