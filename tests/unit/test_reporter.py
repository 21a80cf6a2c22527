"""The reporter: metrics and log lines follow the event log, once, and without secrets."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from domain.chain import BlockHash, BlockRef
from domain.events import (
    BidMethod,
    BreachDetected,
    BroadcastOutcome,
    ClaimConfirmed,
    Envelope,
    Payload,
    PenaltyBroadcast,
    PenaltyPrepared,
    PreimageLearned,
    Recorded,
    Source,
    SpendConfirmed,
    SpendKind,
    SpendSeen,
    StateRevoked,
    Via,
)
from domain.units import Side
from tests.unit.test_metrics import samples
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.reporter import Reporter

STREAM = "c" + "x" * 22
COMMIT, PENALTY = b"\x01" * 32, b"\x02" * 32
BLOCK = BlockRef(height=7, hash=BlockHash(b"\x03" * 32))
SECRET = b"\xc4" * 32

SEEN = SpendSeen(
    recorded_at=0, kind=SpendKind.BREACH, txid=COMMIT, side=Side.B, sequence=3, raw=b"", source=Source.MEMPOOL, height=6
)
CONFIRMED = SpendConfirmed(
    recorded_at=0, kind=SpendKind.BREACH, txid=COMMIT, side=Side.B, sequence=3, block=BLOCK, raw=None
)
BREACH = BreachDetected(
    recorded_at=1_000_000,
    txid=COMMIT,
    side=Side.B,
    sequence=3,
    contest=COMMIT + bytes(4),
    contest_value=1_000,
    contest_spk=bytes(34),
    source=Source.MEMPOOL,
    block=None,
    deadline=None,
)
PREPARED = PenaltyPrepared(
    recorded_at=1_010_000,
    commit_txid=COMMIT,
    bid_no=1,
    replaces=None,
    txid=PENALTY,
    raw=b"",
    fee=111,
    feerate_kvb=1_000,
    method=BidMethod.RESIGN,
    rung=None,
    remaining=None,
)
SENT = PenaltyBroadcast(recorded_at=1_040_000, txid=PENALTY, outcome=BroadcastOutcome.ACCEPTED, via=Via.RAW, height=6)
REVOKED = StateRevoked(recorded_at=0, party=Side.B, sequence=3, secret=SECRET, next_point=b"\x02" * 33)


class ListLog:
    """A log in a list."""

    def __init__(self) -> None:
        self.rows: list[Recorded] = []

    def add(self, *payloads: Payload) -> None:
        """Append events of one stream."""
        for payload in payloads:
            number = len(self.rows) + 1
            self.rows.append(Recorded(number, Envelope(STREAM, number, payload.TOPIC, payload)))  # type: ignore[attr-defined]

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """Rows behind a position."""
        return self.rows[after_id : after_id + limit]

    def last_id(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def wait_beyond(self, after_id: int, timeout: float) -> bool:
        """Never waits."""
        return len(self.rows) > after_id


@pytest.fixture
def log() -> ListLog:
    """An empty log."""
    return ListLog()


@pytest.fixture
def metrics() -> Metrics:
    """A fresh registry."""
    return Metrics(build=("0", "0", "regtest", "sqlite"))


def told(log: ListLog, metrics: Metrics, *payloads: Payload) -> list[Any]:
    """Log lines about events that come after the reporter's start."""
    reporter = Reporter(log, metrics)
    log.add(*payloads)
    structlog.reset_defaults()
    with capture_logs() as lines:
        reporter.catch_up()
    return lines


def test_a_breach_is_counted_and_its_answer_timed(log: ListLog, metrics: Metrics) -> None:
    """From the durable breach event to the first acceptance of the penalty: 40 ms."""
    told(log, metrics, SEEN, BREACH, PREPARED, SENT)
    found = samples(metrics)
    assert 1 == found["watchtower_breaches_detected_total", ("mempool",)]
    assert 1 == found["watchtower_penalty_broadcasts_total", ("accepted",)]
    assert 0.04 == pytest.approx(found["watchtower_breach_response_seconds_sum", ()])
    assert 0 == found["watchtower_penalty_fee_bumps_total", ("resign",)]


def test_the_confirmation_of_a_breach_counts_nothing_again(log: ListLog, metrics: Metrics) -> None:
    """Seen in the mempool, answered, then mined: one breach and one answer."""
    mined = msgspec.structs.replace(BREACH, source=Source.BLOCK, block=BLOCK, deadline=150, recorded_at=2_000_000)
    told(log, metrics, BREACH, PREPARED, SENT, mined, SENT)
    found = samples(metrics)
    assert (1, 0) == tuple(found["watchtower_breaches_detected_total", (source,)] for source in ("mempool", "block"))
    assert 1 == found["watchtower_breach_response_seconds_count", ()]


def test_a_spend_counts_once(log: ListLog, metrics: Metrics) -> None:
    """Seen in the mempool, confirmed, reorganized and confirmed again is one spend."""
    told(log, metrics, SEEN, CONFIRMED, CONFIRMED)
    assert 1 == samples(metrics)["watchtower_funding_spends_total", ("breach",)]


def test_history_is_not_counted_again(log: ListLog, metrics: Metrics) -> None:
    """A restarted reporter begins at the end of the log."""
    log.add(SEEN, BREACH)
    assert [] == told(log, metrics)
    assert 0 == samples(metrics)["watchtower_breaches_detected_total", ("mempool",)]
    assert 2 == samples(metrics)["watchtower_event_store_notification_id", ()]


def test_a_breach_is_told_loudly_with_its_public_facts(log: ListLog, metrics: Metrics) -> None:
    """Name, level, stream, txid in display order and deadline."""
    lines = told(log, metrics, BREACH)
    assert ["breach_detected"] == [line["event"] for line in lines]
    assert ("critical", STREAM, "01" * 32, 3) == tuple(
        lines[0][key] for key in ("log_level", "channel", "txid", "sequence")
    )


def test_a_revealed_secret_is_not_told(log: ListLog, metrics: Metrics) -> None:
    """Only listed fields are told, so a secret in an event stays there."""
    lines = told(log, metrics, REVOKED)
    assert ["state_revoked"] == [line["event"] for line in lines]
    assert "c4c4" not in str(lines)
    assert repr(SECRET) not in str(lines)


@pytest.mark.parametrize(
    ("ours", "missed", "taker"), [(True, False, "ours"), (False, False, "theirs"), (False, True, "missed")]
)
def test_taken_conditional_outputs_are_counted_by_taker(
    log: ListLog, metrics: Metrics, ours: bool, missed: bool, taker: str
) -> None:
    """A missed one is what an alert rule asks for."""
    taken = ClaimConfirmed(
        recorded_at=1,
        settle_txid=bytes(32),
        condition_type=0,
        condition_id=1,
        txid=b"\x01" * 32,
        ours=ours,
        value=1_000,
        block=BLOCK,
        missed=missed,
    )
    told(log, metrics, taken)
    found = samples(metrics)
    counts = {label: found["watchtower_conditional_outputs_total", (label,)] for label in ("ours", "theirs", "missed")}
    assert {"ours": 0, "theirs": 0, "missed": 0} | {taker: 1} == counts


def test_preimages_are_counted_and_not_told(log: ListLog, metrics: Metrics) -> None:
    """From the chain and from clients; the bytes are in no log line."""
    preimages = [
        PreimageLearned(recorded_at=1, payment_hash=bytes(32), preimage=b"\xc4" * 32, source=source, txid=txid)
        for source, txid in ((Source.MEMPOOL, bytes(32)), (Source.UPLOAD, None), (Source.UPLOAD, None))
    ]
    lines = told(log, metrics, *preimages)
    found = samples(metrics)
    assert (1, 2) == tuple(found["watchtower_preimages_learned_total", (label,)] for label in ("chain", "upload"))
    assert "c4c4" not in str(lines)
    assert repr(b"\xc4" * 32) not in str(lines)
