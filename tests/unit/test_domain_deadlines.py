"""Deadlines and depths, in blocks."""

from __future__ import annotations

import pytest

from domain.deadlines import deadline, depth, is_final, is_soft_final, remaining, settle_valid_from


@pytest.mark.parametrize(
    ("height", "period", "last", "first"), [(200, 144, 343, 344), (200, 1, 200, 201), (1, 65_535, 65_535, 65_536)]
)
def test_the_last_penalty_block_is_followed_by_the_first_settlement_block(
    height: int, period: int, last: int, first: int
) -> None:
    """D = h_c + T - 1 and the settlement from h_c + T: no block lies between, none is shared."""
    assert (last, first) == (deadline(height, period), settle_valid_from(height, period))


@pytest.mark.parametrize(("tip", "left"), [(200, 143), (342, 1), (343, 0), (344, -1), (1_000, -657)])
def test_remaining_counts_blocks_without_a_race(tip: int, left: int) -> None:
    """Zero at the deadline itself, negative after it."""
    assert left == remaining(deadline(200, 144), tip)


@pytest.mark.parametrize(
    ("tip", "confirmations", "soft", "final"),
    [
        (200, 1, False, False),
        (204, 5, False, False),
        (205, 6, True, False),
        (298, 99, True, False),
        (299, 100, True, True),
    ],
)
def test_depth_counts_the_block_itself(tip: int, confirmations: int, soft: bool, final: bool) -> None:
    """Soft-final at 6, final at 100 confirmations."""
    assert (confirmations, soft, final) == (depth(200, tip), is_soft_final(200, tip), is_final(200, tip))
