"""Packed segments read as before; packing loses nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.exports import audited, exported, fold, long_log, small_files
from tests.support.segment_logs import LATER, Killed, audit, killer, read_all, three_segments
from watchtower.audit.findings import ExitCode
from watchtower.ports import StoreError, StoreLocked
from watchtower.store.create import open_reader, open_store
from watchtower.store.exports.write import Wish as ExportWish
from watchtower.store.exports.write import export
from watchtower.store.segments.archive import archive_segment
from watchtower.store.segments.cut import close_segment
from watchtower.store.segments.names import segment_archive, segment_file
from watchtower.store.segments.source import open_log_files

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No test changes it."""
    return three_segments(tmp_path_factory.mktemp("three"))


@pytest.fixture
def log(three: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(three.parent, tmp_path / "log")
    return tmp_path / "log" / three.name


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
    with pytest.raises(Killed):
        archive_segment(log, 0, lambda _: None, killer(step))
    assert before == read_all(log)
    if_left = [] if step == "segment_remove:after" else [archive_segment(log, 0, lambda _: None).events]

    assert if_left in ([], [268])
    assert not segment_file(log, 0).exists()
    assert before == read_all(log)
    with pytest.raises(StoreError, match="archived already"):
        archive_segment(log, 0, lambda _: None)


def test_a_database_stays_if_its_archive_is_not_equal(log: Path, tmp_path: Path) -> None:
    """Read back and compared before anything is removed."""
    with pytest.raises(Killed):
        archive_segment(log, 0, lambda _: None, killer("segment_pack:after"))
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
