"""The disk fails while money is at stake: full, broken, locked, damaged, deleted, restored; two towers; odd clocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from domain.events import Envelope, PenaltyBroadcast, PenaltyPrepared, Recorded
from domain.units import Side
from projections.catalog import PROJECTIONS
from projections.tables import Change, Key, Row
from tests.regtest.world import SWEEP, World
from tests.support.clocks import FixedClock
from tests.support.healthy import Watched, assert_tower_healthy
from tests.support.parties import Pair
from watchtower.channels.accept_state import accept_state
from watchtower.channels.register import register
from watchtower.devnode.regtest import RegtestNode
from watchtower.ports import StoreBroken, StoreBusy, StoreError, StoreFull
from watchtower.store.overflow import OverflowStore

MakeWorld = Callable[..., World]
YEAR = 365 * 86_400.0


@pytest.fixture
def make_world(shared_node: RegtestNode, tmp_path: Path) -> Iterator[MakeWorld]:
    """Towers at the node's present tip; all end with the test."""
    shared_node.mine(1)
    made: list[World] = []

    def make(**options: Any) -> World:
        made.append(World(shared_node, tmp_path / f"tower{len(made)}", **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


class Disk:
    """Fails every commit from the `after`-th one on, as long as `error` is set."""

    def __init__(self, world: World, error: StoreError, after: int) -> None:
        self.error: StoreError | None = error
        self._left = after
        self._append: Callable[..., int] = world.store.append
        world.store.append = self.append  # type: ignore[method-assign]

    def append(self, job: Sequence[Envelope], *, chain: bool = False) -> int:
        """Store, or fail."""
        if self._left:
            self._left -= 1
        elif self.error is not None:
            raise self.error
        return self._append(job, chain=chain)


def step(world: World) -> None:
    """A pass with what the service does after it: try to write what waits."""
    world.tower.run_pass(SWEEP)
    overflow(world).flush()


def overflow(world: World) -> OverflowStore:
    """The tower's log."""
    assert isinstance(world.log, OverflowStore)
    return world.log


def punish(world: World, pair: Pair) -> None:
    """A breach in a block, answered in the next."""
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    world.node.mine(1)
    world.look()


@pytest.mark.parametrize("commit", range(4))
def test_fault_P4_a_full_disk_at_any_commit_saves_no_cheater(make_world: MakeWorld, commit: int) -> None:
    """Not one event fits from that commit on: the penalty confirms, clients hear 507, the events come with space."""
    world = make_world(store_port=OverflowStore)
    pair, quiet = world.open(updates=3), world.open(updates=3)
    disk = Disk(world, StoreFull("no space left"), commit)

    world.node.generate_block([pair.commitment(Side.A, 1)])
    step(world)
    world.node.mine(1)
    step(world)

    penalty = world.penalty_of(pair, 1)
    assert penalty is not None
    assert world.node.height() == world.height_of(penalty.txid)
    assert overflow(world).held > 0
    request = quiet.update_request(Side.B, quiet.update())
    with pytest.raises(StoreFull):
        accept_state(world.context, world.stream(quiet), request)
    disk.error = None
    step(world)
    accept_state(world.context, world.stream(quiet), request)
    assert 0 == overflow(world).held
    assert_tower_healthy(world.node, world.directory, [Watched(pair), Watched(quiet)])


def test_fault_P4_a_crash_on_a_full_disk_loses_only_work(make_world: MakeWorld) -> None:
    """What waited in memory is found again at the node, and the bids are adopted."""
    world = make_world(store_port=OverflowStore)
    pair = world.open(updates=3)
    Disk(world, StoreFull("no space left"), 0)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    step(world)
    world.restart()
    world.node.mine(1)
    step(world)

    assert_tower_healthy(world.node, world.directory, [Watched(pair)])
    assert 1 == len(world.events(pair, PenaltyPrepared))


def test_fault_P4_a_file_that_may_not_grow(make_world: MakeWorld) -> None:
    """SQLite itself finds no page: everything waits, and is written when the file may grow again."""
    world = make_world(store_port=OverflowStore)
    pair = world.open(updates=3)
    with world.store._datastore.raw(commit=True) as writer:
        writer.execute("PRAGMA max_page_count = 1")
    for _ in range(60):
        world.node.generate_block()
    step(world)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    step(world)
    world.node.mine(1)
    step(world)
    held = overflow(world).held
    with world.store._datastore.raw(commit=True) as writer:
        writer.execute("PRAGMA max_page_count = 1000000")

    step(world)

    assert held > 0
    assert_tower_healthy(world.node, world.directory, [Watched(pair)])


@pytest.mark.parametrize("commit", range(3))
def test_fault_P5_a_failed_write_is_the_last_one(make_world: MakeWorld, commit: int) -> None:
    """One EIO: what is in memory goes out in the same pass, then the process ends; the next start finds everything."""
    world = make_world(store_port=OverflowStore)
    pair = world.open(updates=3)
    disk = Disk(world, StoreBroken("disk I/O error"), commit)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    with pytest.raises(StoreBroken):
        step(world)
    disk.error = None
    with pytest.raises(StoreBroken):
        overflow(world).flush()
    penalty = world.mempool_spender(world.contest(pair, 1))
    world.restart()
    world.node.mine(1)
    step(world)

    assert penalty is not None
    assert penalty == world.penalty_of(pair, 1)
    assert_tower_healthy(world.node, world.directory, [Watched(pair)])


def test_fault_P6_a_foreign_lock_in_a_breach_block(make_world: MakeWorld) -> None:
    """Another program holds the log: the block waits, and is taken when the lock is gone."""
    world = make_world()
    pair = world.open(updates=3)
    with world.store._datastore.raw(commit=True) as writer:
        writer.execute("PRAGMA busy_timeout = 20")
    foreign = sqlite3.connect(world.directory / "events.db", isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    world.node.generate_block([pair.commitment(Side.A, 1)])
    reports = [world.tower.run_pass(SWEEP) for _ in range(3)]
    foreign.execute("ROLLBACK")
    foreign.close()
    world.look()
    world.node.mine(1)
    world.look()

    assert [StoreBusy] * 3 == [type(report.error) for report in reports]
    assert_tower_healthy(world.node, world.directory, [Watched(pair)])


def test_fault_P7_other_channels_of_a_damaged_log_are_served(make_world: MakeWorld) -> None:
    """One byte of one channel's state is flipped: that channel is not believed, the other one is protected."""
    world = make_world()
    damaged, sound = world.open(updates=2), world.open(updates=2)
    world.stop()
    path = world.directory / "events.db"
    image = bytearray(path.read_bytes())
    image[image.index(damaged.state(2).content.header) + 200] ^= 4
    path.write_bytes(image)
    world.wake()

    assert {world.stream(damaged)} == world.store.damaged
    punish(world, sound)
    assert "PUNISHED" == world.status(sound)
    with pytest.raises(StoreError, match="changed on the disk"):
        world.store.append([Envelope(world.stream(damaged), 99, "", None)])  # type: ignore[arg-type]
    assert world.store.append(world.store.read_stream(world.stream(sound))[-1:])  # the other stream takes events


def test_fault_P10_two_towers_with_the_same_keys_do_not_fight(make_world: MakeWorld) -> None:
    """Two databases, one node: at most three replacements per block, and one penalty confirms."""
    first, second = make_world(), make_world()
    pair = first.open(updates=3, challenge_period=14)
    register(second.context, pair.registration(Side.B))
    second.look()
    for sequence in (1, 2, 3):
        accept_state(second.context, second.stream(pair), pair.update_request(Side.B, sequence))
    seen: list[int] = []
    first.node.generate_block([pair.commitment(Side.A, 1)])
    for _ in range(8):
        bids = set()
        for world in (first, second, first, second, first):
            world.look()
            spender = world.mempool_spender(world.contest(pair, 1))
            assert spender is not None
            bids.add(spender.txid)
        seen.append(len(bids) - 1)
        first.node.generate_block()
    first.look()
    second.look()
    first.node.mine(1)
    first.look()
    second.look()

    assert max(seen) <= 3
    assert ("PUNISHED", "PUNISHED") == (first.status(pair), second.status(pair))


@pytest.mark.parametrize("jump", [YEAR, -YEAR])
def test_fault_P11_a_clock_that_jumps_decides_nothing(make_world: MakeWorld, jump: float) -> None:
    """A year forward or back in the middle of a breach."""
    clock = FixedClock()
    world = make_world(clock=clock)
    pair = world.open(updates=3)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    clock.microseconds += int(jump * 1_000_000)
    world.look()
    world.node.mine(1)
    world.look()
    world.restart()

    assert 1 == len(world.events(pair, PenaltyBroadcast))
    assert_tower_healthy(world.node, world.directory, [Watched(pair)])


def test_fault_P14_read_models_deleted_in_the_middle_of_a_breach(make_world: MakeWorld) -> None:
    """They are folded again from the log, and the breach goes on where it was."""
    world = make_world()
    pair = world.open(updates=3)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    world.stop()
    for file in world.directory.glob("views.db*"):
        file.unlink()
    world.wake()
    world.node.mine(1)
    world.look()

    assert 1 == len(world.events(pair, PenaltyPrepared))
    assert_tower_healthy(world.node, world.directory, [Watched(pair)])


def test_fault_P13_an_event_that_cannot_be_applied_stops_one_channel(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One read model fails at one channel's event: that channel is named, the others go on."""
    world = make_world()
    poisoned, sound = world.open(), world.open(updates=2)
    stream, fold = world.stream(poisoned), type(PROJECTIONS[0]).apply

    def apply(self: Any, before: Mapping[Key, Row], page: Iterable[Recorded]) -> list[Change]:
        recorded = list(page)
        if any(each.envelope.stream == stream for each in recorded):
            raise ValueError("an event that nobody expected")
        return fold(self, before, recorded)

    monkeypatch.setattr(type(PROJECTIONS[0]), "apply", apply)
    world.upload(poisoned, poisoned.update())
    punish(world, sound)

    assert {stream} == {name for _, name in world.models.quarantined}
    assert "PUNISHED" == world.status(sound)
