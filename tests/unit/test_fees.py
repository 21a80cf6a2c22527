"""The bid: fixed values along its curve, and its properties (docs/adr/0008)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.fees import bid, fee_for, mempool_budget, mempool_fee

VALUE, VSIZE, DUST, WINDOW = 999_428, 111, 330, 144
CAP = (VALUE - DUST) / VSIZE


@pytest.mark.parametrize(
    ("remaining", "estimate", "last", "relay_floor", "feerate", "fee"),
    [
        (143, None, None, 1.1, 1.10, 123),
        (143, 12, None, 1.1, 12.00, 1_332),
        (143, 9999, None, 1.1, 190.02, 21_093),
        (72, 30, 12, 1.1, 281.28, 31_222),
        (18, None, None, 1.1, 2638.08, 292_827),
        (18, 100_000, None, 1.1, 6750.66, 749_324),
        (0, None, None, 1.1, 9000.88, 999_098),
        (7, None, None, 1.1, 3687.12, 409_271),
        (6, None, 3700, 1.1, 4500.44, 499_549),
        (5, 20, 4500.44, 1.1, 5625.55, 624_437),
        (2, None, 7000, 1.1, 9000.88, 999_098),
        (140, 5, 600, 1.1, 600.00, 66_600),
        (143, 5, None, 400, 400.00, 44_400),
        (140, None, 1.1, 1.65, 2.10, 234),
    ],
)
def test_bid_gives_the_published_figures(
    remaining: int, estimate: float | None, last: float | None, relay_floor: float, feerate: float, fee: int
) -> None:
    """Every row of the published table, feerate and integer fee."""
    found = bid(
        remaining=remaining,
        window=WINDOW,
        value=VALUE,
        estimate=estimate,
        last=last,
        relay_floor=relay_floor,
        vsize=VSIZE,
        dust=DUST,
    )
    assert feerate == pytest.approx(found, abs=0.005)
    assert fee == fee_for(found, VSIZE, VALUE, DUST)


@given(
    remaining=st.integers(-50, 2000),
    window=st.integers(2, 2016),
    value=st.integers(1_000, 10_000_000_000),
    estimate=st.none() | st.floats(0, 1e7),
    last_share=st.none() | st.floats(0, 1),
    relay_floor=st.floats(1, 500),
)
def test_bid_never_falls_and_stays_between_floor_and_cap(
    remaining: int, window: int, value: int, estimate: float | None, last_share: float | None, relay_floor: float
) -> None:
    """A bid is never below the last one, never above the value minus dust, never below what relays."""
    remaining = min(remaining, window - 1)
    cap = (value - DUST) / VSIZE
    last = None if last_share is None else cap * last_share
    found = bid(
        remaining=remaining,
        window=window,
        value=value,
        estimate=estimate,
        last=last,
        relay_floor=relay_floor,
        vsize=VSIZE,
        dust=DUST,
    )
    assert min(relay_floor, cap) - 1e-9 <= found <= cap + 1e-9
    assert found >= (last or 0) - 1e-9
    assert found == last or found >= (last or 0) + 1 - 1e-9 or found == pytest.approx(cap)


@given(window=st.integers(8, 2016), value=st.integers(50_000, 10_000_000_000), remaining=st.integers(-20, 2))
def test_bid_spends_everything_in_the_last_two_blocks(window: int, value: int, remaining: int) -> None:
    """At two blocks left the bid is the whole value, with or without an estimate."""
    cap = (value - DUST) / VSIZE
    found = bid(
        remaining=remaining,
        window=window,
        value=value,
        estimate=None,
        last=None,
        relay_floor=1.1,
        vsize=VSIZE,
        dust=DUST,
    )
    assert found >= cap - 1


def test_mempool_fee_beats_a_rival_child_in_fee_and_feerate() -> None:
    """The cheater's 2,000-sat child of 111 vB is outbid by one increment, also for nodes before Core 31."""
    found = mempool_fee(
        vsize=111,
        commitment_vsize=166,
        commitment_fee=332,
        package_estimate=None,
        rival_fee=2_000,
        rival_feerate=2_000 / 111,
        relay_floor=1.1,
        last_fee=None,
    )
    assert 2_112 == found


def test_mempool_fee_keeps_the_last_bid_when_nothing_asks_for_more() -> None:
    """Without a higher rival the same bytes go out again."""
    found = mempool_fee(
        vsize=111,
        commitment_vsize=166,
        commitment_fee=332,
        package_estimate=None,
        rival_fee=None,
        rival_feerate=None,
        relay_floor=1.1,
        last_fee=5_000,
    )
    assert 5_000 == found


def test_mempool_budget_is_a_tenth_of_the_value() -> None:
    """More than a tenth is not bid before the breach confirms."""
    assert 99_942 == mempool_budget(VALUE)
