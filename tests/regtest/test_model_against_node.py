"""The simulation's model chain says what the real node says, schedule by schedule.

`SEEDS=300 pytest tests/regtest/test_model_against_node.py` plays more of them, `FIRST_SEED` begins elsewhere.
"""

from __future__ import annotations

import os

from tests.regtest.duel import COINS, Duel
from tests.simulation.policy import CORE, KNOTS, Policy
from tests.support.anybody import coins_of_anybody
from watchtower.devnode.regtest import RegtestNode

SEEDS = int(os.environ.get("SEEDS", "20"))
FIRST = int(os.environ.get("FIRST_SEED", "0"))
STEPS = 30
LEAST_COMPARED = 100
"""Equal answers and observations of a schedule; it has about 270."""

CHUNK = 100
"""Schedules whose coins one funding transaction makes."""


def compare(node: RegtestNode, policy: Policy, seeds: range) -> int:
    """Play the seeds; the number of equal answers and observations. Raises `Disagreement`."""
    compared = 0
    for seed in seeds:
        if (seed - seeds.start) % CHUNK == 0:
            coins = coins_of_anybody(node, COINS * min(CHUNK, seeds.stop - seed))
        duel = Duel(node, seed, coins, policy)
        duel.play(STEPS)
        compared += duel.compared
    return compared


def test_model_agrees_with_the_node(node: RegtestNode) -> None:
    """Answers to broadcasts and packages, mempool, blocks and spenders are equal after every step."""
    assert compare(node, CORE, range(FIRST, FIRST + SEEDS)) >= LEAST_COMPARED * SEEDS


def test_model_agrees_with_knots_own_policy(knots_default_node: RegtestNode) -> None:
    """The same without version-3 rules, with a quarter of the schedules."""
    count = max(1, SEEDS // 4)
    assert compare(knots_default_node, KNOTS, range(FIRST, FIRST + count)) >= LEAST_COMPARED * count
