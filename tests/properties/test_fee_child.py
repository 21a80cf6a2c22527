"""Whatever market, rivals and heights do: a fee child's bid never falls, keeps to its cap, replaces the last."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.fee_child import NO_CHILD, TARGETS, Bid, Child, Parent, Standing, Urgency, child_bid, raised
from domain.fees import Market

RATES = st.floats(0.1, 2_000, allow_nan=False)
MARKETS = st.builds(
    lambda minimum, estimates: Market(minimum, 1.0, 1.0, tuple(zip(TARGETS, estimates, strict=False))),
    st.floats(1, 50),
    st.lists(RATES, max_size=len(TARGETS)),
)
PARENTS = st.builds(Parent, st.integers(1, 5_000), st.integers(110, 2_000))
SIZES = st.integers(110, 400)
CAPS = st.integers(0, 500_000)
RIVALS = st.none() | st.builds(Child, st.integers(1, 200_000), st.integers(65, 1_000), st.just(False))
URGENCIES = st.builds(Urgency, st.integers(0, 60), st.none() | st.integers(0, 60), st.booleans())


def standing_with(parent: Parent, child: Child | None) -> Standing:
    """The parent in the mempool, with a child or without."""
    extra = (0, 0) if child is None else (child.fee, child.vsize)
    return Standing(parent.fee + extra[0], parent.vsize + extra[1], child)


@given(
    parent=PARENTS, size=SIZES, market=MARKETS, urgency=URGENCIES, cap=CAPS, rival=RIVALS, least=st.integers(0, 9_999)
)
def test_a_bid_keeps_to_its_cap_and_replaces_what_is_there(
    parent: Parent, size: int, market: Market, urgency: Urgency, cap: int, rival: Child | None, least: int
) -> None:
    """With a rival's child: more in fee, by the step, and in feerate. Alone: the pair is what mempools ask for."""
    beside = child_bid(
        parent=parent, child_vsize=size, standing=standing_with(parent, rival), last=None, market=market,
        urgency=urgency, cap=cap, least=least,
    )  # fmt: skip
    alone = child_bid(
        parent=parent, child_vsize=size, standing=None, last=None, market=market, urgency=urgency, cap=cap, least=least
    )

    assert all(bid.fee is None or least <= bid.fee <= cap for bid in (beside, alone))
    assert beside.fee is None or rival is None or beside.fee >= rival.fee + ceil(market.step * size)
    assert beside.fee is None or rival is None or beside.fee * rival.vsize > rival.fee * size
    needed = max(market.minimum, market.relay) * (parent.vsize + size)
    assert alone.fee is None or parent.fee + alone.fee >= needed - 1e-3


@given(
    parent=PARENTS,
    size=SIZES,
    cap=CAPS,
    confirm_by=st.none() | st.integers(0, 40),
    story=st.lists(st.tuples(MARKETS, st.sampled_from(["stands", "evicted", "lost"])), min_size=1, max_size=20),
)
def test_a_bid_never_falls(
    parent: Parent, size: int, cap: int, confirm_by: int | None, story: Sequence[tuple[Market, str]]
) -> None:
    """Block after block, whatever became of the child before: the fee rises by a step that replaces it, or stays."""
    bids: list[int] = []
    for height, (market, fate) in enumerate(story):
        last = bids[-1] if bids else None
        own = Child(last, size, is_own=True) if last is not None and fate == "stands" else None
        standing = None if fate == "lost" else standing_with(parent, own)
        urgency = Urgency(height, confirm_by, is_late=height > 0)
        bid = child_bid(
            parent=parent, child_vsize=size, standing=standing, last=last, market=market, urgency=urgency, cap=cap
        )
        assert bid.fee is None or own is None or bid.fee >= raised(own.fee, size, market)
        bids += [] if bid.fee is None else [bid.fee]

    assert bids == sorted(bids)
    assert all(fee <= cap for fee in bids)


@given(parent=PARENTS, size=SIZES, market=MARKETS, urgency=URGENCIES, cap=CAPS)
def test_what_is_enough_gets_no_child(parent: Parent, size: int, market: Market, urgency: Urgency, cap: int) -> None:
    """A parent that pays more than any estimate and any share of the cap is left alone, in the mempool or before it."""
    most = max([market.minimum, market.relay, *(rate for _, rate in market.estimates)])
    rich = replace(parent, fee=ceil(most * parent.vsize) + cap * parent.vsize + 1)

    found = [
        child_bid(parent=rich, child_vsize=size, standing=standing, last=None, market=market, urgency=urgency, cap=cap)
        for standing in (None, standing_with(rich, None))
    ]

    assert [NO_CHILD] * 2 == found


@given(parent=PARENTS, size=SIZES, cap=CAPS, left=st.integers(0, 12))
def test_the_last_blocks_ask_for_the_cap_without_any_estimate(parent: Parent, size: int, cap: int, left: int) -> None:
    """At the deadline the whole cap is bid; every block before it asks for no more than the next one."""
    empty = Market(0.0, 0.0, 1.0)

    def at(remaining: int) -> Bid:
        urgency = Urgency(100 - remaining, 100, is_late=True)
        return child_bid(
            parent=parent, child_vsize=size, standing=None, last=None, market=empty, urgency=urgency, cap=cap
        )

    enough = parent.fee * size >= cap * parent.vsize or cap < size
    assert enough or at(0).fee == cap
    assert (at(left).fee or 0) >= (at(left + 1).fee or 0)
