"""Random stories on a real node: whatever chain, node and process did, the tower ends where the chain ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.regtest.replaying import live_and_replayed
from tests.regtest.stories import PowerCuts, Story, due_status, spend_on_chain
from tests.regtest.world import World
from watchtower.devnode.regtest import RegtestNode


@pytest.mark.parametrize("seed", range(6))
def test_every_story_ends_with_the_due_outcome(node: RegtestNode, tmp_path: Path, seed: int) -> None:
    """Stale commitments are punished, honest closes settled, the log names what the chain holds, views equal it."""
    cuts = PowerCuts()
    world = World(node, tmp_path / "tower", failpoint=cuts)
    story = Story(world, cuts, seed)

    story.play(12)
    story.calm_down()

    assert node.tip() == world.tower.follower.cursor.hash
    for pair in story.pairs:
        spender = spend_on_chain(world, pair)
        known = world.channel(pair).confirmed_spend
        assert spender == (known and known.txid), story.told
        assert world.status(pair) in due_status(pair, spender), story.told
    live, replayed = live_and_replayed(world)
    assert replayed == live
    world.close()
