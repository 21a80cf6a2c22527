"""A log in several segments: it reads as one, streams and heads run on, a kill leaves one state or the other."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from domain.events import LOG_STREAM, LogOpened, SegmentClosed
from tests.support.exports import audited, fold, long_log
from tests.support.segment_logs import LATER, OLD, audit, read_all, three_segments
from tests.support.stores import new_log, note
from watchtower.audit.findings import ExitCode
from watchtower.ports import StoreConflict
from watchtower.store.create import open_reader, open_store
from watchtower.store.datastore import connect
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.exports.write import Wish as ExportWish
from watchtower.store.exports.write import export
from watchtower.store.rebuild import digests, open_views
from watchtower.store.segments.cut import close_segment
from watchtower.store.segments.names import segment_file
from watchtower.store.segments.source import SegmentedSource, open_log_files

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
