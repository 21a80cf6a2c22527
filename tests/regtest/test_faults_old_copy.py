"""P8: the tower's files are an older copy. What it forgot comes back from its owner's party, at a real node."""

from __future__ import annotations

import shutil

import pytest

from domain.events import SpendConfirmed, SpendKind, StoreRestored
from domain.units import Side
from tests.regtest.disputes import ask
from tests.regtest.world import World
from tests.support.healthy import Watched, assert_tower_healthy
from tests.support.parties import Pair
from watchtower.client.errors import ChannelIsClosed
from watchtower.store.create import open_store
from watchtower.store.log_stream import append_to_log_stream

NEWEST = 5


def as_it_was_before(world: World, pair: Pair, sequence: int) -> None:
    """The owner uploads states up to this one, then the disk of the day before takes the place of the present one."""
    copy = world.directory.with_name("copy")
    world.stop()
    shutil.copytree(world.directory, copy)
    world.wake()
    pair.updates(sequence - pair.sequence)
    ask(world, pair, lambda client: client.synchronize(pair.channel_id))
    assert (sequence, sequence) == (world.channel(pair).sequence, pair.b.channel(pair.channel_id).final_sequence)
    world.stop()
    shutil.rmtree(world.directory)
    copy.rename(world.directory)
    with open_store(world.directory / "events.db") as store:
        event = StoreRestored(
            recorded_at=0,
            epoch=1,
            position=store.last_id(),
            head=bytes(32),
            high_water=store.last_id() + 1,
            source="the day before",
        )
        append_to_log_stream(store, event)
    world.wake()


@pytest.mark.parametrize("published", [1, 2, 4])
def test_fault_P8_the_party_brings_back_what_the_copy_lacks(world: World, published: int) -> None:
    """Four acknowledged states are gone; after one synchronization each revoked one is punished again."""
    pair = world.open(updates=1)
    as_it_was_before(world, pair, NEWEST)
    forgotten = world.channel(pair).sequence

    ask(world, pair, lambda client: client.synchronize(pair.channel_id))
    world.node.generate_block([pair.commitment(Side.A, published)])
    world.look()
    world.node.mine(1)
    world.look()

    assert (1, NEWEST) == (forgotten, world.channel(pair).sequence)
    assert "PUNISHED" == world.status(pair)
    assert_tower_healthy(world.node, world.directory, [Watched(pair, acknowledged=NEWEST)])


@pytest.mark.parametrize(("published", "seen"), [(2, SpendKind.PEER_CLOSE), (4, SpendKind.FUTURE_STATE)])
def test_fault_P8_the_party_comes_after_the_breach(world: World, published: int, seen: SpendKind) -> None:
    """To the copy the stale close looks honest, or strange; the secrets that the party sends make it a breach."""
    pair = world.open(updates=1)
    as_it_was_before(world, pair, NEWEST)
    world.node.generate_block([pair.commitment(Side.A, published)])
    world.look()
    first = [event.kind for event in world.events(pair, SpendConfirmed) if isinstance(event, SpendConfirmed)]

    with pytest.raises(ChannelIsClosed):
        ask(world, pair, lambda client: client.synchronize(pair.channel_id))
    world.look()
    world.node.mine(1)
    world.look()

    assert [seen] == first
    assert "PUNISHED" == world.status(pair)
