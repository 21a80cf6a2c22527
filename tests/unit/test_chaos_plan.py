"""Random schedules: a seed means the same every time, and fairness counts blocks as the promise does."""

from __future__ import annotations

from tests.chaos.ledger import NEVER, Breach, Spent, least_remaining
from tests.chaos.plan import draw
from tests.chaos.run import command
from tests.support.parties import Pair, open_pair


def breach(pair: Pair, height: int, answered: int | None = None) -> Breach:
    """A stale commitment at a height with T = 24."""
    answer = None if answered is None else Spent(b"\x02" * 32, answered)
    return Breach(pair, 0, b"\x01" * 32, height, height + 23, answer)


def test_a_seed_draws_the_same_schedule_again() -> None:
    """Steps, faults and the numbers of each step; leaving steps out changes nothing about the others."""
    plan = draw(17)
    small = plan.only({2, 5})

    assert plan == draw(17)
    assert [plan.steps[2], plan.steps[5]] == list(small.steps)
    assert plan.numbers(plan.steps[5]).random() == small.numbers(small.steps[1]).random()
    assert "python -m tests.chaos.run --seed 17 --steps 2,5" == command(small)


def test_every_tenth_schedule_runs_the_service() -> None:
    """And only those lose notifications, only the others move inside a pass."""
    plans = [draw(seed) for seed in range(200)]
    acts = {
        service: {a for p in plans if p.service is service for s in p.steps for a in s.acts}
        for service in (False, True)
    }

    assert list(range(9, 200, 10)) == [plan.seed for plan in plans if plan.service]
    assert ("bells_broken" in acts[True], "bells_broken" in acts[False]) == (True, False)
    assert ("chain_moves_in_pass" in acts[False], "chain_moves_in_pass" in acts[True]) == (True, False)


def test_what_is_at_risk_now() -> None:
    """Blocks until the deadline of the most urgent breach without an answer in a block."""
    pair = open_pair()

    assert NEVER == least_remaining([], 130)
    assert 13 == least_remaining([breach(pair, 120), breach(pair, 125)], 130)
    assert 18 == least_remaining([breach(pair, 120, answered=121), breach(pair, 125)], 130)


def test_what_a_reorg_would_put_at_risk() -> None:
    """Above the fork penalties are open again; a breach there is the thief's to place anew."""
    pair = open_pair()
    breaches = [breach(pair, 120, answered=128), breach(pair, 127)]

    assert 12 == least_remaining(breaches, 131, fork=126)
    assert NEVER == least_remaining(breaches, 131, fork=119)
