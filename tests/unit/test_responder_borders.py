"""What must not keep penalties and settlements back: a log, a market or a channel that gives a strange answer."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from domain.channel import Bid, Channel
from domain.conditional import ConditionalOutput
from domain.errors import LogCorrupt
from domain.events import AlertKind, BroadcastOutcome, Envelope
from domain.fees import Market
from domain.punishing import Rival, price
from domain.units import Side
from tests.support.scenes import Scene, block
from tests.unit.test_responder_groups import TIP, Case
from watchtower.ports import NodeError, NodeUnavailable, StoreError
from watchtower.responder import claims, punish
from watchtower.responder.signing import BidAboveLimit


@pytest.fixture
def case() -> Case:
    """No channel yet."""
    return Case()


def honest(count: int) -> Case:
    """So many newest commitments of the counterparty, old enough to be settled."""
    case = Case()
    case.scene = Scene().opened(updates=3)
    case.scene.mined(case.scene.commitment(Side.B, 3), block(TIP - 200))
    return case.breached(count)


def test_claims_that_cannot_be_worked_out_stop_no_other_settlement(monkeypatch: pytest.MonkeyPatch) -> None:
    """The conditional outputs of one close cannot be read: the other two are settled."""
    case = honest(3)

    def damaged(channel: Channel, _record: object) -> Sequence[ConditionalOutput]:
        if channel.stream == case.models.streams[0]:
            raise LogCorrupt("an event cannot be decoded")
        return ()

    monkeypatch.setattr(claims, "conditional_outputs", damaged)

    report = case.responder.respond(TIP)

    assert 2 == report.settled
    assert {case.models.streams[0]} == {trouble.stream for trouble in report.troubles}


def test_fault_P4_a_log_that_refuses_one_channel_stops_no_penalty(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log will not take the intent of one of two, for no reason that we know: both penalties go out."""
    case.breached(2)
    append = case.store.append

    def refusing(job: Sequence[Envelope], *, chain: bool = False) -> int:
        if any(event.stream == case.models.streams[0] for event in job):
            raise StoreError("the log refused the operation: interrupted")
        return append(job, chain=chain)

    monkeypatch.setattr(case.store, "append", refusing)

    report = case.responder.respond(TIP)

    assert 2 == report.accepted
    assert [case.models.streams[0]] == [trouble.stream for trouble in report.troubles]
    assert [0, 1] == [len(case.fees(number)) for number in range(2)]


def test_fault_M4_a_market_that_cannot_be_read_stops_no_penalty(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node answers the question about fees with something strange: the floor alone bids, and it is told."""
    case.breached(2)

    def strange(_targets: Sequence[int]) -> Market:
        raise NodeError("getmempoolinfo: the node's reply has another shape than expected")

    monkeypatch.setattr(case.node, "fee_market", strange)

    report = case.responder.respond(TIP)

    assert 2 == report.accepted
    assert case.models.streams == [trouble.stream for trouble in report.troubles]


@pytest.mark.parametrize("last", [29_098_070, 58_196_417, 67_000_088])
def test_a_large_bid_that_stands_is_the_same_to_the_satoshi(last: int) -> None:
    """A fee goes through a feerate and back: a satoshi more would be above the ceiling, and nothing would be sent."""
    case = Case().breached(1)
    channel, market = case.channel(), Market(1.0, 1.0, 1.0)
    params = msgspec.structs.replace(channel.params, capacity=100_000_000)
    bid = Bid(case.scene.commitment(Side.B, 1).txid, 1, bytes(32), b"", last, 0)
    channel = msgspec.structs.replace(channel, params=params, bids=(bid,))
    breach = channel.present_spend
    assert breach is not None

    found = price(channel, breach, tip=TIP, market=market, rival=None, spendable=1.0)

    assert last == found.fee


def test_a_mistake_in_the_next_bid_keeps_the_last_one_out_there(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a new bid should be cannot be said: it is told, and the stored bytes go out again."""
    case.breached(1)
    case.responder.respond(TIP)

    def mistaken(*_: object, **__: object) -> None:
        raise BidAboveLimit("a fee of 501 sat was to be signed where at most 500 sat are allowed")

    monkeypatch.setattr(punish, "price", mistaken)
    report = case.responder.respond(TIP + 1)

    assert [case.node.sent[0]] * 2 == case.node.sent
    assert case.models.streams == [trouble.stream for trouble in report.troubles]


@pytest.mark.parametrize("error", [None, ValueError("unreadable")])
def test_a_key_that_is_gone_keeps_no_stored_bytes_back(
    case: Case, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """What was signed before needs no key: it goes out again each time it is absent, and a person is told."""
    case.breached(1)
    case.responder.respond(TIP)

    def gone(_name: bytes) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(case.keystore, "get", gone)
    case.node.outcomes = [BroadcastOutcome.INSUFFICIENT_FEE]
    reports = [case.responder.respond(TIP + 1), case.responder.respond(TIP + 2)]

    assert [case.node.sent[0]] * 3 == case.node.sent
    assert all(AlertKind.UNARMED_BREACH in case.channel().alerts or report.troubles for report in reports)


def test_the_owners_limit_counts_before_the_block_too(case: Case) -> None:
    """Whoever allows 2 % pays no tenth of the value in the mempool: with more to pay the answer waits for the block."""
    channel = case.seen().channel()
    breach = channel.present_spend
    assert breach is not None
    value = channel.params.contest_value

    def asked(rival_fee: int, spendable: float) -> int | None:
        rival, market = Rival(rival_fee, 111), Market(1.0, 1.0, 1.0)
        return price(channel, breach, tip=TIP, market=market, rival=rival, spendable=spendable).fee

    assert 30_112 == asked(30_000, 1.0)
    assert None is asked(30_000, 0.02)
    assert int(value * 0.02) >= (asked(10_000, 0.02) or 0) > 10_000


def test_a_node_that_is_away_at_the_first_question_ends_the_run(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a node nothing can be sent: that is no matter of fees."""
    case.breached(1)

    def away(_targets: Sequence[int]) -> Market:
        raise NodeUnavailable("connection refused")

    monkeypatch.setattr(case.node, "fee_market", away)

    with pytest.raises(NodeUnavailable):
        case.responder.respond(TIP)
