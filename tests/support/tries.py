"""Limits of wall time on a machine that is shared, and that may stand still at any moment.

A program that is too slow is so at every try; a machine that was held up is not. So what must be fast is tried until it
was, a few times at most, and a limit that is really kept makes one try.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

TRIES = 5


def least(measure: Callable[[], float], limit: float, tries: int = TRIES) -> float:
    """What the first try below `limit` has measured, else the best one."""
    found: list[float] = []
    while len(found) < tries and not any(each < limit for each in found):
        found.append(measure())
    return min(found)


async def least_of(measure: Callable[[], Awaitable[float]], limit: float, tries: int = TRIES) -> float:
    """The same for a measure that is waited for."""
    found: list[float] = []
    while len(found) < tries and not any(each < limit for each in found):
        found.append(await measure())
    return min(found)
