"""The thread behind the commits: mark, seals, and the reason that holds while a restored log lacks something."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from domain.contract import keys
from domain.events import (
    LOG_STREAM,
    AlertCleared,
    CoveredBy,
    Envelope,
    HeadSealed,
    HoldingsConfirmed,
    ReceiptsCovered,
    StoreRestored,
    envelopes,
)
from projections.catalog import PROJECTIONS
from projections.log_standing import LogStanding
from projections.projector import Projector
from tests.support.clocks import FixedClock
from tests.support.histories import OTHER_STREAM, History, interleaved
from tests.support.new_towers import create
from tests.support.stores import new_log, note
from watchtower.bootstrap.parts import open_parts
from watchtower.config import load
from watchtower.continuity.continuity import Continuity
from watchtower.continuity.coverage import Coverage
from watchtower.continuity.heads import REASON, HeadKeeper, standing_of
from watchtower.continuity.sealing import SECONDS, HeadSealer
from watchtower.ports import StoreFull
from watchtower.store.create import open_store
from watchtower.store.event_store import SqliteEventStore
from watchtower.store.high_water import HighWater, read_high_water, write_high_water
from watchtower.store.log_stream import append_to_log_stream
from watchtower.store.rebuild import open_views
from watchtower.store.sqlite_source import SqliteSource
from watchtower.store.views import SqliteRows
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import ReadinessBoard
from watchtower.telemetry.tasks import TaskReport

KEY = b"\x07" * 32
LIVING = [1, 2, 5]


class Stage:
    """A log with two living channels, its views, and everything that looks after its heads."""

    def __init__(self, directory: Path) -> None:
        self.path, self.mark, self.clock = new_log(directory), directory / "mark", FixedClock()
        self.store: SqliteEventStore = open_store(self.path)
        for recorded in interleaved(History().play(LIVING).events, History(OTHER_STREAM).play(LIVING).events):
            self.store.append([recorded.envelope], chain=True)
        self.rows: SqliteRows = open_views(directory / "views.db", self.store)
        self.source = SqliteSource(self.path)
        self.metrics = Metrics(build=("0", "0", "regtest", "sqlite"))
        self.board = ReadinessBoard(self.metrics)

    @property
    def streams(self) -> list[str]:
        """Those of the channels."""
        found = {recorded.envelope.stream for recorded in self.store.read_log(0, 1_000)}
        return sorted(stream for stream in found if stream.startswith("c") and len(stream) == 23)

    @property
    def reasons(self) -> dict[str, str]:
        """What holds now."""
        return {reason.name: reason.detail for reason in self.board.snapshot().reasons}

    def keeper(self) -> HeadKeeper:
        """As at a start."""
        standing = standing_of(self.store, self.rows)
        return HeadKeeper(
            store=self.store,
            continuity=Continuity(self.mark, self.source, standing),
            coverage=Coverage(standing, self.store, self.rows),
            sealer=HeadSealer(
                self.store, self.source, standing, lambda message: keys.sign_schnorr(KEY, message, KEY), self.clock
            ),
            board=self.board,
            clock=self.clock,
            report=TaskReport(self.metrics, "heads"),
        )

    def accept(self, epoch: int = 1) -> int:
        """The log went on from here; where that is."""
        position = self.store.last_id()
        event = StoreRestored(
            recorded_at=0, epoch=epoch, position=position, head=bytes(32), high_water=position + 9, source="test"
        )
        append_to_log_stream(self.store, event)
        return position

    def confirm(self, stream: str, epoch: int = 1) -> None:
        """The owner of a channel compared it."""
        event = HoldingsConfirmed(recorded_at=0, epoch=epoch, sequence=1)
        self.store.append(envelopes(stream, self.store.version(stream), (event,)))

    def catch_up(self) -> None:
        """Bring the views to the end."""
        for _ in Projector(self.store, self.rows, PROJECTIONS).catch_up():
            pass

    def close(self) -> None:
        """Close everything."""
        self.source.close()
        self.rows.close()
        self.store.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """One log."""
    made = Stage(tmp_path)
    yield made
    made.close()


@pytest.mark.slow
def test_a_rolled_back_log_is_a_reason_until_all_owners_came(stage: Stage) -> None:
    """Each owner counts once; then the log says that it lacks nothing, and the next start knows it."""
    stage.accept()
    keeper = stage.keeper()
    first, *others = stage.streams
    at_first = stage.reasons
    stage.confirm(first)
    keeper.turn()
    in_between = (stage.reasons, keeper.awaits(first), keeper.awaits(others[0]))
    for stream in others:
        stage.confirm(stream)
    keeper.turn()
    last = stage.store.read_stream(LOG_STREAM)[-1].payload
    again = stage.keeper()

    assert {REASON: "restored log, epoch 1: 2 channels were not compared yet"} == at_first
    assert ({REASON: "restored log, epoch 1: 1 channels were not compared yet"}, False, True) == in_between
    assert ({}, None, None) == (stage.reasons, keeper.behind(), again.behind())
    assert isinstance(last, ReceiptsCovered)
    assert (1, CoveredBy.CLIENTS, 0) == (last.epoch, last.by, last.missing)


@pytest.mark.slow
def test_a_restart_goes_on_waiting_for_those_who_did_not_come(stage: Stage) -> None:
    """What was confirmed is in the log, also behind the views."""
    position = stage.accept()
    stage.confirm(stage.streams[0])
    behind = stage.keeper().behind()
    stage.catch_up()
    caught_up = stage.keeper().behind()

    assert behind is not None
    assert (position, position + 9, 1, True) == (behind.since, behind.high_water, behind.channels, behind.accepted)
    assert behind == caught_up


@pytest.mark.slow
def test_a_confirmation_of_an_earlier_epoch_does_not_count(stage: Stage) -> None:
    """The log was rolled back once more since."""
    stage.accept()
    stage.confirm(stage.streams[0])
    stage.accept(epoch=2)

    behind = stage.keeper().behind()

    assert behind is not None
    assert 2 == behind.channels


@pytest.mark.slow
def test_a_log_that_was_not_accepted_is_told_and_left_unsealed(stage: Stage) -> None:
    """The reason says what to do; no mark is written, no head is sealed, nothing is waited for."""
    log_id = stage.source.meta.log_id
    write_high_water(stage.mark, HighWater("test/log", log_id, 0, 1_000, bytes(32)))
    keeper = stage.keeper()
    stage.clock.forward(SECONDS)
    before = stage.store.last_id()
    keeper.turn()
    behind, mark = keeper.behind(), read_high_water(stage.mark)

    assert "accept-rollback" in stage.reasons[REASON]
    assert behind is not None
    assert (before, 1_000, 0, False) == (behind.since, behind.high_water, behind.channels, behind.accepted)
    assert mark is not None
    assert (before, 1_000) == (stage.store.last_id(), mark.position)


@pytest.mark.slow
def test_the_thread_follows_the_log(stage: Stage) -> None:
    """A commit is in the mark within a second or two, also on a busy machine."""
    keeper = stage.keeper()
    keeper.start()
    wanted = stage.accept() + 1
    deadline = time.monotonic() + 30
    while (mark := read_high_water(stage.mark)) and mark.position < wanted and time.monotonic() < deadline:
        stage.store.wait_beyond(10**9, 0.02)

    assert keeper.stop(30)
    assert mark is not None
    assert wanted <= mark.position


@pytest.mark.slow
def test_what_fails_in_the_thread_stops_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once, and the next turn tries again."""
    keeper, calls = stage.keeper(), []

    def fail() -> None:
        calls.append(1)
        raise ValueError("unexpected")

    monkeypatch.setattr(keeper, "turn", fail)
    keeper.start()
    deadline = time.monotonic() + 30
    while len(calls) < 2 and time.monotonic() < deadline:
        stage.store.wait_beyond(10**9, 0.02)

    assert keeper.stop(30)
    assert len(calls) >= 2


def test_the_view_of_the_log_itself_follows_its_stream(stage: Stage) -> None:
    """Epoch, gap and what covers it, page by page as from the log."""
    position = stage.accept()
    from_log = standing_of(stage.store, stage.rows)
    stage.catch_up()

    expected = LogStanding(epoch=1, restored_at=position, high_water=position + 9)
    assert [expected, expected] == [from_log, standing_of(stage.store, stage.rows)]


@pytest.mark.slow
def test_fault_P4_no_seal_takes_the_id_of_a_fact_that_waits(tmp_path: Path) -> None:
    """In the parts of a real service: space comes back, the seal is due first, and the waiting facts keep their ids."""
    anywhere = {"listen": "127.0.0.1:0"}
    made = create(tmp_path / "t", tmp_path / "t" / "config.toml", "regtest", {"api": anywhere, "admin": anywhere})
    parts = open_parts(
        load({}, config_path=str(made.config_path)).settings, Metrics(build=("0", "0", "regtest", "sqlite"))
    )
    append = parts.store.append

    def full(job: Sequence[Envelope], *, chain: bool = False) -> int:
        raise StoreFull("no space")

    parts.store.append = full  # type: ignore[method-assign]
    waiting = parts.overflow.append([note("c1", 1)], chain=True)
    parts.store.append = append  # type: ignore[method-assign]
    parts.heads._sealer._since = float("-inf")

    with pytest.raises(StoreFull, match="facts of the chain wait"):
        parts.heads.turn()
    flushed = parts.overflow.flush()
    parts.heads.turn()

    found = [recorded.envelope.topic for recorded in parts.store.read_log(waiting - 1, 9)]
    parts.close()
    assert flushed
    assert [AlertCleared.TOPIC, HeadSealed.TOPIC] == found


def test_no_head_is_sealed_twice(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tower's own copy of its log that cannot be written has no newer head, however much the log has grown."""
    sealer, copied = stage.keeper()._sealer, stage.source.last_commit()
    monkeypatch.setattr("watchtower.continuity.sealing.EVENTS", 1)
    first = sealer.seal_if_due()
    monkeypatch.setattr(stage.source, "last_commit", lambda: copied)
    stage.store.append([note("c1", 1), note("c1", 2)])

    assert (True, False) == (first, sealer.seal_if_due())
