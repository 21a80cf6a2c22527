"""One chain, delivered in many ways: what the log says at the end must not depend on how the blocks arrived.

A first tower sees every block as it is mined; its answers and closes are in these blocks. Other towers get the very
same blocks together, twice, late, with restarts, with failing calls, over a detour, and must come to the same facts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random

import pytest

from domain.channel import Channel
from domain.status import ChannelStatus
from tests.simulation import oracles
from tests.simulation.blocks import Block
from tests.simulation.economy import thrift
from tests.simulation.faults import Rates
from tests.simulation.schedule import open_channels
from tests.simulation.world import SWEEP, SimWorld
from watchtower.tower import Hints

SEED = 0
LENGTH = 60
PASSES = 8
CRASH = 0.99
"""The fate of views that survive a crash as they are."""

Facts = tuple[object, ...]
Delivery = Callable[[SimWorld, tuple[Block, ...]], None]


def opened() -> SimWorld:
    """A world with three funded channels and their states; the same bytes every time."""
    world = SimWorld(SEED)
    open_channels(world)
    return world


def look(world: SimWorld, hints: Hints = SWEEP) -> None:
    """Passes until the tower asks for no other one."""
    for _ in range(PASSES):
        world.look(hints)
        if world.report is not None and not world.report.again and world.report.error is None:
            return


def arrive(world: SimWorld, block: Block) -> None:
    """The node gets a block that was mined elsewhere."""
    world.chain.tree[block.hash] = block
    world.chain.prefer(block.hash)


def facts_of(channel: Channel) -> Facts:
    """What the log says about the chain, without the bids, which depend on what a tower saw when."""
    close = channel.confirmed_spend
    return (
        channel.status,
        channel.funding_block,
        None if close is None else (close.txid, close.kind, close.side, close.sequence, close.block),
        channel.contest_spends,
        channel.claim_ends,
        channel.soft_final,
        channel.sequence,
        channel.highest_revoked,
    )


def outcome(world: SimWorld) -> list[Facts]:
    """The facts of all channels and where the cursor stands; every oracle about them was asked."""
    world.clean_pass()
    oracles.o3_scan(world)
    oracles.o3_views(world)
    oracles.o4_cursor(world)
    found = [facts_of(world.channels.load(case.stream)) for case in world.cases]
    return [*found, (world.tower.follower.cursor.tip,)]


@cache
def story() -> tuple[tuple[Block, ...], list[Facts]]:
    """The blocks: a breach with its penalty, a close with its settlement, an own close; and what they mean."""
    with thrift():
        world = opened()
        first = world.chain.height + 1
        cheated, left, agreed = world.cases
        closes = {
            2: cheated.channel.commitments[0],
            5: left.channel.commitments[left.newest],
            9: agreed.channel.own_commitments[agreed.newest],
        }
        agreed.own_out.add(agreed.newest)
        for number in range(LENGTH):
            world.miners.smuggled += [closes[number]] if number in closes else []
            world.mine()
            look(world)
        return tuple(world.chain.ledger.blocks[first:]), outcome(world)


def one_by_one(world: SimWorld, blocks: tuple[Block, ...]) -> None:
    """A pass after every block."""
    for block in blocks:
        arrive(world, block)
        look(world)


def all_at_once(world: SimWorld, blocks: tuple[Block, ...]) -> None:
    """One pass after the last."""
    for block in blocks:
        arrive(world, block)
    look(world)


def in_sevens(world: SimWorld, blocks: tuple[Block, ...]) -> None:
    """A pass after every seventh."""
    for number, block in enumerate(blocks):
        arrive(world, block)
        look(world) if number % 7 == 6 else None


def every_ring_three_times(world: SimWorld, blocks: tuple[Block, ...]) -> None:
    """Everything is said again and again."""
    for block in blocks:
        arrive(world, block)
        for _ in range(3):
            world.look(Hints(frozenset(case.funding for case in world.cases), full_sweep=True))


def every_ring_lost(world: SimWorld, blocks: tuple[Block, ...]) -> None:
    """The tower looks by its own clock, now and then, without a hint."""
    for number, block in enumerate(blocks):
        arrive(world, block)
        look(world, Hints()) if number % 3 == 0 else None


def restart_after_each(world: SimWorld, blocks: tuple[Block, ...]) -> None:
    """The process dies after every block that it saw."""
    world.faults.random = Random(SEED)
    for block in blocks:
        arrive(world, block)
        look(world)
        world.disk.restart(CRASH)
        world._open()


def views_lost_after_each(world: SimWorld, blocks: tuple[Block, ...]) -> None:
    """The process dies, and its views are gone, before it saw the block."""
    for block in blocks:
        arrive(world, block)
        world.disk.restart(0.0)
        world._open()
        look(world)


def crash_at_points(world: SimWorld, blocks: tuple[Block, ...]) -> None:
    """The process dies in the middle of its work, wherever."""
    for number, block in enumerate(blocks):
        arrive(world, block)
        world.faults.set(Rates(crash=0.3), Random(number))
        world.look()


def calls_fail(world: SimWorld, blocks: tuple[Block, ...]) -> None:
    """Calls of the node fail, before or after their effect."""
    for number, block in enumerate(blocks):
        arrive(world, block)
        world.faults.set(Rates(rpc=0.2), Random(number))
        world.look()


def disk_full_now_and_then(world: SimWorld, blocks: tuple[Block, ...]) -> None:
    """Every second block finds no space in the log."""
    for number, block in enumerate(blocks):
        arrive(world, block)
        world.store.full = number % 2 == 0
        world.look()


def over_a_stale_branch(world: SimWorld, blocks: tuple[Block, ...]) -> None:
    """First the chain ends in another breach with its own answer, and then none of that was true."""
    world.miners.smuggled.append(world.cases[0].channel.commitments[1])
    for _ in range(4):
        world.mine()
        look(world)
    one_by_one(world, blocks)


def over_many_stale_branches(world: SimWorld, blocks: tuple[Block, ...]) -> None:
    """Before every block another one stands in its place."""
    for block in blocks:
        world.mine()
        look(world)
        arrive(world, block)
        look(world)


def over_a_deep_stale_branch(world: SimWorld, blocks: tuple[Block, ...]) -> None:
    """In the middle twelve blocks are replaced by empty ones and come back."""
    middle = len(blocks) // 2
    one_by_one(world, blocks[:middle])
    world.chain.reorg(12)
    look(world)
    for block in blocks[middle - 12 :]:
        arrive(world, block)
    look(world)


def node_goes_back(world: SimWorld, blocks: tuple[Block, ...]) -> None:
    """The node loses three blocks and has them again, every fifth block."""
    for number, block in enumerate(blocks):
        arrive(world, block)
        look(world)
        if number % 5 == 4:
            world.node.roll_back(3)
            world.look()
            world.node.rejoin()


def node_stands_still(world: SimWorld, blocks: tuple[Block, ...]) -> None:
    """The node hears nothing of four blocks in ten."""
    for number, block in enumerate(blocks):
        world.node.isolate() if number % 10 == 3 else None
        arrive(world, block)
        world.node.rejoin() if number % 10 == 7 else None
        look(world)


def blocks_missing(world: SimWorld, blocks: tuple[Block, ...]) -> None:
    """Every fourth block is on no disk for one pass."""
    world.node.peers_have_blocks = False
    for number, block in enumerate(blocks):
        arrive(world, block)
        if number % 4 == 0:
            world.node.missing.add(block.hash)
            world.look()
            world.node.missing.clear()
        look(world)


DELIVERIES: tuple[Delivery, ...] = (
    one_by_one,
    all_at_once,
    in_sevens,
    every_ring_three_times,
    every_ring_lost,
    restart_after_each,
    views_lost_after_each,
    crash_at_points,
    calls_fail,
    disk_full_now_and_then,
    over_a_stale_branch,
    over_many_stale_branches,
    over_a_deep_stale_branch,
    node_goes_back,
    node_stands_still,
    blocks_missing,
)


def test_the_story_has_three_ends() -> None:
    """The breach was punished and both closes were settled: else the deliveries would compare little."""
    with thrift():
        statuses = [facts[0] for facts in story()[1][:3]]

    assert [ChannelStatus.PUNISHED, ChannelStatus.SETTLED, ChannelStatus.SETTLED] == statuses


@pytest.mark.parametrize("deliver", DELIVERIES, ids=lambda way: way.__name__)
def test_the_way_of_delivery_changes_no_fact(deliver: Delivery) -> None:
    """However the same blocks arrive, the log ends with the same facts."""
    blocks, expected = story()
    with thrift():
        world = opened()
        deliver(world, blocks)
        found = outcome(world)

    assert expected == found
