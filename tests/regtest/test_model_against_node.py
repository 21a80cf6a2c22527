"""The simulation's model chain says what the real node says, schedule by schedule."""

from __future__ import annotations

import os

from tests.regtest.duel import COINS, Duel
from tests.support.anybody import coins_of_anybody
from watchtower.devnode.regtest import RegtestNode

SEEDS = int(os.environ.get("SEEDS", "20"))
FIRST = int(os.environ.get("FIRST_SEED", "0"))
STEPS = 30


def test_model_agrees_with_the_node(node: RegtestNode) -> None:
    """Answers to broadcasts and packages, mempool, blocks and spenders are equal after every step."""
    compared, coins = 0, coins_of_anybody(node, SEEDS * COINS)
    for seed in range(FIRST, FIRST + SEEDS):
        duel = Duel(node, seed, coins)
        duel.play(STEPS)
        compared += duel.compared
    assert compared > 100 * SEEDS
