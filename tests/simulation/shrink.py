"""From a schedule that fails to the few steps of it that are enough.

Steps are left out in ever smaller runs as long as the same oracle is broken; every step keeps its own random source.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.simulation.schedule import Failed, play, steps_of
from tests.simulation.world import Parts

TRIES = 250
"""Schedules played at most; a few seconds."""


def shrink(seed: int, *, parts: Parts | None = None, tries: int = TRIES) -> tuple[tuple[int, ...], Failed]:
    """The fewest steps found with which the seed still breaks the oracle, and that failure.

    Raises `ValueError` if the whole schedule does not fail.
    """
    first = _failure(seed, tuple(range(steps_of(seed))), parts)
    if first is None:
        raise ValueError(f"the schedule of seed {seed} does not fail")
    steps = tuple(range(first.step + 1)) if first.step >= 0 else tuple(range(steps_of(seed)))
    best = _failure(seed, steps, parts) or first
    if best is first:
        steps = tuple(range(steps_of(seed)))
    size = max(1, len(steps) // 2)
    while tries > 0:
        shorter, failure, used = _without_a_run(seed, steps, size, best.violation.oracle, parts, tries)
        tries -= used
        if failure is not None:
            steps, best = shorter, failure
        elif size == 1:
            break
        else:
            size //= 2
    return steps, best


def _without_a_run(
    seed: int, steps: Sequence[int], size: int, oracle: str, parts: Parts | None, tries: int
) -> tuple[tuple[int, ...], Failed | None, int]:
    used = 0
    for start in range(len(steps) - size, -1, -size):
        if used >= tries:
            break
        shorter = (*steps[:start], *steps[start + size :])
        failure = _failure(seed, shorter, parts)
        used += 1
        if failure is not None and failure.violation.oracle == oracle:
            return shorter, failure, used
    return tuple(steps), None, max(used, 1)


def _failure(seed: int, steps: Sequence[int], parts: Parts | None) -> Failed | None:
    try:
        play(seed, steps=steps, parts=parts)
    except Failed as failed:
        return failed
    return None
