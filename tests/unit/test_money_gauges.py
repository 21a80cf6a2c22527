"""Gauges of channels, breaches and incidents: what the read models say, before and after a restart."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from domain.events import AlertRaised, BreachDetected, PenaltyPrepared, StateUpdated
from projections.open_breaches import TABLE, OpenBreachRow, stage
from projections.tables import Change, as_row
from projections.totals import Totals
from tests.support.measured import Measured
from tests.support.small_world import SWEEP
from watchtower.access import AccessFile
from watchtower.doctor.overview import stage_of
from watchtower.ports import StoreError
from watchtower.store.breach_sums import breach_sums
from watchtower.store.views import SqliteRows
from watchtower.telemetry.catalog import PROJECTIONS

COMMIT, PENALTY = b"\x01" * 32, b"\x02" * 32
ROW = OpenBreachRow(
    stream="c" + "x" * 22,
    commit_txid=COMMIT,
    side=1,
    sequence=3,
    contest=COMMIT + bytes(4),
    value=100_000,
    spk=bytes(34),
    height=None,
    block_hash=None,
    deadline=None,
    bid_no=0,
    bid_txid=None,
    bid_fee=0,
    bid_feerate_kvb=0,
    accepted=0,
    penalty_txid=None,
    penalty_height=None,
    penalty_hash=None,
    lost_txid=None,
    lost_height=None,
    answer_from=5_000_000,
    sent_txid=None,
    sent_fee=0,
    sent_feerate_kvb=0,
    unarmed=0,
)
CASES = {
    "detected": ROW,
    "broadcast": msgspec.structs.replace(ROW, bid_no=1, sent_txid=PENALTY, sent_fee=500, sent_feerate_kvb=4_500),
    "bumped": msgspec.structs.replace(ROW, bid_no=2, sent_txid=PENALTY, sent_fee=900, sent_feerate_kvb=8_100),
    "confirming": msgspec.structs.replace(ROW, bid_no=1, sent_txid=PENALTY, penalty_txid=PENALTY, penalty_height=9),
    "lost": msgspec.structs.replace(ROW, bid_no=1, sent_txid=PENALTY, lost_txid=PENALTY, lost_height=9),
    "refused": msgspec.structs.replace(ROW, bid_no=1, answer_from=4_000_000),
    "unarmed": msgspec.structs.replace(ROW, unarmed=1, height=7, deadline=150, answer_from=3_000_000),
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """An open channel, states 0 to 3 revoked; tests of this module only look at it."""
    return Measured(tmp_path_factory.mktemp("tower"))


def put(rows: SqliteRows, *cases: OpenBreachRow) -> None:
    """Write breaches of different channels."""
    changes = [
        Change(TABLE.name, (f"c{place:022}", case.commit_txid), (f"c{place:022}", *as_row(case)[1:]))
        for place, case in enumerate(cases)
    ]
    with rows.batch() as batch:
        batch.write({TABLE.name: TABLE}, changes)


# --- channels ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_open_channel_is_protected_money(scene: Measured) -> None:
    """One active channel, its capacity, four revoked states, one party, one watched outpoint."""
    assert 1 == scene.of("channels", "active")
    assert scene.world.channel.params.capacity == scene.of("protected_sats")
    assert 4 == scene.of("revoked_states_covered")
    assert (1, 0) == (scene.of("clients", "active"), scene.of("clients", "allowed"))
    assert 1 == scene.of("watched_outpoints")


@pytest.mark.slow
def test_every_projection_is_at_the_end_of_the_log(scene: Measured) -> None:
    """What lags behind the log shows by its name."""
    positions = {name: scene.of("projection_position", name) for name in PROJECTIONS}
    assert dict.fromkeys(PROJECTIONS, float(scene.world.store.last_id())) == positions
    assert scene.world.store.last_id() == scene.of("event_store_notification_id")


@pytest.mark.slow
def test_quiet_gauges_are_absent(scene: Measured) -> None:
    """No breach, no penalty, no incident: no series that an alert could take for a value."""
    quiet = (
        "breach_oldest_unanswered_timestamp_seconds",
        "breach_min_remaining_blocks",
        "penalty_min_feerate_sats_per_vbyte",
        "penalty_max_fee_ratio",
    )
    assert [None] * 4 == [scene.of(name) for name in quiet]
    assert [] == [key for key in scene.found if key[0] == "watchtower_incident_last_timestamp_seconds"]


@pytest.mark.slow
def test_the_last_state_is_known_after_a_restart(tmp_path: Path) -> None:
    """A tower whose clients are silent since before the restart must say since when."""
    scene = Measured(tmp_path)
    uploaded = scene.world.events(StateUpdated)[-1].recorded_at / 1e6
    scene.world.clock.forward(3_600)
    scene.mine(1)

    scene.restart()

    assert uploaded == scene.of("last_state_update_timestamp_seconds")


@pytest.mark.slow
def test_a_party_that_may_register_and_has_no_channel_is_allowed(tmp_path: Path) -> None:
    """The owner of the channel counts as active, whether it is on the list or not."""
    scene = Measured(tmp_path)
    channel = scene.world.channel
    access = AccessFile(tmp_path / "access.json")
    access.allow(channel.params.keys(channel.own_side).auth, "has a channel", 0)
    access.allow(b"\x07" * 32, "has none", 0)

    assert (1, 1) == (scene.of("clients", "active"), scene.of("clients", "allowed"))


# --- breaches ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_breach_goes_through_its_stages(tmp_path: Path) -> None:
    """Answered in the pass that sees it, confirming until it is 100 deep, then gone; protected money goes first."""
    scene = Measured(tmp_path)
    scene.world.cheat(2)
    scene.look()
    value = scene.world.events(BreachDetected)[0].contest_value
    bid = scene.world.events(PenaltyPrepared)[0]
    assert (1, value) == (scene.of("breaches_open", "broadcast"), scene.of("breach_at_risk_sats"))
    assert scene.world.pool.period - 1 == scene.of("breach_min_remaining_blocks")
    assert (1, bid.fee / value) == (scene.of("penalty_unconfirmed"), scene.of("penalty_max_fee_ratio"))
    assert bid.feerate_kvb / 1_000 == scene.of("penalty_min_feerate_sats_per_vbyte")
    assert scene.of("breach_oldest_unanswered_timestamp_seconds") is None

    scene.mine(1)
    scene.restart()
    assert (1, 0) == (scene.of("breaches_open", "confirming"), scene.of("breaches_open", "broadcast"))
    assert (None, 0) == (scene.of("breach_min_remaining_blocks"), scene.of("protected_sats"))
    assert 0 == scene.of("revoked_states_covered")

    scene.mine(99)
    assert (0, 0) == (scene.of("breaches_open", "confirming"), scene.of("breach_at_risk_sats"))
    assert (1, 0) == (scene.of("channels", "resolved"), scene.of("clients", "active"))
    assert 1 == scene.of("breaches_resolved_total", "penalty_confirmed")


@pytest.mark.slow
def test_a_breach_without_an_answer_says_since_when(tmp_path: Path) -> None:
    """The time of the durable event, the same after a restart an hour later; absent once the penalty is out."""
    scene = Measured(tmp_path)
    scene.world.cheat(2)
    scene.world.tower.follower.follow()
    scene.follow()
    since = scene.world.events(BreachDetected)[0].recorded_at / 1e6
    before = scene.of("breach_oldest_unanswered_timestamp_seconds"), scene.of("breaches_open", "detected")
    scene.world.clock.forward(3_600)
    scene.restart()
    after = scene.of("breach_oldest_unanswered_timestamp_seconds")

    scene.look()

    assert ((since, 1), since) == (before, after)
    assert scene.of("breach_oldest_unanswered_timestamp_seconds") is None


@pytest.mark.slow
def test_a_breach_that_waits_for_its_block_is_not_late(tmp_path: Path) -> None:
    """Deferred on purpose: no clock runs. When the responder says so no more, it runs from the durable event."""
    scene = Measured(tmp_path)
    assert scene.world.chain.send(scene.world.pool.commitments[1]) is None
    scene.world.tower.mempool.look(SWEEP)
    scene.deferred = {scene.world.stream}
    scene.follow()
    waiting = scene.of("breaches_open", "deferred"), scene.of("breach_oldest_unanswered_timestamp_seconds")

    scene.deferred = set()

    assert (1, None) == waiting
    assert (0, 1) == (scene.of("breaches_open", "deferred"), scene.of("breaches_open", "detected"))
    since = scene.world.events(BreachDetected)[0].recorded_at / 1e6
    assert since == scene.of("breach_oldest_unanswered_timestamp_seconds")


@pytest.mark.parametrize("name", CASES)
def test_the_database_sees_the_stage_that_the_program_sees(tmp_path: Path, name: str) -> None:
    """Both definitions of the stages are one."""
    rows = Measured.views(tmp_path)
    put(rows, CASES[name])
    assert {stage(CASES[name]): 1} == breach_sums(rows).stages


@pytest.mark.parametrize("name", CASES)
def test_the_list_of_breaches_says_what_the_metrics_say(name: str) -> None:
    """Who was woken by `blocked` must not read that the penalty is being made. Only a settled breach is told apart."""
    expected = {"lost": "lost"}.get(name, stage(CASES[name]))
    assert expected == stage_of(CASES[name])


def test_sums_are_those_of_undecided_breaches(tmp_path: Path) -> None:
    """What is in a block needs no deadline, no feerate and no clock; everything counts as value."""
    rows = Measured.views(tmp_path)
    put(rows, *CASES.values())
    found = breach_sums(rows)

    assert {"detected": 1, "broadcast": 2, "confirming": 1, "blocked": 3} == found.stages
    assert 7 * 100_000 == found.value
    assert (150, 2, 4_500, 0.009) == (found.deadline, found.sent, found.feerate_kvb, found.fee_ratio)
    assert (3_000_000, [5_000_000]) == (found.unanswered_from, list(found.waiting.values()))


# --- incidents --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_incident_keeps_the_time_at_which_it_was_recorded(tmp_path: Path) -> None:
    """The owner published a revoked state: after a restart the time of the event stands there, not the block's."""
    scene = Measured(tmp_path)
    scene.world.clock.forward(50_000)
    scene.world.chain.mine([scene.world.pool.own_commitments[1]])
    scene.look()
    (alert,) = scene.world.events(AlertRaised)
    scene.world.clock.forward(7_200)

    scene.restart()

    incidents = {labels[0]: at for (name, labels), at in scene.found.items() if name.endswith("incident_last_" + STAMP)}
    assert {"self_breach": alert.recorded_at / 1e6} == incidents


STAMP = "timestamp_seconds"


# --- all of them ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sums_in_the_database_are_those_of_the_changes(tmp_path: Path) -> None:
    """The rows of a real file, summed at a start, say what the running process kept."""
    scene = Measured(tmp_path)
    scene.world.cheat(3)
    scene.look()

    kept, fresh = scene.models.totals, Totals(scene.rows).now()

    assert {"UNILATERAL": 1} == {status: number for status, number in kept.channels.items() if number}
    assert (fresh.revoked_states, fresh.owners, fresh.protected_sats) == (
        kept.revoked_states,
        kept.owners,
        kept.protected_sats,
    )


def test_what_is_asked_of_all_rows_needs_an_index(tmp_path: Path) -> None:
    """A scan of a million rows is not made by mistake."""
    rows = Measured.views(tmp_path)
    with pytest.raises(ValueError, match="no index over side"):
        rows.sums(TABLE, "side", ())


@pytest.mark.slow
def test_metrics_are_shown_although_the_views_cannot_be_read(tmp_path: Path) -> None:
    """The sums keep their last values, the failure is counted, and everything else is told as ever."""
    scene = Measured(tmp_path)
    before = scene.of("channels", "active")
    with scene.rows.datastore.raw(commit=True) as connection:
        connection.execute(f"DROP TABLE {TABLE.name}")

    found = scene.found

    assert (1, 1) == (before, found["watchtower_channels", ("active",)])
    assert 1 == found["watchtower_event_store_errors_total", ("operational", "select_events")]
    assert 0 < found["watchtower_storage_size_bytes", ()]


@pytest.mark.slow
def test_sums_that_cannot_be_read_keep_no_breach_from_being_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registration and its breach are known although the database counts no owners; later all sums are made anew."""

    def fails(*_args: object) -> int:
        raise StoreError("disk I/O error")

    monkeypatch.setattr(SqliteRows, "count", fails)
    scene = Measured(tmp_path)
    scene.world.cheat(2)
    scene.look()
    contested = scene.models.contested()
    monkeypatch.undo()

    scene.mine(1)

    assert [scene.world.stream] == contested
    assert {"PUNISHED": 1} == {status: number for status, number in scene.models.totals.channels.items() if number}
    assert 1 == scene.of("clients", "active")


@pytest.mark.slow
def test_metrics_are_shown_although_the_disk_cannot_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape that fails would page as a tower that is gone, while it answers breaches from memory."""
    scene = Measured(tmp_path)

    def fails(_path: Path) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(shutil, "disk_usage", fails)
    with capture_logs() as logs:
        found = scene.found

    assert 1 == found["watchtower_channels", ("active",)]
    assert ["gauges_failed"] == [line["event"] for line in logs]
