"""When a deadline is near enough to wake somebody: at a number of blocks left, and at each half again, down to none."""

from __future__ import annotations

from watchtower.notify.breaches import Tracked

PART = 4
"""Without a setting the first warning comes when a quarter of the challenge period is left."""


def first_warning(one: Tracked, chosen: int) -> int:
    """Blocks left at which the first warning is due; `chosen` is the setting, 0 for a part of the period."""
    return chosen or max(one.period // PART, 1)


def due_warning(one: Tracked, tip: int, chosen: int) -> int | None:
    """The step that is reached and was not told yet, in blocks left; None if there is nothing to tell.

    Steps that were passed over at once (a catch-up) count as one.
    """
    if one.deadline is None or one.ended_by is not None:
        return None
    left, step = one.deadline - tip, first_warning(one, chosen)
    if left > step:
        return None
    while step > 0 and left <= step // 2:
        step //= 2
    return step if one.warned is None or step < one.warned else None
