"""Random stories on a real node: whatever chain, node and process did, the tower ends where the chain ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.regtest.replaying import live_and_replayed
from tests.regtest.stories import PowerCuts, Story, due_status, places_in_log, places_on_chain
from tests.regtest.world import World
from watchtower.devnode.regtest import RegtestNode


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5, 41, 74])  # 4, 41 and 74 notice towers that forget
def test_every_story_ends_with_the_due_outcome(node: RegtestNode, tmp_path: Path, seed: int) -> None:
    """Stale commitments are punished, honest closes settled, the log names what the chain holds, views equal it."""
    cuts = PowerCuts()
    world = World(node, tmp_path / "tower", failpoint=cuts)
    story = Story(world, cuts, seed)

    story.play(14)
    story.calm_down()

    assert node.tip() == world.tower.follower.cursor.hash
    for pair in story.pairs:
        assert places_on_chain(world, pair) == places_in_log(world, pair), story.told
        assert due_status(world, pair) == world.status(pair), story.told
    live, replayed = live_and_replayed(world)
    assert replayed == live
    world.close()
