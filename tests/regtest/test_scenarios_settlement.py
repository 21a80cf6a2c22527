"""Honest closes on a real node."""

from __future__ import annotations

from domain.units import Side
from tests.regtest.world import World


def test_scenario_C03_settle_too_early(world: World) -> None:
    """An honest close is settled in exactly the block h_c + T."""
    pair = world.open(updates=3, challenge_period=10)
    world.node.generate_block([pair.commitment(Side.A, 3)])
    closed_at = world.node.height()
    world.look()
    for _ in range(10):
        world.node.mine(1)
        world.look()
    settled = world.node.spender(world.contest(pair, 3))
    assert settled is not None
    assert world.height_of(settled) == closed_at + 10
    assert world.status(pair) == "SETTLED"
