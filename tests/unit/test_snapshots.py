"""Folds of long streams that are kept beside the views: the same channel as from the first event, but at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.channel_fold import fold
from domain.events import Envelope
from projections.catalog import PROJECTIONS
from projections.projector import Projector
from tests.bench.bulk_log import write_rows
from tests.bench.scale_log import long_channel
from tests.support.histories import History
from tests.support.stores import new_log
from watchtower import repository
from watchtower.models import LiveModels
from watchtower.repository import READ_FROM_SNAPSHOT, Channels
from watchtower.store import rebuild as rebuilding
from watchtower.store import snapshots as keeping
from watchtower.store.create import open_reader, open_store
from watchtower.store.rebuild import open_views, rebuild
from watchtower.store.snapshots import ChannelSnapshots
from watchtower.store.views import SqliteRows, new_views_file

STEPS = [1, 3, 11, 2, 5, 17, 9, 1, 2, 30, 40, 6, 3, 8, 12, 19, 21, 7]


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[SqliteRows]:
    """Empty views."""
    made = new_views_file(tmp_path / "views.db", bytes(16), PROJECTIONS)
    yield made
    made.close()


class Counting:
    """A log that remembers how many events were read from it."""

    def __init__(self, events: list[Envelope]) -> None:
        self.events = events
        self.read = 0

    def version(self, _stream: str) -> int:
        """The last version."""
        return len(self.events)

    def read_stream(self, _stream: str, after: int = 0, limit: int | None = None) -> list[Envelope]:
        """Events behind a version."""
        found = self.events[after:] if limit is None else self.events[after : after + limit]
        self.read += len(found)
        return found


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch) -> History:
    """A channel with a story; streams count as long from their first event."""
    monkeypatch.setattr(repository, "READ_FROM_SNAPSHOT", 1)
    return History().play(STEPS)


def test_a_fold_goes_on_from_any_snapshot(rows: SqliteRows, history: History) -> None:
    """Wherever it was taken, the channel is that of the whole stream, and only what follows is read."""
    snapshots, events = ChannelSnapshots(rows), history.events
    for taken in range(1, len(events) + 1):
        kept = fold(None, events[:taken])
        assert kept is not None
        snapshots.keep([kept])
        log = Counting(events)

        assert fold(None, events) == Channels(log, snapshots=snapshots).find(history.stream)  # type: ignore[arg-type]
        assert (taken, len(events) - taken) == (snapshots.version(history.stream), log.read)


def test_a_snapshot_of_another_shape_is_passed_over(
    rows: SqliteRows, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that folds otherwise reads the stream from its first event."""
    snapshots = ChannelSnapshots(rows)
    snapshots.keep([history.channel])
    monkeypatch.setattr(keeping, "shape", lambda: bytes(32))
    log = Counting(history.events)

    assert history.channel == Channels(log, snapshots=snapshots).find(history.stream)  # type: ignore[arg-type]
    assert (0, None, len(history.events)) == (
        snapshots.version(history.stream),
        snapshots.load(history.stream),
        log.read,
    )


def test_a_snapshot_that_is_longer_than_the_log_is_passed_over(rows: SqliteRows, history: History) -> None:
    """It belongs to a history that this log does not have."""
    snapshots = ChannelSnapshots(rows)
    snapshots.keep([history.channel])
    log = Counting(history.events[:5])

    assert fold(None, history.events[:5]) == Channels(log, snapshots=snapshots).find(history.stream)  # type: ignore[arg-type]


def test_the_shape_is_the_same_in_every_process() -> None:
    """No address and no order of a set is in it."""
    keeping.shape.cache_clear()
    first = keeping.shape()
    keeping.shape.cache_clear()

    assert first == keeping.shape()
    assert "0x" not in repr(keeping.msgspec.inspect.type_info(keeping.Channel))


def test_the_read_models_keep_a_long_channel(tmp_path: Path, rows: SqliteRows) -> None:
    """Each stretch of events leaves one snapshot, which the next run finds."""
    stream, made = long_channel(3 * READ_FROM_SNAPSHOT)
    directory = tmp_path / "log"
    directory.mkdir()
    with open_reader(write_rows(directory, made)) as log:
        snapshots = ChannelSnapshots(rows)
        channels = Channels(log)  # type: ignore[arg-type]
        LiveModels(Projector(log, rows, PROJECTIONS, page=32), rows, channels, snapshots=snapshots).catch_up()

        assert log.version(stream) == snapshots.version(stream)
        assert channels.find(stream) == snapshots.load(stream)


def test_a_rebuild_takes_snapshots_of_long_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to wait for the first fold after it."""
    monkeypatch.setattr(rebuilding, "LONG", 20)
    stream, made = long_channel(30)
    with open_reader(write_rows(tmp_path, made)) as log:
        rebuild(tmp_path / "views.db", log)
        found = SqliteRows(tmp_path / "views.db")

        assert fold(None, log.read_stream(stream)) == ChannelSnapshots(found).load(stream)
        found.close()


def test_a_short_channel_has_none(tmp_path: Path) -> None:
    """Its fold takes less time than a look-up."""
    history = History().play(STEPS)
    with open_store(new_log(tmp_path)) as store:
        store.append(history.events, chain=True)
        rows = open_views(tmp_path / "views.db", store)

        assert [] == rows.select("SELECT * FROM channel_snapshots", ())
        rows.close()
