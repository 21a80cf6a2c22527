"""Counters of breaches and money: once each, whatever is seen twice, reorganized or read after a restart."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from domain.chain import BlockHash, BlockRef
from domain.events import (
    BidMethod,
    BreachDetected,
    ChannelResolved,
    Payload,
    PenaltyConfirmed,
    ResolvedAs,
    SettleConfirmed,
    SoftFinal,
    Source,
    SpendDisconnected,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.support.measured import Measured
from tests.unit.test_metrics import samples
from tests.unit.test_reporter import BLOCK, BREACH, COMMIT, CONFIRMED, PENALTY, PREPARED, SEEN, SENT, STREAM
from watchtower.telemetry.contests import Contests
from watchtower.telemetry.metrics import Metrics

MINED = msgspec.structs.replace(BREACH, source=Source.BLOCK, block=BLOCK, deadline=150, recorded_at=601_000_000)
LATER = BlockRef(height=9, hash=BlockHash(b"\x04" * 32))
SWEPT = PenaltyConfirmed(recorded_at=700_000_000, commit_txid=COMMIT, txid=PENALTY, block=LATER, fee=111, swept=889)
FINAL = SoftFinal(recorded_at=800_000_000, txid=PENALTY, block=LATER, depth=6)
LOSS = SettleConfirmed(
    recorded_at=0,
    commit_txid=COMMIT,
    txid=b"\x05" * 32,
    side=Side.B,
    sequence=3,
    revoked=True,
    value=1_000,
    block=LATER,
)
UNDONE = SpendDisconnected(recorded_at=0, txid=COMMIT, block=BLOCK)


@pytest.fixture
def metrics() -> Metrics:
    """A fresh registry."""
    return Metrics(build=("0", "0", "regtest", "sqlite"))


def told(metrics: Metrics, *payloads: Payload, durable_at: float = 1.0) -> dict[tuple[str, tuple[str, ...]], float]:
    """What a scraper reads after these events of one channel."""
    contests = Contests(metrics)
    for payload in payloads:
        contests.tell(STREAM, payload, durable_at)
    return {(name.removeprefix("watchtower_"), labels): value for (name, labels), value in samples(metrics).items()}


def resolved(outcome: ResolvedAs) -> ChannelResolved:
    """The end of the channel."""
    return ChannelResolved(recorded_at=0, outcome=outcome, txid=PENALTY, block=LATER, depth=100)


def test_money_comes_back_when_its_penalty_is_six_deep(metrics: Metrics) -> None:
    """A confirmed penalty counts nothing yet; then what it swept, its fee, and two blocks after the commitment."""
    before = told(metrics, CONFIRMED, MINED, PREPARED, SENT, SWEPT)
    assert (0, 0) == (before["penalty_recovered_sats_total", ()], before["breach_resolution_blocks_count", ()])

    found = told(metrics, CONFIRMED, MINED, PREPARED, SENT, SWEPT, FINAL)

    assert 889 == found["penalty_recovered_sats_total", ()]
    assert 111 == found["penalty_fees_paid_sats_total", ()]
    assert 1 == found["breach_resolution_blocks_bucket", ("2.0",)]
    assert 0 == found["breach_resolution_blocks_bucket", ("1.0",)]


def test_money_that_is_six_deep_a_second_time_counts_once(metrics: Metrics) -> None:
    """A reorg of seven blocks takes the penalty out; it confirms again and is final again."""
    found = told(metrics, CONFIRMED, MINED, PREPARED, SENT, SWEPT, FINAL, UNDONE, CONFIRMED, SWEPT, FINAL)
    assert (889, 111) == (found["penalty_recovered_sats_total", ()], found["penalty_fees_paid_sats_total", ()])


def test_money_is_lost_with_the_first_block_of_a_revoked_settlement(metrics: Metrics) -> None:
    """At once and once, also when the block is replaced and the settlement stands in another one."""
    found = told(metrics, CONFIRMED, MINED, LOSS, LOSS)
    assert 1_000 == found["penalty_lost_sats_total", ()]


def test_an_honest_settlement_loses_nothing(metrics: Metrics) -> None:
    """Only a revoked one takes what is not its owner's."""
    found = told(metrics, CONFIRMED, msgspec.structs.replace(LOSS, revoked=False))
    assert 0 == found["penalty_lost_sats_total", ()]


def test_a_deferred_breach_is_timed_from_its_block(metrics: Metrics) -> None:
    """Nobody bid in the mempool for ten minutes, on purpose; the answer takes a second after the block."""
    answer = msgspec.structs.replace(SENT, recorded_at=602_000_000)
    found = told(metrics, SEEN, BREACH, CONFIRMED, MINED, PREPARED, answer)
    assert 1.0 == found["breach_response_seconds_sum", ()]


def test_a_breach_with_a_bid_is_timed_from_the_mempool(metrics: Metrics) -> None:
    """The first bid was refused: the block does not start the clock again."""
    answer = msgspec.structs.replace(SENT, recorded_at=602_000_000)
    found = told(metrics, SEEN, BREACH, PREPARED, CONFIRMED, MINED, answer)
    assert 601.0 == found["breach_response_seconds_sum", ()]


def test_a_penalty_that_stands_in_a_block_was_accepted(metrics: Metrics) -> None:
    """Another tower of the owner sent it: the clock stops with the block that holds it."""
    found = told(metrics, CONFIRMED, MINED, SWEPT)
    assert (1, 99.0) == (found["breach_response_seconds_count", ()], found["breach_response_seconds_sum", ()])


@pytest.mark.parametrize(
    ("source", "label"),
    [(Source.MEMPOOL, "mempool"), (Source.BLOCK, "block"), (Source.CATCH_UP, "catch_up"), (Source.AUDIT, "block")],
)
def test_detection_is_timed_until_the_breach_is_durable(metrics: Metrics, source: Source, label: str) -> None:
    """From the receipt of the commitment to the commit of the event: 0.2 seconds, by where it was seen."""
    found = told(metrics, msgspec.structs.replace(BREACH, source=source), durable_at=1.2)
    assert 0.2 == pytest.approx(found["breach_detection_delay_seconds_sum", (label,)])
    assert 1 == found["breach_detection_delay_seconds_bucket", ("0.25", label)]


def test_detection_is_timed_once(metrics: Metrics) -> None:
    """The confirmation of a breach that was seen in the mempool detects nothing."""
    found = told(metrics, BREACH, MINED)
    counts = [found["breach_detection_delay_seconds_count", (source,)] for source in ("mempool", "block", "catch_up")]
    assert [1, 0, 0] == counts


@pytest.mark.parametrize(
    ("events", "outcome", "result"),
    [
        ((SEEN, BREACH), ResolvedAs.PUNISHED, "penalty_confirmed"),
        ((SEEN, BREACH), ResolvedAs.LOST, "counterparty_won"),
        ((SEEN, BREACH), ResolvedAs.COOP, "honest_close"),
        ((SEEN, BREACH), ResolvedAs.SETTLED, "honest_close"),
        ((CONFIRMED, MINED, UNDONE), ResolvedAs.SETTLED, "reorged_out"),
        ((SEEN, BREACH), ResolvedAs.DOUBLE_SPENT, "reorged_out"),
    ],
)
def test_the_end_of_a_breach_has_one_result(
    metrics: Metrics, events: tuple[Payload, ...], outcome: ResolvedAs, result: str
) -> None:
    """Punished, lost, replaced by an honest close in the mempool, or gone with a block that held it."""
    found = told(metrics, *events, resolved(outcome))
    ends = {labels[0]: value for (name, labels), value in found.items() if name == "breaches_resolved_total" and value}
    assert {result: 1} == ends


def test_a_channel_without_a_breach_resolves_no_breach(metrics: Metrics) -> None:
    """A cooperative close is nobody's incident."""
    found = told(metrics, resolved(ResolvedAs.COOP))
    assert 0 == sum(value for (name, _), value in found.items() if name == "breaches_resolved_total")


def test_a_rung_of_a_ladder_is_another_bump_than_a_new_signature(metrics: Metrics) -> None:
    """The first bid is none; the second is counted by how it was made."""
    rung = msgspec.structs.replace(PREPARED, bid_no=2, method=BidMethod.LADDER, rung=1)
    found = told(metrics, PREPARED, rung, msgspec.structs.replace(PREPARED, bid_no=3))
    assert (1, 1) == tuple(found["penalty_fee_bumps_total", (method,)] for method in ("resign", "ladder"))


# --- in a tower, with a restart ---------------------------------------------------------------------------------


def commitment(scene: Measured, sequence: int) -> bytes:
    """The stale commitment's bytes."""
    return scene.world.pool.commitments[sequence]


@pytest.mark.slow
def test_a_restart_counts_no_breach_again(tmp_path: Path) -> None:
    """Seen and answered before, in a block after it: the new process counts neither breach, spend nor answer."""
    scene = Measured(tmp_path)
    assert scene.world.chain.send(commitment(scene, 2)) is None
    scene.look()
    first = [scene.of("breaches_detected_total", "mempool"), scene.of("breach_response_seconds_count")]

    scene.restart()
    scene.mine(1)

    assert [1, 1] == first
    assert "PUNISHED" == scene.world.status
    again = [(name, value) for (name, _), value in scene.found.items() if value and name in COUNTED]
    assert [] == again


COUNTED = (
    "watchtower_breaches_detected_total",
    "watchtower_funding_spends_total",
    "watchtower_breach_response_seconds_count",
    "watchtower_breach_detection_delay_seconds_count",
    "watchtower_penalty_recovered_sats_total",
)


@pytest.mark.slow
def test_an_answer_after_a_restart_is_timed_from_the_breach(tmp_path: Path) -> None:
    """The process ended between breach and answer: the next one observes the whole time."""
    scene = Measured(tmp_path)
    scene.world.cheat(2)
    scene.world.tower.models.catch_up()
    scene.world.tower.follower.follow()
    scene.follow()
    assert (1, 0) == (scene.of("breaches_detected_total", "block"), scene.of("breach_response_seconds_count"))

    scene.restart()
    scene.world.clock.forward(30)
    scene.look()

    assert 1 == scene.of("breach_response_seconds_count")
    assert 30 <= (scene.of("breach_response_seconds_sum") or 0)
    assert 0 == scene.of("breaches_detected_total", "block")


@pytest.mark.slow
def test_money_counts_once_over_restart_and_deep_reorg(tmp_path: Path) -> None:
    """Six deep, restart, eight blocks replaced, six deep again: the first process counts, the second does not."""
    scene = Measured(tmp_path)
    scene.world.cheat(1)
    scene.look()
    scene.mine(6)
    swept = scene.world.penalty(1)
    assert swept is not None
    fee = scene.world.events(BreachDetected)[0].contest_value - swept.outputs[0].value
    counted = [scene.of("penalty_recovered_sats_total"), scene.of("penalty_fees_paid_sats_total")]

    scene.restart()
    stale = commitment(scene, 1)
    scene.world.chain.reorg(8, [[stale]] + [[]] * 8)
    scene.look()
    scene.mine(7)

    assert [swept.outputs[0].value, fee] == counted
    assert 2 == len(scene.world.events(SoftFinal))
    assert [0, 0] == [scene.of("penalty_recovered_sats_total"), scene.of("penalty_fees_paid_sats_total")]


@pytest.mark.slow
def test_events_are_counted_by_what_they_are_about(tmp_path: Path) -> None:
    """A block with a breach is one event of the chain and several of the channel, none of the log itself."""
    scene = Measured(tmp_path)
    scene.restart()
    scene.world.cheat(3)
    before = len(scene.world.store.read_stream(scene.world.stream))
    scene.look()

    own = len(scene.world.store.read_stream(scene.world.stream)) - before
    counts = [scene.of("event_store_events_total", label) for label in ("channel", "chain", "log")]
    assert [own, 1, 0] == counts
    assert Transaction.parse(commitment(scene, 3)).txid == scene.world.events(BreachDetected)[0].txid
