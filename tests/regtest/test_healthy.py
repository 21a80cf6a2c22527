"""The oracle itself: it passes a healthy tower and notices each kind of harm."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from domain.units import Side
from tests.regtest.world import World
from tests.support.healthy import Watched, assert_tower_healthy
from tests.support.parties import Pair


@pytest.fixture
def punished(world: World) -> Pair:
    """A breach that was answered in the next block."""
    pair = world.open(updates=3)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    world.node.mine(1)
    world.look()
    return pair


def test_a_healthy_tower_passes(world: World, punished: Pair) -> None:
    """Running or stopped, a tower that did its work has nothing to fear."""
    assert_tower_healthy(world.node, world.directory, [Watched(punished)])
    world.stop()
    assert_tower_healthy(world.node, world.directory, [Watched(punished)], said=["a harmless line"])
    world.wake()


def test_a_lost_state_is_noticed(world: World, punished: Pair) -> None:
    """A state that was acknowledged and is not in the log."""
    number = punished.update()

    with pytest.raises(AssertionError, match=f"acknowledged state {number} is not in the log"):
        assert_tower_healthy(world.node, world.directory, [Watched(punished)])


def test_a_cursor_behind_the_node_is_noticed(world: World, punished: Pair) -> None:
    """A block that nobody followed."""
    world.node.mine(1)

    with pytest.raises(AssertionError):
        assert_tower_healthy(world.node, world.directory, [Watched(punished)])


def test_an_unanswered_breach_is_noticed(world: World) -> None:
    """A breach on the chain whose contest output nobody took."""
    pair = world.open(updates=3)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()

    with pytest.raises(AssertionError, match="was not answered"):
        assert_tower_healthy(world.node, world.directory, [Watched(pair)])


def test_changed_views_are_noticed(world: World, punished: Pair) -> None:
    """A read model that differs from the log."""
    views = sqlite3.connect(world.directory / "views.db", isolation_level=None)
    views.execute("UPDATE channel_info SET balance_a = balance_a + 1")
    views.close()

    with pytest.raises(AssertionError):
        assert_tower_healthy(world.node, world.directory, [Watched(punished)])


def test_a_secret_in_a_log_line_is_noticed(world: World, punished: Pair) -> None:
    """The revocation secret of the owner, written by whatever mistake."""
    secret = bytes(punished.registration(Side.B).revocation_secret).hex()

    with pytest.raises(AssertionError, match="said aloud"):
        assert_tower_healthy(world.node, world.directory, [Watched(punished)], said=[f"oops {secret}"])


def test_a_changed_event_is_noticed(world: World, punished: Pair, tmp_path: Path) -> None:
    """One flipped byte of one row, behind the back of SQLite."""
    world.stop()
    path = world.directory / "events.db"
    image = bytearray(path.read_bytes())
    state = bytes(punished.state(2).content.header)
    image[image.index(state) + 60] ^= 1
    path.write_bytes(image)

    with pytest.raises(AssertionError):
        assert_tower_healthy(world.node, world.directory, [Watched(punished)])
    image[image.index(state[:60]) + 60] ^= 1
    path.write_bytes(image)
    world.wake()
