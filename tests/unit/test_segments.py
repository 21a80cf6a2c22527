"""A log in several segments: it reads as one, streams and heads run on, a kill leaves one state or the other."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from types import SimpleNamespace

import pytest

from domain.events import LOG_STREAM, LogOpened, Recorded, SegmentClosed
from tests.support.exports import audited, exported, fold, long_log, small_files
from tests.support.stores import CHAIN_HASH, new_log, note
from watchtower.audit.findings import ExitCode, Report
from watchtower.audit.progress import Progress
from watchtower.audit.resume import Notebook
from watchtower.audit.verify import Audit, Wish
from watchtower.config import Settings
from watchtower.config.settings import StoreSettings
from watchtower.ports import StoreBusy, StoreConflict, StoreError, StoreLocked
from watchtower.store.create import open_reader, open_store
from watchtower.store.datastore import connect
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.exports.write import Wish as ExportWish
from watchtower.store.exports.write import export
from watchtower.store.places import open_log
from watchtower.store.rebuild import digests, open_views
from watchtower.store.segments.archive import archive_segment
from watchtower.store.segments.cut import close_grown_segment, close_segment
from watchtower.store.segments.names import segment_archive, segment_file
from watchtower.store.segments.source import SegmentedSource, open_log_files

pytestmark = pytest.mark.slow

OLD, NEW = "k" + "0" * 21 + "6", "k" + "z" * 22
LATER = 1_700_000_100_000_000
"""Microseconds: behind every event of the log."""


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log in three segments that no test changes; the stream OLD has events in all of them."""
    path = long_log(tmp_path_factory.mktemp("three"))
    for number in range(2):
        close_segment(path, LATER)
        with open_store(path, chain_hash=CHAIN_HASH) as store:
            store.append([note(OLD, store.version(OLD) + 1, number), note(OLD, store.version(OLD) + 2)])
            store.append([note(NEW, number + 1)])
    return path


@pytest.fixture
def log(three: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(three.parent, tmp_path / "log")
    return tmp_path / "log" / three.name


def read_all(path: Path) -> list[Recorded]:
    """Every event of a log."""
    with open_reader(path) as reader:
        return reader.read_log(0, 10**6)


def audit(path: Path, scratch: Path) -> Report:
    """The report on all segments of a log."""
    with open_log_files(path) as source:
        wish = Wish(storage=True, stretch=50)
        progress = Progress("none", sys.stderr, monotonic)
        return Audit(source, wish, Notebook(None, scratch, monotonic), progress, threading.Event()).run()


def test_ids_versions_and_events_run_on(three: Path) -> None:
    """The events of three files are one sequence, with the closing and opening events at the borders."""
    events = read_all(three)
    versions = [event.envelope.version for event in events if event.envelope.stream == OLD]
    marks = [type(event.envelope.payload) for event in events if event.envelope.stream == LOG_STREAM]

    assert list(range(1, len(events) + 1)) == [event.id for event in events]
    assert list(range(1, len(versions) + 1)) == versions
    assert [LogOpened, SegmentClosed, LogOpened, SegmentClosed, LogOpened] == marks


@pytest.mark.parametrize("after", [0, 3, 6, 7, 8, 9, 10, 11])
@pytest.mark.parametrize("limit", [None, 1, 3, 20])
def test_a_stream_is_read_across_segments(three: Path, after: int, limit: int | None) -> None:
    """From any version on, with any limit, as from one file."""
    whole = [event.envelope for event in read_all(three) if event.envelope.stream == OLD]
    with open_reader(three) as reader:
        found = reader.read_stream(OLD, after, limit)

    assert whole[after:][:limit] == found


def test_a_stream_is_read_backwards_across_segments(three: Path) -> None:
    """The library's own callers may ask for the newest events first."""
    with open_reader(three) as reader:
        recorder = reader._recorder
        found = {
            limit: [row.originator_version for row in recorder.select_events(OLD, desc=True, lte=9, limit=limit)]
            for limit in (1, 4, 20)
        }

    assert {1: [9], 4: [9, 8, 7, 6], 20: [9, 8, 7, 6, 5, 4, 3, 2, 1]} == found


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_pages_of_the_log_cross_borders(three: Path, limit: int) -> None:
    """A projector that reads page by page sees every event once."""
    whole, position = [], 0
    with open_reader(three) as reader:
        while page := reader.read_log(position, limit):
            whole += page
            position = page[-1].id

    assert read_all(three) == whole


def test_topics_and_bounds_are_respected_across_segments(three: Path) -> None:
    """The library's subscription asks for some topics only."""
    with open_reader(three) as reader:
        recorder = reader._recorder
        found = recorder.select_notifications(None, 4, topics=["lg01", "lg08"])
        bounded = recorder.select_notifications(266, 10, stop=270)

    assert ["lg01", "lg08", "lg01", "lg08"] == [row.topic for row in found]
    assert [266, 267, 268, 269, 270] == [row.id for row in bounded]


def test_a_stream_of_an_older_segment_cannot_begin_again(log: Path) -> None:
    """Registering a channel twice collides, whichever file holds the first one; the right version is accepted."""
    with open_store(log) as store:
        with pytest.raises(StoreConflict) as caught:
            store.append([note(OLD, 1, 4711)])
        last = store.version(OLD)
        store.append([note(OLD, last + 1)])

    assert (last, 0) == (caught.value.actual, caught.value.expected)


def test_the_same_append_again_is_answered_from_an_older_segment(log: Path) -> None:
    """A caller that lost its answer before the segment was closed gets the ids that were given then."""
    with open_store(log) as store:
        event = next(each for each in store.read_log(0, 1000) if each.envelope.stream == OLD)

        assert event.id == store.append([event.envelope])


def test_the_file_alone_refuses_a_second_beginning(log: Path) -> None:
    """Triggers, not the program: version 1 of a known stream, a gap, and any change of the row that knows it."""
    insert = "INSERT INTO stored_events (originator_id, originator_version, topic, state) "
    statements = [
        f"{insert} VALUES ('{OLD}', 1, 're06', x'90')",
        f"{insert} VALUES ('{OLD}', 99, 're06', x'90')",
        f"{insert} VALUES ('kk', 2, 're06', x'90')",
        "UPDATE stream_base SET version = 0",
        "DELETE FROM stream_base",
        "INSERT OR REPLACE INTO stream_base VALUES ('kk', 1, 0)",
    ]
    connection = sqlite3.connect(log)
    for statement in statements:
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)
    connection.close()


def test_places_of_old_events_are_those_of_the_source(three: Path) -> None:
    """A receipt of an event in a closed segment can be made again."""
    with open_reader(three) as reader, open_log_files(three) as source:
        for event_id in (1, 100, 268, 270, reader.last_id()):
            commit = source.commit_at(event_id)
            assert commit is not None

            assert (event_id, commit.head) == (reader.place(event_id).position, reader.place(event_id).head)


@pytest.mark.slow
def test_views_are_folded_from_all_segments(three: Path, tmp_path: Path) -> None:
    """Read models made before and after the closing have equal digests."""
    whole = long_log(tmp_path)
    with open_store(whole) as store:
        rows = open_views(tmp_path / "whole.db", store)
        before = digests(rows)
        rows.close()
    close_segment(whole, LATER)
    with open_store(whole) as store:
        kept = open_views(tmp_path / "whole.db", store)
        after = digests(kept)
        kept.close()

    assert before == after


def test_an_audit_goes_across_all_segments(three: Path, tmp_path: Path) -> None:
    """Every event of every file is looked at, and nothing is wrong."""
    report = audit(three, tmp_path / "scratch")

    assert (ExitCode.PASSED, len(read_all(three))) == (report.exit_code, report.events)
    assert 0 == report.log.segment


@pytest.mark.slow
def test_an_export_holds_all_segments(three: Path, tmp_path: Path) -> None:
    """It is checked without them, and so is a part that begins within one or at a border."""
    with open_log_files(three) as source:
        borders = [border.first_id for border in source.meta.borders]
        for name, first in (("whole", 1), ("border", borders[0]), ("part", borders[1] - 1)):
            export(source, tmp_path / name, ExportWish(first), fold, lambda _: None)
    reports = [audited(tmp_path / name, tmp_path / "scratch", replay=True) for name in ("whole", "border", "part")]

    assert [ExitCode.PASSED, ExitCode.INCOMPLETE, ExitCode.INCOMPLETE] == [report.exit_code for report in reports]
    assert len(read_all(three)) == reports[0].events


def test_the_source_of_a_log_in_one_file_is_that_file(tmp_path: Path) -> None:
    """Nothing changes for a log that was never closed."""
    with open_log_files(new_log(tmp_path)) as source:
        assert not isinstance(source, SegmentedSource)
        assert () == source.meta.borders


def test_an_address_opens_all_segments(three: Path) -> None:
    """The processes of an audit see the same log."""
    with open_log_files(three) as source:
        again = source.address.open()

        assert source.last_commit() == again.last_commit()
        again.close()


@pytest.mark.parametrize("number", [0, 1])
def test_a_missing_segment_is_named(log: Path, tmp_path: Path, number: int) -> None:
    """The tower does not start, the audit ends with 21, and both say which one."""
    segment_file(log, number).rename(tmp_path / "elsewhere")

    with pytest.raises(StoreCheckFailed, match=f"segment {number} of the log is missing"):
        open_store(log)
    report = audit(log, tmp_path / "scratch")
    assert ExitCode.ORDER == report.exit_code
    assert f"segment {number} of the log is missing" in " ".join(each.sentence for each in report.findings)


@pytest.mark.slow
def test_a_segment_of_another_place_is_refused(log: Path, tmp_path: Path) -> None:
    """Two segments under each other's name."""
    one, two = segment_file(log, 0), segment_file(log, 1)
    one.rename(tmp_path / "aside")
    two.rename(one)
    (tmp_path / "aside").rename(two)

    with pytest.raises(StoreCheckFailed, match="does not go on where"):
        open_store(log)
    assert ExitCode.PASSED != audit(log, tmp_path / "scratch").exit_code


def test_a_changed_event_in_a_closed_segment_is_named(log: Path, tmp_path: Path) -> None:
    """Read only is no protection against its owner; the audit names the event."""
    file = segment_file(log, 0)
    file.chmod(0o600)
    connection = sqlite3.connect(file)
    connection.execute("DROP TRIGGER events_no_update")
    connection.execute("UPDATE stored_events SET state = x'9001' WHERE rowid = 77")
    connection.commit()
    connection.close()
    report = audit(log, tmp_path / "scratch")

    assert ExitCode.INTEGRITY == report.exit_code
    assert 77 in [finding.position for finding in report.findings]


def test_a_closed_segment_is_a_plain_read_only_file(three: Path) -> None:
    """No write-ahead log stands beside it, and nobody may write it."""
    files = sorted(segment_file(three, 0).parent.iterdir())
    connection = connect(files[0], read_only=True, immutable=True)

    assert ["000000.db", "000001.db"] == [file.name for file in files]
    assert {0o444} == {stat.S_IMODE(file.stat().st_mode) for file in files}
    assert "delete" == connection.execute("PRAGMA journal_mode").fetchone()[0]
    connection.close()


def test_a_log_of_another_network_gets_no_new_segment(log: Path) -> None:
    """Its last event could not be taken back; whoever set the wrong network is told at the start."""
    with open_reader(log) as reader:
        before = reader.last_id()

    with pytest.raises(StoreCheckFailed, match="the log follows another block chain"):
        close_grown_segment(log, 0, LATER, chain_hash=bytes(32))

    with open_reader(log) as reader:
        assert before == reader.last_id()


@pytest.mark.slow
def test_closing_needs_a_stopped_tower_and_no_reader(log: Path) -> None:
    """The lock of the tower, and any other program that has the file open, stop it; nothing is changed."""
    with open_store(log), pytest.raises(StoreLocked):
        close_segment(log, LATER)
    with open_reader(log) as reader:
        last = reader.last_id()
        with pytest.raises(StoreBusy, match="another program reads"):
            close_segment(log, LATER)
        assert not close_grown_segment(log, 0, LATER)
    with open_store(log) as store:
        assert (2, last) == (store.meta.segment, store.last_id())


@pytest.mark.slow
def test_a_reader_between_decision_and_switch_delays_only_the_switch(log: Path) -> None:
    """The tower waits for it with a sentence, and finishes afterwards."""
    with pytest.raises(_Killed):
        close_segment(log, LATER, _killer("segment_build:after"))
    with open_reader(log) as reader:
        reader.last_id()
        with pytest.raises(StoreBusy, match="another program reads"):
            open_store(log)
    with open_store(log) as store:
        assert 3 == store.meta.segment


def test_the_start_of_the_service_asks_for_it(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `store.segment_mb`, and not without."""
    asked = []
    monkeypatch.setattr(
        "watchtower.store.places.close_grown_segment", lambda path, limit, _, *, chain_hash: asked.append((path, limit))
    )
    for megabytes in (0, 3):
        store = StoreSettings(url=f"sqlite:{log}", segment_mb=megabytes)
        with pytest.raises(StoreCheckFailed, match="another block chain"):
            open_log(Settings(network="signet", store=store))

    assert [(log, 3 << 20)] == asked


def test_a_file_that_has_grown_is_closed_at_the_next_start(log: Path) -> None:
    """Not below the limit, and not again right afterwards."""
    size = log.stat().st_size
    with open_store(log) as store:
        store.append([note(NEW, 3)])

    assert not close_grown_segment(log, size, LATER)
    assert close_grown_segment(log, size - 1, LATER)
    assert not close_grown_segment(log, log.stat().st_size, LATER)
    assert not close_grown_segment(log.with_name("none.db"), 0, LATER)


def test_an_empty_segment_is_not_closed(tmp_path: Path) -> None:
    """A border behind a border would help nobody."""
    with pytest.raises(StoreError, match="nothing to close"):
        close_segment(new_log(tmp_path), LATER)


STEPS = [
    f"segment_{step}:{when}"
    for step in ("decide", "build", "detach", "link", "switch", "protect")
    for when in ("before", "after")
]


class _Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def _killer(at: str) -> Callable[[str], None]:
    def failpoint(name: str) -> None:
        if name == at:
            raise _Killed(name)

    return failpoint


KILL = """
import os, signal, sys
from pathlib import Path
from watchtower.store.segments.cut import close_segment
def die(name):
    if name == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
close_segment(Path(sys.argv[1]), int(sys.argv[2]), die)
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_fault_P8_a_kill_at_any_step_leaves_the_old_or_the_new_state(tmp_path: Path, step: str) -> None:
    """All events are there, readers can read, and the next start has one segment or two, whole and verified."""
    path = long_log(tmp_path)
    before = read_all(path)
    killed = subprocess.run([sys.executable, "-c", KILL, str(path), str(LATER), step], check=False, timeout=60)
    between = read_all(path)
    with open_store(path, chain_hash=CHAIN_HASH) as store:
        store.append([note(OLD, store.version(OLD) + 1)])
        segments = store.meta.segment
    after = read_all(path)

    assert -signal.SIGKILL == killed.returncode
    assert before == between[: len(before)] == after[: len(before)]
    assert segments == (0 if step == "segment_decide:before" else 1)
    assert ExitCode.PASSED == audit(path, tmp_path / "scratch").exit_code
    assert not path.with_name(path.name + ".new").exists()


@pytest.mark.slow
def test_a_closing_that_was_interrupted_again_and_again_is_finished(tmp_path: Path) -> None:
    """Each opening begins the unfinished steps anew."""
    path = long_log(tmp_path)
    with pytest.raises(_Killed):
        close_segment(path, LATER, _killer("segment_link:after"))
    for step in ("segment_build:after", "segment_switch:before", "segment_protect:before"):
        with pytest.raises(_Killed):
            open_store(path, failpoint=_killer(step))
    with open_store(path) as store:
        assert 1 == store.meta.segment
    assert ExitCode.PASSED == audit(path, tmp_path / "scratch").exit_code


@pytest.mark.slow
def test_something_in_the_way_of_a_segment_is_not_overwritten(tmp_path: Path) -> None:
    """The closing says what to move, and goes on when it was moved."""
    path = long_log(tmp_path)
    segment_file(path, 0).parent.mkdir()
    segment_file(path, 0).write_text("precious")

    with pytest.raises(StoreError, match="in the way"):
        close_segment(path, LATER)
    assert "precious" == segment_file(path, 0).read_text()
    segment_file(path, 0).unlink()
    with open_store(path) as store:
        assert 1 == store.meta.segment


# ── packed segments ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def packed(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same log with both closed segments packed, in small frames; no test changes it."""
    directory = tmp_path_factory.mktemp("packed") / "log"
    shutil.copytree(three.parent, directory)
    with pytest.MonkeyPatch.context() as monkeypatch:
        small_files(monkeypatch)
        monkeypatch.setattr("watchtower.store.exports.streams.MOST_IDS", 3)
        for number in (0, 1):
            archive_segment(directory / three.name, number, lambda _: None)
    return directory / three.name


def test_packed_segments_read_as_before(three: Path, packed: Path) -> None:
    """The log, every stream of it from any version, and places."""
    whole = read_all(three)
    streams = sorted({event.envelope.stream for event in whole})
    with open_reader(packed) as reader, open_reader(three) as before:
        assert whole == reader.read_log(0, 10**6)
        for stream in streams:
            assert before.read_stream(stream) == reader.read_stream(stream)
            assert before.read_stream(stream, 2, 3) == reader.read_stream(stream, 2, 3)
        assert [] == reader.read_stream("k" + "a" * 22)
        assert [before.place(number) for number in (1, 99, 268)] == [reader.place(number) for number in (1, 99, 268)]


def test_packed_segments_are_smaller_and_the_databases_gone(three: Path, packed: Path) -> None:
    """That is what packing is for."""
    before = sum(path.stat().st_size for path in segment_file(three, 0).parent.iterdir())
    after = sum(path.stat().st_size for path in segment_file(packed, 0).parent.rglob("*") if path.is_file())

    assert ["000000", "000001"] == sorted(path.name for path in segment_file(packed, 0).parent.iterdir())
    assert after < before


def test_an_audit_and_an_export_go_across_packed_segments(three: Path, packed: Path, tmp_path: Path) -> None:
    """Both see the same log as before; equal exports."""
    report = audit(packed, tmp_path / "scratch")
    for name, path in (("before", three), ("after", packed)):
        with open_log_files(path) as source:
            export(source, tmp_path / name, ExportWish(), fold, lambda _: None)

    assert (ExitCode.PASSED, len(read_all(packed))) == (report.exit_code, report.events)
    assert (tmp_path / "before" / "manifest.json").read_bytes() == (tmp_path / "after" / "manifest.json").read_bytes()


def test_an_archive_is_an_export_that_can_be_checked_alone(packed: Path, tmp_path: Path) -> None:
    """The first one passes, a later one is incomplete because the log does not begin in it."""
    first = audited(segment_archive(packed, 0), tmp_path / "scratch")
    second = audited(segment_archive(packed, 1), tmp_path / "scratch")

    assert [ExitCode.PASSED, ExitCode.INCOMPLETE] == [first.exit_code, second.exit_code]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["events", "entries", "commits", "streams"])
def test_a_damaged_archive_is_found_and_other_segments_are_read(packed: Path, tmp_path: Path, kind: str) -> None:
    """By the audit of the whole log, and by that of the archive alone."""
    shutil.copytree(packed.parent, tmp_path / "log")
    log = tmp_path / "log" / packed.name
    file = next((segment_archive(log, 0) / kind).iterdir())
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    with open_log_files(log) as source:
        last = source.last_id()

        assert last == source.rows(last, last)[0][0]
    assert ExitCode.MALFORMED_EXPORT == audited(segment_archive(log, 0), tmp_path / "scratch").exit_code
    assert ExitCode.PASSED != audit(log, tmp_path / "scratch").exit_code


@pytest.mark.slow
@pytest.mark.parametrize("step", ["segment_pack:after", "segment_remove:before", "segment_remove:after"])
def test_fault_P8_a_kill_while_packing_loses_nothing(log: Path, tmp_path: Path, step: str) -> None:
    """The segment is there as a database, an archive or both; the same command goes on, or says that it is done."""
    before = read_all(log)
    with pytest.raises(_Killed):
        archive_segment(log, 0, lambda _: None, _killer(step))
    assert before == read_all(log)
    if_left = [] if step == "segment_remove:after" else [archive_segment(log, 0, lambda _: None).events]

    assert if_left in ([], [268])
    assert not segment_file(log, 0).exists()
    assert before == read_all(log)
    with pytest.raises(StoreError, match="archived already"):
        archive_segment(log, 0, lambda _: None)


def test_a_database_stays_if_its_archive_is_not_equal(log: Path, tmp_path: Path) -> None:
    """Read back and compared before anything is removed."""
    with pytest.raises(_Killed):
        archive_segment(log, 0, lambda _: None, _killer("segment_pack:after"))
    file = next((segment_archive(log, 0) / "events").iterdir())
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)

    with pytest.raises(StoreError, match="not what was written"):
        archive_segment(log, 0, lambda _: None)
    assert segment_file(log, 0).exists()


def test_only_closed_segments_are_packed_and_no_running_tower_is_disturbed(log: Path) -> None:
    """The present segment, one that never was, and a log that is served."""
    for number in (2, 7):
        with pytest.raises(StoreError, match="is not closed"):
            archive_segment(log, number, lambda _: None)
    with open_store(log), pytest.raises(StoreLocked):
        archive_segment(log, 0, lambda _: None)


@pytest.mark.slow
def test_exports_of_the_same_events_are_equal_before_and_after_closing(tmp_path: Path) -> None:
    """Closing a file changes no event: entries and states of the same positions have the same bytes."""
    path = long_log(tmp_path)
    first = exported(path, tmp_path / "before")
    close_segment(path, LATER)
    with open_log_files(path) as source:
        second = export(source, tmp_path / "after", ExportWish(until=first.last_position), fold, lambda _: None)

    assert first == second


def test_fault_P4_a_full_disk_does_not_keep_a_tower_with_a_grown_log_from_starting(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little space for another file: nothing is decided, and the log is opened as it is."""
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=1_000))
    monkeypatch.setattr("watchtower.store.places.chain_hash", lambda _network: CHAIN_HASH)
    before = log.stat().st_size
    monkeypatch.setattr(
        "watchtower.store.places.close_grown_segment",
        lambda path, _limit, at, *, chain_hash: close_grown_segment(path, before - 1, at, chain_hash=chain_hash),
    )

    with open_log(Settings(network="regtest", store=StoreSettings(url=f"sqlite:{log}", segment_mb=1))) as store:
        last = store.last_id()
        appended = store.append([note(NEW, store.version(NEW) + 1)])

    assert (last + 1, 2) == (appended, store.meta.segment)
