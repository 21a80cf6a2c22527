"""The comparison of fee policies on few cases of each column: its numbers may move, its verdict may not."""

from __future__ import annotations

import pytest

from tests.bench.fee_policies import COLUMNS, POLICIES, Column, compare, ours, page, score, traces

CASES = 40


@pytest.mark.parametrize("column", COLUMNS, ids=[column.title for column in COLUMNS])
def test_bid_misses_no_deadline(column: Column) -> None:
    """Where some block would have taken the whole value, `bid` is in one, for a part of it."""
    found = score(lambda: ours, column, traces(column, CASES))

    assert (CASES, 0) == (found.cases, found.missed)
    assert 0 < found.share < 0.2


def test_the_same_seed_makes_the_same_market() -> None:
    """A change of the bid is judged by numbers that only it has moved."""
    assert traces(COLUMNS[1], 3) == traces(COLUMNS[1], 3)


def test_the_page_has_a_row_for_each_policy() -> None:
    """With a cell for each column."""
    rows = [line for line in page(compare(2), 2).splitlines() if line.startswith("|")]

    assert len(POLICIES) + 2 == len(rows)
    assert {len(COLUMNS) + 2} == {line.count("|") for line in rows}
