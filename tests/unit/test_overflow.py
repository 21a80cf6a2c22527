"""A log without space: the chain's facts wait in memory, clients are refused, and everything is written later."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from domain.events import Envelope, Recorded
from projections.catalog import PROJECTIONS
from projections.projector import Batch, Projector
from tests.fakes.rows import MemoryRows
from tests.support.small_world import SmallWorld
from tests.support.stores import new_log, note
from watchtower.models import LiveModels
from watchtower.ports import StoreBroken, StoreConflict, StoreError, StoreFull
from watchtower.store import overflow
from watchtower.store.create import open_store
from watchtower.store.event_store import SqliteEventStore
from watchtower.store.overflow import OverflowStore

FULL = StoreFull("no space")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEventStore]:
    """A real log with `LogOpened`."""
    with open_store(new_log(tmp_path)) as store:
        yield store


class Disk:
    """An `append` that has space or not; it counts how often it was asked."""

    def __init__(self, log: SqliteEventStore) -> None:
        self.error: StoreError | None = None
        self.asked = 0
        self._append: Callable[..., int] = log.append
        log.append = self.append  # type: ignore[method-assign]

    def append(self, job: Sequence[Envelope], *, chain: bool = False) -> int:
        """Refuse or store."""
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self._append(job, chain=chain)


@pytest.fixture
def disk(log: SqliteEventStore) -> Disk:
    """The disk below the log."""
    return Disk(log)


def test_fault_P4_facts_of_the_chain_wait_in_memory(log: SqliteEventStore, disk: Disk) -> None:
    """They are read like stored ones, and get exactly the ids that they were given."""
    store = OverflowStore(log)
    store.append([note("c1", 1)], chain=True)
    disk.error = FULL

    ids = [store.append([note("c1", 2), note("c2", 1)], chain=True), store.append([note("c1", 3)], chain=True)]

    assert [4, 5] == ids
    assert [1, 2, 3] == [event.version for event in store.read_stream("c1")]
    assert [2, 3] == [event.version for event in store.read_stream("c1", after=1)]
    assert [2] == [event.version for event in store.read_stream("c1", after=1, limit=1)]
    assert (3, 1, 0, 5) == (store.version("c1"), store.version("c2"), store.version("c3"), store.last_id())
    waiting: list[Recorded] = store.read_log(2, 10)
    assert [3, 4, 5] == [recorded.id for recorded in waiting]
    assert 2 == log.last_id()
    disk.error = None
    assert store.flush()
    assert 0 == store.held
    assert waiting == log.read_log(2, 10)


def test_fault_P4_clients_are_refused_until_all_is_written(log: SqliteEventStore, disk: Disk) -> None:
    """What a client says cannot be found again; it is refused although there is space for it."""
    store = OverflowStore(log)
    disk.error = FULL
    store.append([note("c1", 1)], chain=True)
    disk.error = None

    with pytest.raises(StoreFull, match="facts of the chain wait"):
        store.append([note("c2", 1)])
    assert store.flush()

    assert 3 == store.append([note("c2", 1)])


def test_fault_P4_the_next_fact_brings_the_waiting_ones_along(log: SqliteEventStore, disk: Disk) -> None:
    """Space came back: one more chain job writes everything in order."""
    store = OverflowStore(log)
    disk.error = FULL
    store.append([note("c1", 1)], chain=True)
    disk.error = None

    assert 3 == store.append([note("c1", 2)], chain=True)

    assert [1, 2] == [event.version for event in log.read_stream("c1")]


def test_fault_P4_the_reserve_is_used_first(log: SqliteEventStore, disk: Disk) -> None:
    """Where the reserve makes space, nothing waits."""

    def release() -> bool:
        disk.error = None
        return True

    store = OverflowStore(log, release)
    disk.error = FULL

    assert 2 == store.append([note("c1", 1)], chain=True)

    assert (0, 2) == (store.held, disk.asked)


def test_fault_P4_memory_is_bounded(log: SqliteEventStore, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the caller hears that there is no space."""
    monkeypatch.setattr(overflow, "HELD_EVENTS", 2)
    store = OverflowStore(log)
    disk.error = FULL
    store.append([note("c1", 1), note("c1", 2)], chain=True)

    with pytest.raises(StoreFull, match="2 events wait"):
        store.append([note("c1", 3)], chain=True)


def test_fault_P4_a_conflict_is_a_conflict_without_space(log: SqliteEventStore, disk: Disk) -> None:
    """A client was faster before the disk was full: the fact is decided again, not held on a wrong version."""
    store = OverflowStore(log)
    store.append([note("c1", 1)])
    disk.error = FULL

    with pytest.raises(StoreConflict, match="is at version 1, not 0"):
        store.append([note("c1", 1, 7)], chain=True)

    assert 0 == store.held


def test_fault_P5_a_failed_log_is_not_written_again(log: SqliteEventStore, disk: Disk) -> None:
    """The pass in which it failed goes on from memory; its end is the end of the process."""
    store = OverflowStore(log)
    disk.error = StoreBroken("failed sync")
    store.append([note("c1", 1)], chain=True)
    disk.error = None

    store.append([note("c1", 2)], chain=True)

    assert [1, 2] == [event.version for event in store.read_stream("c1")]
    assert 1 == disk.asked
    with pytest.raises(StoreBroken, match="failed sync"):
        store.flush()


def test_fault_P4_no_flood_of_clients_keeps_a_fact_from_being_held(log: SqliteEventStore, disk: Disk) -> None:
    """A fact waits for the clients that have begun to write, and for none that come later."""
    store = OverflowStore(log)
    inside, go_on = threading.Event(), threading.Event()
    append = log.append

    def slow(job: Sequence[Envelope], *, chain: bool = False) -> int:
        if not chain:
            inside.set()
            go_on.wait(30)
        return append(job, chain=chain)

    log.append = slow  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(store.append, [note("c1", 1)])
        assert inside.wait(30)
        disk.error = FULL
        fact = threads.submit(store.append, [note("chain", 1)], chain=True)
        while not store._is_closing:
            go_on.wait(0.001)
        with pytest.raises(StoreFull):
            store.append([note("c2", 1)])
        disk.error = None
        go_on.set()

        assert (2, 3) == (first.result(30), fact.result(30))


def test_fault_P4_an_id_that_was_taken_meanwhile_ends_the_process(log: SqliteEventStore, disk: Disk) -> None:
    """Readers know the waiting event by another id: only a new start tells everybody the same."""
    store = OverflowStore(log)
    disk.error = FULL
    store.append([note("c1", 1)], chain=True)
    disk.error = None
    log.append([note("c2", 1)], chain=True)

    with pytest.raises(StoreBroken, match="start again"):
        store.flush()


def test_fault_P4_the_views_get_the_reserve_too() -> None:
    """They may be the first that find no space: without them nobody looks at the next block."""
    world = SmallWorld()
    world.open()
    full = [True]
    rows = FullRows(full)
    models = LiveModels(
        Projector(world.store, rows, PROJECTIONS), rows, world.channels, release=lambda: bool(full and full.pop())
    )

    models.catch_up()

    assert world.store.last_id() == models.position
    assert [] == full


def test_fault_P4_a_breach_that_the_views_lack_is_contested() -> None:
    """It is in the log: a penalty does not wait for space in the views."""
    world = SmallWorld()
    world.open()
    full: list[bool] = []
    rows = FullRows(full)
    models = LiveModels(Projector(world.store, rows, PROJECTIONS), rows, world.channels)
    models.catch_up()
    world.cheat(1)
    world.look()
    full.append(True)

    with pytest.raises(StoreFull):
        models.catch_up()

    assert [world.stream] == models.contested()


class FullRows(MemoryRows):
    """Rows that find no space as long as `full` has an element."""

    def __init__(self, full: list[bool]) -> None:
        super().__init__()
        self._full = full

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Refuse or store."""
        if self._full:
            raise FULL
        with super().batch() as staged:
            yield staged
