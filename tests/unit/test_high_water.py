"""The high-water mark: what is in the file, what a log is beside it, and what the tower does about that."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from domain.chain import chain_hash
from domain.contract import keys
from domain.events import LOG_STREAM, CoveredBy, HeadSealed, ReceiptsCovered, StoreRestored
from domain.log_chain import sealed_head_hash
from projections.log_standing import LogStanding
from tests.fakes.store import STREAM_KEY
from tests.support.clocks import FixedClock
from tests.support.stores import CHAIN_HASH, new_log, note
from watchtower.config.settings import Settings
from watchtower.continuity import rollback
from watchtower.continuity.continuity import Continuity
from watchtower.continuity.sealing import EVENTS, SECONDS, HeadSealer
from watchtower.store import high_water
from watchtower.store.create import create_store, open_reader, open_store
from watchtower.store.high_water import (
    Comparison,
    HighWater,
    HighWaterDamaged,
    compare,
    mark_of,
    read_high_water,
    write_high_water,
)
from watchtower.store.log_stream import append_to_log_stream
from watchtower.store.sqlite_source import SqliteSource

MARK = HighWater("tower/log", bytes(range(16)), 3, 4711, b"\x0a" * 32)
STREAM = "c" + "x" * 22
KEY = b"\x07" * 32


def grow(path: Path, events: int, *, begin: int = 1, height: int = 0) -> None:
    """Append notes, one commit each."""
    with open_store(path) as store:
        for version in range(begin, begin + events):
            store.append([note(STREAM, version, height)])


def marked(path: Path) -> HighWater:
    """The mark of a log file as it is now."""
    with SqliteSource(path) as source:
        return mark_of(source, 0)


def compared(mark: HighWater, path: Path) -> Comparison:
    """What a log file is beside a mark."""
    with SqliteSource(path) as source:
        return compare(mark, source)


def judged(log: Path, file: Path, standing: LogStanding | None = None) -> Continuity:
    """What a tower thinks of a log at its start; it has seen enough then."""
    with SqliteSource(log) as source:
        return Continuity(file, source, standing or LogStanding())


def test_the_file_has_five_lines(tmp_path: Path) -> None:
    """People can read it, and what is read is what was written."""
    write_high_water(tmp_path / "mark", MARK)

    lines = (tmp_path / "mark").read_text().splitlines()
    assert ["origin", "log_id", "epoch", "position", "head"] == [line.split()[0] for line in lines]
    assert MARK == read_high_water(tmp_path / "mark")
    assert ["mark"] == [path.name for path in tmp_path.iterdir()]


def test_no_file_is_no_mark(tmp_path: Path) -> None:
    """That is how a new tower begins."""
    assert read_high_water(tmp_path / "mark") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"origin a\n",
        b"\xff\xfe",
        MARK.encode().encode() + b"more 1\n",
        MARK.encode().replace("4711", "-1").encode(),
        MARK.encode().replace("4711", "many").encode(),
        MARK.encode().replace("0a0a", "0a").encode(),
        b"x" * 5_000,
    ],
)
def test_a_garbled_file_is_named(tmp_path: Path, content: bytes) -> None:
    """Nothing is guessed from half a mark."""
    (tmp_path / "mark").write_bytes(content)

    with pytest.raises(HighWaterDamaged, match="mark"):
        read_high_water(tmp_path / "mark")


def test_a_failed_write_leaves_the_old_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is replaced as a whole or not at all, and nothing is left beside it."""
    write_high_water(tmp_path / "mark", MARK)

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(high_water.os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_high_water(tmp_path / "mark", replace(MARK, position=5_000))

    assert MARK == read_high_water(tmp_path / "mark")
    assert ["mark"] == [path.name for path in tmp_path.iterdir()]


def test_a_log_that_went_on_fits(tmp_path: Path) -> None:
    """Its own mark, and that of any earlier commit."""
    log = new_log(tmp_path)
    first = marked(log)
    grow(log, 3)

    assert (Comparison.FITS, Comparison.FITS) == (compared(first, log), compared(marked(log), log))


def test_an_older_copy_is_shorter(tmp_path: Path) -> None:
    """Exit code 41 of the audit."""
    log = new_log(tmp_path)
    shutil.copy(log, tmp_path / "old.db")
    grow(log, 3)

    found = compared(marked(log), tmp_path / "old.db")

    assert (Comparison.SHORTER, 41) == (found, found.value)


def test_another_history_is_different(tmp_path: Path) -> None:
    """As long, but with other events: exit code 40 of the audit. So is the mark of another log."""
    log = new_log(tmp_path)
    shutil.copy(log, tmp_path / "fork.db")
    grow(log, 3)
    grow(tmp_path / "fork.db", 5, height=9)

    found = compared(marked(log), tmp_path / "fork.db")

    assert (Comparison.DIFFERENT, 40) == (found, found.value)
    assert Comparison.DIFFERENT is compared(replace(marked(log), log_id=b"\x01" * 16), log)


def test_a_mark_inside_a_commit_does_not_fit(tmp_path: Path) -> None:
    """Marks stand at the ends of commits; the head of another place proves nothing."""
    log = new_log(tmp_path)
    with open_store(log) as store:
        store.append([note(STREAM, 1), note(STREAM, 2)])

    assert Comparison.DIFFERENT is compared(replace(marked(log), position=2), log)


def test_a_tower_moves_its_mark(tmp_path: Path) -> None:
    """At the start, before anything is signed, and with each call; only if the log has moved."""
    log, file = new_log(tmp_path), tmp_path / "mark"
    with open_store(log) as store, SqliteSource(log) as source:
        continuity = Continuity(file, source, LogStanding())
        first = read_high_water(file)
        store.append([note(STREAM, 1)])
        continuity.note()
        second = read_high_water(file)
        file.unlink()
        continuity.note()

    assert (True, 0) == (continuity.may_sign(), continuity.epoch())
    assert [1, 2] == [mark.position for mark in (first, second) if mark is not None]
    assert not file.exists()


def test_fault_P8_a_log_behind_its_mark_signs_nothing(tmp_path: Path) -> None:
    """The tower starts, says what it found, and leaves the mark as it is."""
    log, file = new_log(tmp_path), tmp_path / "mark"
    shutil.copy(log, tmp_path / "old.db")
    grow(log, 3)
    write_high_water(file, marked(log))

    found = judged(tmp_path / "old.db", file)

    assert (False, Comparison.SHORTER, (1, 4)) == (found.may_sign(), found.verdict, found.gap)
    assert "ends at event 1, but it had 4" in found.doubt
    assert "watchtower store accept-rollback" in found.doubt
    assert marked(log) == read_high_water(file)


@pytest.mark.parametrize("content", ["garbled\n", MARK.encode()])
def test_a_mark_that_says_nothing_of_this_log_stops_receipts(tmp_path: Path, content: str) -> None:
    """A file that cannot be read and one of another log: a person has to look."""
    log, file = new_log(tmp_path), tmp_path / "mark"
    file.write_text(content)

    found = judged(log, file)

    assert (False, content) == (found.may_sign(), file.read_text())
    assert "accept-rollback" in found.doubt


def test_an_accepted_rollback_is_not_asked_for_twice(tmp_path: Path) -> None:
    """The decision is in the log; a crash before the new mark was written changes nothing about it."""
    log, file = new_log(tmp_path), tmp_path / "mark"
    shutil.copy(log, tmp_path / "old.db")
    grow(log, 3)
    write_high_water(file, marked(log))
    accepted = LogStanding(epoch=1, restored_at=1, high_water=4)

    found = judged(tmp_path / "old.db", file, accepted)

    assert (True, 1, "") == (found.may_sign(), found.epoch(), found.doubt)
    mark = read_high_water(file)
    assert mark is not None
    assert (1, 1) == (mark.epoch, mark.position)


def test_an_acceptance_of_less_does_not_count(tmp_path: Path) -> None:
    """The log reached more after it was accepted, and was rolled back again."""
    log, file = new_log(tmp_path), tmp_path / "mark"
    shutil.copy(log, tmp_path / "old.db")
    grow(log, 3)
    write_high_water(file, replace(marked(log), epoch=1))

    assert not judged(tmp_path / "old.db", file, LogStanding(epoch=1, restored_at=1, high_water=3)).may_sign()


def test_a_mark_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    """The directory is away for a while; nothing fails, and the next call writes."""
    log, place = new_log(tmp_path), tmp_path / "usb"
    with SqliteSource(log) as source:
        continuity = Continuity(place / "mark", source, LogStanding())
        before = continuity.may_sign()
        place.mkdir()
        continuity.note()

    assert (True, marked(log)) == (before, read_high_water(place / "mark"))


@pytest.mark.slow
def test_heads_are_sealed_after_time_and_after_many_events(tmp_path: Path) -> None:
    """Ten minutes with one event, or ten thousand events at once; a log that only gained its seal is left alone."""
    log, clock = new_log(tmp_path), FixedClock()
    with open_store(log) as store, SqliteSource(log) as source:
        sealer = HeadSealer(store, source, LogStanding(), lambda message: keys.sign_schnorr(KEY, message, KEY), clock)
        early = sealer.seal_if_due()
        clock.forward(SECONDS)
        after_time = sealer.seal_if_due()
        clock.forward(10 * SECONDS)
        alone = sealer.seal_if_due()
        for begin in range(1, EVENTS, 1_000):
            store.append([note(STREAM, version) for version in range(begin, begin + 1_000)])
        at_once = sealer.seal_if_due()
        seals = [event.payload for event in store.read_stream(LOG_STREAM)[1:]]

    assert (False, True, False, True) == (early, after_time, alone, at_once)
    assert [1, EVENTS + 2] == [seal.position for seal in seals if isinstance(seal, HeadSealed)]


def test_a_sealed_head_verifies_with_the_tower_key(tmp_path: Path) -> None:
    """The signature binds log, position and head."""
    log, clock = new_log(tmp_path), FixedClock()
    with open_store(log) as store, SqliteSource(log) as source:
        head = source.last_commit().head
        clock.forward(0)
        sealer = HeadSealer(store, source, LogStanding(), lambda message: keys.sign_schnorr(KEY, message, KEY), clock)
        clock.forward(SECONDS)
        sealer.seal_if_due()
        seal = store.read_stream(LOG_STREAM)[1].payload
        log_id = source.meta.log_id

    assert isinstance(seal, HeadSealed)
    assert (1, head) == (seal.position, seal.head)
    assert keys.verify_schnorr(keys.xonly(keys.public_key(KEY)), sealed_head_hash(log_id, 1, head), seal.sig)


@pytest.fixture
def tower(tmp_path: Path) -> Settings:
    """A new tower whose log had come to event 4, with the copy of an older day in its place."""
    settings = Settings(network="regtest", data_dir=str(tmp_path))
    log = Path(settings.event_log_path)
    create_store(
        log, origin="t", chain_hash=chain_hash("regtest"), log_id=bytes(16), stream_key=STREAM_KEY, recorded_at=0
    )
    shutil.copy(log, tmp_path / "yesterday.db")
    with open_store(log) as store:
        for height in range(3):
            append_to_log_stream(store, ReceiptsCovered(recorded_at=height, epoch=0, by=CoveredBy.CLIENTS, missing=0))
    write_high_water(Path(settings.high_water_path), marked(log))
    shutil.copy(tmp_path / "yesterday.db", log)
    return settings


def restored(settings: Settings) -> list[StoreRestored]:
    """The acceptances in a tower's log."""
    with open_reader(Path(settings.event_log_path)) as log:
        payloads = [event.payload for event in log.read_stream(LOG_STREAM)]
    return [payload for payload in payloads if isinstance(payload, StoreRestored)]


def test_accepting_opens_the_next_epoch(tower: Settings) -> None:
    """The event says where the log goes on and how far it had come; the mark is that of the new epoch."""
    done = rollback.accept_rollback(tower, "backup of Monday")

    (event,) = restored(tower)
    mark = read_high_water(Path(tower.high_water_path))
    assert (1, 1, 4, 0) == (done.epoch, done.position, done.high_water, done.channels)
    assert (1, 1, 4, "backup of Monday") == (event.epoch, event.position, event.high_water, event.source)
    assert mark is not None
    assert (1, 2) == (mark.epoch, mark.position)
    assert Comparison.FITS is compared(mark, Path(tower.event_log_path))


@pytest.mark.slow
def test_there_is_nothing_to_accept_twice(tower: Settings) -> None:
    """Also if the process ended before the mark was renewed."""
    before = Path(tower.high_water_path).read_text()
    rollback.accept_rollback(tower, "x")
    with pytest.raises(rollback.NothingToAccept):
        rollback.accept_rollback(tower, "y")
    Path(tower.high_water_path).write_text(before)

    with pytest.raises(rollback.NothingToAccept):
        rollback.accept_rollback(tower, "z")

    assert 1 == len(restored(tower))


@pytest.mark.slow
def test_a_second_rollback_gets_another_epoch(tower: Settings, tmp_path: Path) -> None:
    """The same copy again: the epoch is in the file outside, so receipts of both times can be told apart."""
    rollback.accept_rollback(tower, "first")
    shutil.copy(tmp_path / "yesterday.db", tower.event_log_path)

    done = rollback.accept_rollback(tower, "second")

    assert (2, [2]) == (done.epoch, [event.epoch for event in restored(tower)])


def test_a_garbled_mark_can_be_accepted(tower: Settings) -> None:
    """The operator says what is true, and the file is made anew."""
    Path(tower.high_water_path).write_text("garbled")

    done = rollback.accept_rollback(tower, "x")

    mark = read_high_water(Path(tower.high_water_path))
    assert (1, 1) == (done.epoch, done.high_water)
    assert mark is not None


@pytest.mark.slow
def test_the_wait_for_clients_can_be_given_up(tower: Settings) -> None:
    """Once; the log says who decided and how many never came."""
    rollback.accept_rollback(tower, "x")
    missing = rollback.stop_waiting(tower)

    with open_reader(Path(tower.event_log_path)) as log:
        last = log.read_stream(LOG_STREAM)[-1].payload
    assert 0 == missing
    assert isinstance(last, ReceiptsCovered)
    assert (1, CoveredBy.OPERATOR, 0) == (last.epoch, last.by, last.missing)
    with pytest.raises(rollback.NothingToAccept):
        rollback.stop_waiting(tower)


def test_no_secret_is_in_the_high_water_file(tmp_path: Path) -> None:
    """The key of stream names is in the log's row beside what the file holds; it stays there."""
    log = tmp_path / "log.db"
    create_store(log, origin="a/b", chain_hash=CHAIN_HASH, log_id=bytes(16), stream_key=STREAM_KEY, recorded_at=0)
    write_high_water(tmp_path / "mark", marked(log))

    content = (tmp_path / "mark").read_bytes()
    assert STREAM_KEY.hex().encode() not in content
    assert STREAM_KEY not in content
