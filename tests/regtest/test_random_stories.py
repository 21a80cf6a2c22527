"""Random stories on a real node: whatever chain, node and process did, the tower ends where the chain ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.events import ClaimDisconnected
from tests.regtest.claim_stories import ClaimStory, due, outputs_in_log, outputs_on_chain
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


@pytest.mark.parametrize("seed", [103, 106, 117, 135, 170, 217])  # a reorg undoes claims of both channels
def test_claims_are_taken_undone_and_taken_again(node: RegtestNode, tmp_path: Path, seed: int) -> None:
    """Whoever takes an HTLC in whatever branch: the log names the last one, and nothing that is due is left."""
    cuts = PowerCuts()
    world = World(node, tmp_path / "tower", failpoint=cuts)
    story = ClaimStory(world, cuts, seed)

    story.play(20)
    story.calm_down()

    undone = [event for pair in story.pairs for event in world.events(pair, ClaimDisconnected)]
    assert len(undone) > 1, story.told
    for pair, conditions in zip(story.pairs, story.conditions, strict=True):
        found = outputs_on_chain(world, pair, conditions)
        assert found == outputs_in_log(world, pair, conditions), story.told
        assert due(story, conditions) <= {number for number, taken in found.items() if taken}, story.told
        assert places_on_chain(world, pair) == places_in_log(world, pair), story.told
        assert due_status(world, pair) == world.status(pair) == "SETTLED", story.told
    live, replayed = live_and_replayed(world)
    assert replayed == live
    world.close()
