"""Faults of disk and host below the whole tower: crash images, flipped bytes, interrupted rebuilds, free space."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import namedtuple
from pathlib import Path

import pytest

from tests.support.stores import new_log, note
from watchtower.host import disk as disks
from watchtower.host.disk import MEGABYTE, Disk
from watchtower.ports import StoreBroken, StoreError
from watchtower.store import datastore
from watchtower.store.create import open_store
from watchtower.store.datastore import library_doubt
from watchtower.store.errors import GuardViolation, StoreCheckFailed
from watchtower.store.rebuild import digests, open_views, rebuild
from watchtower.store.verify import verify_log
from watchtower.store.views import SqliteRows

pytestmark = pytest.mark.slow

CHANNEL = "c" + "A" * 22
OTHER = "c" + "B" * 22


def copy(path: Path, target: Path) -> Path:
    """The database and its write-ahead log as they are on the disk now."""
    target.mkdir()
    for suffix in ("", "-wal"):
        if path.with_name(path.name + suffix).exists():
            shutil.copy(path.with_name(path.name + suffix), target / (path.name + suffix))
    return target / path.name


@pytest.mark.slow
def test_fault_P3_every_crash_image_opens_with_all_that_was_acknowledged(tmp_path: Path) -> None:
    """The files are copied before and after each commit; each copy is a whole log that lacks nothing told by then."""
    path, acknowledged = new_log(tmp_path), 1
    images: list[tuple[Path, int]] = []

    def take(name: str) -> None:
        if name.startswith("commit:"):
            images.append((copy(path, tmp_path / f"image{len(images)}"), acknowledged))

    with open_store(path, failpoint=take) as store:
        for version in range(1, 31, 3):
            acknowledged = store.append([note("c1", version + step) for step in range(3)])

    assert 20 == len(images)
    for image, expected in images:
        with open_store(image) as store, store.connection() as connection:
            assert store.last_id() >= expected
            assert 0 == (store.last_id() - 1) % 3
            assert () == verify_log(connection).findings


@pytest.mark.slow
def test_fault_P3_a_write_sequence_cut_anywhere_loses_no_synced_commit(tmp_path: Path) -> None:
    """The write-ahead log is cut at any byte behind the last sync: every commit before it is there, whole."""
    path = new_log(tmp_path)
    sizes: list[tuple[int, int]] = []
    wal = path.with_name(path.name + "-wal")
    with open_store(path) as store:
        for version in range(1, 61, 3):
            last_id = store.append([note("c1", version + step) for step in range(3)])
            sizes.append((wal.stat().st_size, last_id))
        image = copy(path, tmp_path / "whole")
    chance, whole = random.Random(3), image.with_name(image.name + "-wal").read_bytes()

    for number in range(25):
        cut = chance.randrange(sizes[0][0], len(whole))
        torn = copy(image, tmp_path / f"torn{number}")
        torn.with_name(torn.name + "-wal").write_bytes(whole[:cut])
        synced = max(last_id for size, last_id in sizes if size <= cut)
        with open_store(torn) as store:
            assert store.last_id() >= synced
            assert 0 == (store.last_id() - 1) % 3


def test_fault_P5_a_failed_sync_is_never_tried_again(tmp_path: Path) -> None:
    """One EIO at the commit: the log is broken for this process, although the disk would work again."""
    failures = iter([True])

    def fail_once(name: str) -> None:
        if name == "commit:before" and next(failures, False):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

    with open_store(new_log(tmp_path), failpoint=fail_once) as store:
        with pytest.raises(StoreBroken):
            store.append([note("c1", 1)])
        with pytest.raises(StoreBroken, match="failed earlier"):
            store.append([note("c1", 1)])
        assert store.broken.is_set()


@pytest.fixture
def closed_log(tmp_path: Path) -> Path:
    """Forty events of two channels and the chain, folded into the main file."""
    path = new_log(tmp_path)
    with open_store(path) as store:
        for version in range(1, 11):
            store.append([note(CHANNEL, version, 70_000 + version), note(OTHER, version, 80_000 + version)])
            store.append([note("chain", version, 90_000 + version)], chain=True)
    return path


def flipped(path: Path, offset: int, bit: int) -> None:
    """Change one bit of the file."""
    image = bytearray(path.read_bytes())
    image[offset] ^= 1 << bit
    path.write_bytes(image)


@pytest.mark.slow
def test_fault_P7_every_flipped_byte_of_an_event_is_detected(closed_log: Path) -> None:
    """Two hundred random bits in stored events: the start refuses the log or names the channel; none passes."""
    chance, image = random.Random(7), closed_log.read_bytes()
    states = [note("x", 1, height + version).payload for height in (70_000, 80_000) for version in range(1, 11)]
    places = [place for state in states for place in _places(image, state.height)]
    outcomes = {"refused": 0, "named": 0, "missed": 0}
    for _ in range(200):
        closed_log.write_bytes(image)
        flipped(closed_log, chance.choice(places), chance.randrange(8))
        outcomes[_outcome(closed_log)] += 1

    assert 0 == outcomes["missed"]
    assert outcomes["named"] > 100


def _places(image: bytes, height: int) -> list[int]:
    """Offsets of an event's bytes: the encoded height and what stands before it."""
    start = image.index(b"\xce" + height.to_bytes(4, "big"))
    return list(range(start - 20, start + 5))


def _outcome(path: Path) -> str:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    try:
        with open_store(path) as store:
            return "named" if store.damaged else "missed"
    except StoreError:
        return "refused"


def test_fault_P7_the_channel_whose_name_was_changed_is_named(closed_log: Path) -> None:
    """A row that moved to another name: the hash of the event tells to whom it belongs."""
    edit(closed_log, f"UPDATE stored_events SET originator_id = 'c{'C' * 22}' WHERE rowid = 29")

    with open_store(closed_log) as store:
        assert CHANNEL in store.damaged
        assert OTHER not in store.damaged


@pytest.mark.parametrize("stream", ["chain", "log"])
def test_fault_P7_damage_beyond_channels_stops_the_start(closed_log: Path, stream: str) -> None:
    """Without a cursor that can be believed nobody could be served."""
    edit(closed_log, f"UPDATE stored_events SET state = x'93000100' WHERE originator_id = '{stream}'")

    with pytest.raises(StoreCheckFailed):
        open_store(closed_log)


def test_fault_P7_a_damaged_channel_takes_no_events(closed_log: Path) -> None:
    """Its stream is refused, the others are written; the views are folded without it."""
    edit(closed_log, "UPDATE stored_events SET state = x'93000100' WHERE rowid = 5")
    with open_store(closed_log) as store:
        (damaged,) = store.damaged
        sound = OTHER if damaged == CHANNEL else CHANNEL

        with pytest.raises(StoreError, match="changed on the disk"):
            store.append([note(damaged, 11)])
        store.append([note(sound, 11)])

        assert damaged not in {recorded.envelope.stream for recorded in store.read_log(0, 100)}


def test_fault_P7_nobody_waits_behind_the_events_of_a_damaged_channel(closed_log: Path) -> None:
    """Pages are full although some of their events are left out: else a reader would think that the log ends."""
    edit(closed_log, "UPDATE stored_events SET state = x'93000100' WHERE rowid = 5")
    with open_store(closed_log) as store:
        expected = store.read_log(0, 100)
        pages = [store.read_log(0, 1)]
        while pages[-1]:
            pages.append(store.read_log(pages[-1][-1].id, 1))

        assert 1 == len(store.damaged)
        assert expected == [recorded for page in pages for recorded in page]
        assert 21 == len(expected)


def edit(path: Path, statement: str) -> None:
    """Change rows as no program of ours can."""
    connection = sqlite3.connect(path, isolation_level=None)
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(statement)
    for _, sql in triggers:
        connection.execute(sql)
    connection.close()


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("passing", [1, 2, 3, 4])
def test_fault_P15_an_upgrade_of_the_views_killed_at_any_step(closed_log: Path, side: str, passing: int) -> None:
    """There are the old views, none, or the new ones, and the next start has the new ones."""
    views = closed_log.with_name("views.db")
    left = passing

    def kill(name: str) -> None:
        nonlocal left
        if name == f"migration_step:{side}":
            left -= 1
            if not left:
                raise Killed

    with open_store(closed_log) as store:
        rebuild(views, store)
        with pytest.raises(Killed):
            rebuild(views, store, failpoint=kill)
        open_views(views, store).close()

        rebuild(closed_log.with_name("expected.db"), store)
        found, expected = SqliteRows(views), SqliteRows(closed_log.with_name("expected.db"))
        assert digests(expected) == digests(found)
        found.close()
        expected.close()


def test_fault_P18_one_connection_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From opening to closing a process opens its log for writing exactly once."""
    opened: list[bool] = []
    connect = datastore.connect

    def counted(path: Path, *, read_only: bool, **options: bool | int) -> sqlite3.Connection:
        opened.append(read_only)
        return connect(path, read_only=read_only, **options)  # type: ignore[arg-type]

    path = new_log(tmp_path)
    monkeypatch.setattr(datastore, "connect", counted)
    with open_store(path) as store:
        for version in range(1, 10):
            store.append([note("c1", version)])
            store.read_stream("c1")
        store.checkpoint()

    assert 1 == opened.count(False)


def test_fault_P18_an_old_library_is_told() -> None:
    """Versions of SQLite with the fault are named, the others are not."""
    assert "SQLite 3.40.1 can damage a log" in library_doubt((3, 40, 1))
    assert "" == library_doubt((3, 51, 3))


Usage = namedtuple("Usage", "total used free")


class Space:
    """A disk whose free space a test chooses."""

    def __init__(self, directory: Path) -> None:
        self.free = 1_000 * MEGABYTE
        self.held = 0
        self.reasons: dict[str, str] = {}
        self.disk = Disk(
            directory,
            low=100 * MEGABYTE,
            reserve=MEGABYTE,
            alarm=self.reasons.__setitem__,
            clear=lambda name: self.reasons.pop(name, None),
            held=lambda: self.held,
        )


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Space:
    """Plenty of it at first."""
    made = Space(tmp_path)
    monkeypatch.setattr(disks.shutil, "disk_usage", lambda _path: Usage(0, 0, made.free))
    return made


def test_fault_P4_little_space_is_told_and_untold(space: Space) -> None:
    """`disk_low` holds while less than the limit is free, or while events wait."""
    space.free = 99 * MEGABYTE
    space.disk.look()
    little = dict(space.reasons)
    space.free, space.held = 1_000 * MEGABYTE, 3
    space.disk.look()
    waiting = dict(space.reasons)
    space.held = 0
    space.disk.look()

    assert {"disk_low": "99 MB are free"} == little
    assert {"disk_low": "3 events wait in memory for space"} == waiting
    assert {} == space.reasons


def test_fault_P4_the_reserve_is_given_up_once_and_made_again(space: Space, tmp_path: Path) -> None:
    """It exists while there is plenty, and is released at most once until there is plenty again."""
    space.disk.look()
    made = (tmp_path / "reserve").stat().st_size
    released = [space.disk.release(), space.disk.release()]
    space.free = 101 * MEGABYTE
    space.disk.look()
    missing = not (tmp_path / "reserve").exists()
    space.free = 1_000 * MEGABYTE
    space.disk.look()

    assert (MEGABYTE, [True, False], True) == (made, released, missing)
    assert (tmp_path / "reserve").exists()


def test_a_disk_that_takes_no_changes_ends_nothing(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the look of every second nor whoever needs the reserve may fail for it: the tower has to watch on."""

    def read_only(*_args: object) -> int:
        raise OSError(30, "Read-only file system")

    (tmp_path / "reserve").mkdir()
    refused = space.disk.release()
    (tmp_path / "reserve").rmdir()
    monkeypatch.setattr(disks.os, "open", read_only)

    space.disk.look()

    assert not refused
    assert {} == space.reasons
    assert not (tmp_path / "reserve").exists()


@pytest.mark.slow
def test_fault_P7_a_page_that_cannot_be_read_costs_its_channels_only(tmp_path: Path) -> None:
    """Older than what a start checks: those channels are named, the process goes on, and the others are read."""
    path, streams = new_log(tmp_path), [f"c{number}" for number in range(20)]
    with open_store(path) as store:
        for stream in streams:
            store.append([note(stream, version) for version in range(1, 1_001)])
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 6 // 4096 * 4096)
        file.write(random.Random(5).randbytes(8 * 4096))
    found: dict[str, int] = {}
    lost: dict[str, str] = {}

    with open_store(path) as store:
        for stream in streams:
            try:
                found[stream] = len(store.read_stream(stream))
            except GuardViolation as error:
                lost[stream] = str(error)
        last = store.append([note(streams[-1], 1_001)])

    assert (20_002, set(streams)) == (last, found.keys() | lost.keys())
    assert {1_000} == set(found.values())
    assert all(stream in words for stream, words in lost.items())
    assert 0 < len(lost) < 5
