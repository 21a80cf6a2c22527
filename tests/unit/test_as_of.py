"""Points of the log as people write them, and the prefixes that they mean at the edges."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.as_of import AsOf, one_point, time_text
from domain.chain import display
from domain.errors import MalformedInput, UnknownPoint
from projections.catalog import PROJECTIONS
from projections.landmarks import LANDMARKS, MOMENTS, STRETCH, Landmarks, Moments
from projections.projector import Projector
from tests.fakes.rows import MemoryRows
from tests.support.histories import History
from tests.support.past import MINUTE, PastLog, check_engine
from tests.support.scenes import FUNDED_AT, STREAM, block
from tests.support.stores import new_log, note
from watchtower.history.channels import PastChannels
from watchtower.history.points import Point, point_at, resolve
from watchtower.ports import StoreBusy
from watchtower.store.create import open_store
from watchtower.store.rebuild import open_views

HASH = "00" * 28 + "01b2c3d4"


def views_of(log: PastLog) -> MemoryRows:
    """Read models at the end of a log."""
    rows = MemoryRows()
    list(Projector(log, rows, PROJECTIONS).catch_up())
    return rows


def position(log: PastLog, as_of: AsOf) -> int:
    """Where a point of a log is."""
    return resolve(log, views_of(log), as_of).position


# ── as people write them ─────────────────────────────────────────────────────────────────────────────────


def test_one_of_five() -> None:
    """Each option alone is a point; none is no point, and two are named both."""
    assert one_point() is None
    assert AsOf(height=7) == one_point(height=7)
    with pytest.raises(MalformedInput, match="none was given"):
        AsOf()
    with pytest.raises(MalformedInput, match="both at and height"):
        AsOf(height=7, at="2026-01-31T12:00:00Z")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:01z", 1_000_000),
        ("1970-01-01T00:00:00.0000019Z", 1),
        ("1970-01-01T00:00:00.5+00:00", 500_000),
        ("1969-12-31T23:59:59-00:00", -1_000_000),
        ("2026-01-31T12:00:00Z", 1_769_860_800_000_000),
    ],
)
def test_times_are_rfc_3339_in_utc(text: str, expected: int) -> None:
    """To the microsecond; what is finer is dropped."""
    assert expected == AsOf(at=text).microseconds
    assert expected == AsOf(at=time_text(expected)).microseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00:00+01:00",
        "2026-02-30T12:00:00Z",
        "٢026-01-31T12:00:00Z",
    ],
)
def test_other_times_are_refused(text: str) -> None:
    """Local times above all: the log knows UTC only."""
    with pytest.raises(MalformedInput, match="time"):
        AsOf(at=text)


@pytest.mark.parametrize("text", ["", "00", HASH.upper(), HASH + "0", "x" * 64])
def test_other_hashes_are_refused(text: str) -> None:
    """64 lower-case digits, as block explorers show them."""
    with pytest.raises(MalformedInput, match="64"):
        AsOf(block=text)


@pytest.mark.parametrize("number", [-1, 2**53, "7", 1.5])
def test_other_numbers_are_refused(number: int) -> None:
    """Negative ones, and those that not every reader of JSON can hold."""
    with pytest.raises(MalformedInput, match="height is a whole number"):
        AsOf(height=number)


def test_a_point_is_one_parameter() -> None:
    """Times in one form, so that a plus sign survives a query."""
    assert {"at": "2026-01-31T12:00:00Z"} == AsOf(at="2026-01-31T12:00:00+00:00").query()
    assert {"block": HASH} == AsOf(block=HASH).query()
    assert "height 812345" == str(AsOf(height=812_345))


# ── what they mean ───────────────────────────────────────────────────────────────────────────────────────


def test_a_height_ends_with_what_its_block_caused() -> None:
    """The whole job of the block belongs to it, what was stored afterwards does not."""
    log, events = PastLog(), iter(History().events)
    log.connect([next(events), next(events), next(events)])
    log.job(others=[next(events)])

    assert position(log, AsOf(height=FUNDED_AT)) == log.job_ends[-2] == 6
    assert 3 == PastChannels(log).version(STREAM, point_at(log, 6))


def test_a_height_after_a_reorg_is_that_of_the_chain_of_now() -> None:
    """The block that was disconnected is found by its hash only, and its prefix ends before it was disconnected."""
    log = PastLog()
    stale = log.connect(branch=0)
    log.disconnect()
    fresh = log.connect(branch=1)

    assert 5 == position(log, AsOf(height=FUNDED_AT)) == position(log, AsOf(block=display(fresh.hash)))
    assert 3 == position(log, AsOf(block=display(stale.hash)))


def test_a_block_that_came_back_is_its_newest_connection() -> None:
    """Height and hash agree on it."""
    log = PastLog()
    again = log.connect()
    log.disconnect()
    log.connect()

    assert 5 == position(log, AsOf(height=FUNDED_AT)) == position(log, AsOf(block=display(again.hash)))


def test_a_height_that_is_not_connected_now_is_not_there() -> None:
    """The sentence says where the tower stands."""
    log = PastLog()
    log.connect()
    log.disconnect()

    with pytest.raises(UnknownPoint, match=f"height {FUNDED_AT} .*stands at height {FUNDED_AT - 1}"):
        position(log, AsOf(height=FUNDED_AT))
    with pytest.raises(UnknownPoint, match="never connected"):
        position(log, AsOf(block=display(block(FUNDED_AT, 3).hash)))


def test_times_that_are_equal_belong_together() -> None:
    """All events of one microsecond are before it ends."""
    log = PastLog()
    log.now = MINUTE
    log.connect()
    log.connect()

    assert 2 == position(log, AsOf(at=time_text(MINUTE - 1)))
    assert 4 == position(log, AsOf(at=time_text(MINUTE)))


def test_a_clock_that_ran_back_hides_what_follows() -> None:
    """The prefix ends before the first later event, although earlier times follow behind it."""
    log = PastLog()
    log.now = 5 * MINUTE
    log.connect()
    log.now = 2 * MINUTE
    log.connect()

    assert 2 == position(log, AsOf(at=time_text(3 * MINUTE)))
    assert 4 == position(log, AsOf(at=time_text(5 * MINUTE)))


def test_before_the_first_event_there_is_nothing() -> None:
    """Position 0 is a point without time and block."""
    log = PastLog()

    assert Point(0) == resolve(log, views_of(log), AsOf(at="1969-07-20T20:17:40Z"))
    assert Point(0) == resolve(log, views_of(log), AsOf(position=0))


@pytest.mark.parametrize("as_of", [AsOf(position=3), AsOf(id=3)])
def test_beyond_the_end_there_is_no_point(as_of: AsOf) -> None:
    """A later time, however, is the end of the log."""
    log = PastLog()

    with pytest.raises(UnknownPoint, match="beyond the end of the log, which has 2 events"):
        position(log, as_of)
    assert 2 == position(log, AsOf(at="2999-01-01T00:00:00Z"))


def test_a_point_tells_its_block_and_time() -> None:
    """Those of the last event and of the cursor behind it."""
    log = PastLog()
    log.now = MINUTE
    log.connect()
    log.disconnect()

    assert Point(3, MINUTE, block(FUNDED_AT)) == point_at(log, 3)
    assert Point(4, MINUTE, block(FUNDED_AT - 1)) == resolve(log, views_of(log), None)


def test_read_models_far_behind_the_log_are_no_ground_for_a_time() -> None:
    """A service does not read a long log for a question; a block is found all the same."""
    log, rows = PastLog(), MemoryRows()
    log.connect()

    with pytest.raises(StoreBusy, match="3 events behind"):
        resolve(log, rows, AsOf(at="2026-01-31T12:00:00Z"), max_scan=2)
    assert 3 == resolve(log, rows, AsOf(height=FUNDED_AT), max_scan=2).position


# ── on a real log ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_older_read_models_get_landmarks_at_the_next_start(tmp_path: Path) -> None:
    """A views file of a version without them is made anew when it is opened."""
    without = tuple(each for each in PROJECTIONS if not isinstance(each, Landmarks | Moments))
    with open_store(new_log(tmp_path)) as store:
        store.append([note("c" + "x" * 22, version) for version in range(1, STRETCH + 1)][:1000])
        open_views(tmp_path / "views.db", store, without).close()

        rows = open_views(tmp_path / "views.db", store)
        moments = rows.page(MOMENTS, None, 10)
        landmarks = rows.page(LANDMARKS, None, 10)
        rows.close()

    assert [(0, 1)] == moments
    assert [] == landmarks


@pytest.mark.slow
def test_points_of_a_log_in_a_file(tmp_path: Path) -> None:
    """SQLite answers as memory does."""
    with open_store(new_log(tmp_path)) as store:
        check_engine(store, tmp_path / "views.db", lambda path: open_views(path, store))


def test_a_fold_of_a_long_stream_goes_on_from_one_that_was_kept() -> None:
    """The second question about a channel reads less than a step of its events."""

    class Counting(PastLog):
        """Counts the events that are read."""

        read = 0

        def read_stream(self, stream: str, after: int = 0, limit: int | None = None):  # type: ignore[no-untyped-def]
            """As the log, counted."""
            found = super().read_stream(stream, after, limit)
            self.read += len(found)
            return found

    log = Counting()
    events = History().events
    log.job(others=events)
    log.job(others=[note(STREAM, version) for version in range(len(events) + 1, 990)])
    log.job(others=[note(STREAM, version) for version in range(990, 1_500)])
    past, point = PastChannels(log), Point(log.last_id())

    first, log.read = past.info(STREAM, point), 0
    second, read = past.info(STREAM, point), log.read

    assert first == second
    assert 499 == read
