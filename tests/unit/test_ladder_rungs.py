"""Which rung of a ladder is sent: the lowest that pays the bid, within what the block allows, safe ones first."""

from __future__ import annotations

import pytest

from domain.ladder import Rung, rung_for

OTHERS_MAY_ADD = 0x81


def ladder(*fees: int, last: int = 0x00) -> list[Rung]:
    """Rungs that sign everything, but for the last one."""
    return [Rung(fee, bytes(64)) for fee in fees[:-1]] + [Rung(fees[-1], bytes(64), last)]


@pytest.mark.parametrize(
    ("fee", "lowest", "highest", "place"),
    [
        (100, 0, 1_000, 0),
        (101, 0, 1_000, 1),
        (400, 0, 399, 1),
        (400, 200, 399, 1),
        (400, 201, 399, 2),
        (9_999, 0, 99_999, 2),
        (50, 0, 10, 0),
    ],
)
def test_a_rung_above_the_ceiling_waits_unless_the_floor_asks_for_it(
    fee: int, lowest: int, highest: int, place: int
) -> None:
    """Never below the floor while there is a higher rung, and never nothing."""
    assert place == rung_for(ladder(100, 200, 400), fee, lowest, highest)


@pytest.mark.parametrize(("fee", "place"), [(150, 1), (200, 1), (201, 2), (500, 2)])
def test_attack_A31_the_rung_that_others_can_add_to_comes_last(fee: int, place: int) -> None:
    """Only a bid that no other rung pays takes it."""
    assert place == rung_for(ladder(100, 200, 400, last=OTHERS_MAY_ADD), fee, 0, 9_999)


def test_attack_A31_a_dearer_rung_that_stands_alone_is_preferred() -> None:
    """A rung that others can add to is passed over although it is the cheaper one."""
    rungs = [Rung(100, bytes(64), OTHERS_MAY_ADD), Rung(300, bytes(64))]

    assert 1 == rung_for(rungs, 50, 0, 9_999)
