"""Honest closes: the settlement, its first block, its records."""

from __future__ import annotations

import pytest

from domain.channel import Spend
from domain.contract.commitment import contest_txout
from domain.contract.keys import verify_schnorr
from domain.contract.revocation import revocation_public
from domain.contract.settlement import settlement_sighash
from domain.events import (
    AlertKind,
    AlertRaised,
    BroadcastOutcome,
    SettleBroadcast,
    SettlePrepared,
    SpendKind,
)
from domain.settling import (
    ReadySettlement,
    has_settlement,
    ready_settlement,
    settle_answered,
    settle_prepared,
    settlement_missing,
)
from domain.spending import disconnected
from domain.units import Side
from domain.updating import decide_revoke, decide_update
from tests.support.scenes import NOW, Scene, block

T = 144


def closed(scene: Scene, side: Side, sequence: int, height: int = 200, branch: int = 0) -> Spend:
    """A commitment in a block."""
    scene.mined(scene.commitment(side, sequence), block(height, branch))
    spend = scene.channel.confirmed_spend
    assert spend is not None
    return spend


def ready(scene: Scene, close: Spend) -> ReadySettlement:
    """The settlement, which must exist."""
    found = ready_settlement(scene.channel, close)
    assert has_settlement(scene.channel, close)
    assert found is not None
    return found


# ── the settlement ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("own", list(Side))
@pytest.mark.parametrize("side", list(Side))
def test_an_honest_close_of_either_side_is_settled_by_the_stored_signatures(own: Side, side: Side) -> None:
    """The very transaction that both parties signed, complete, with its fee."""
    scene = Scene(own).opened(3)

    plan = ready(scene, closed(scene, side, 3))

    assert scene.settlement(side, 3) == plan.tx
    assert (side, 3, 420) == (plan.side, plan.sequence, plan.fee)


def test_C03_the_settlement_is_sent_at_exactly_one_block_before_its_first() -> None:
    """A mempool accepts it from tip h_c + T - 1; the block h_c + T may hold it."""
    scene = Scene().opened(3)

    plan = ready(scene, closed(scene, Side.B, 3, height=200))

    assert 200 + T == plan.valid_from
    assert T == plan.tx.inputs[0].sequence


def test_the_settlement_is_signed_for_the_contest_output_of_the_close() -> None:
    """Both signatures verify on the recomputed message, in the order of the leaf."""
    scene = Scene().opened(3)
    close = closed(scene, Side.B, 3)
    key = revocation_public(scene.params.keys(Side.A).rev, scene.points(3)[Side.B])
    plan = ready(scene, close)

    message = settlement_sighash(scene.params, plan.tx, key)
    high, low = plan.tx.inputs[0].witness[:2]
    keys = sorted((scene.params.keys_a.settle, scene.params.keys_b.settle))

    assert close.contest == plan.tx.inputs[0].outpoint
    assert contest_txout(scene.params, key) == scene.commitment(Side.B, 3).outputs[0]
    assert [True, True] == [verify_schnorr(keys[0], message, low), verify_schnorr(keys[1], message, high)]


@pytest.mark.parametrize("sequence", [1, 2])
@pytest.mark.parametrize("side", list(Side))
def test_B12_both_states_in_flight_can_be_settled(side: Side, sequence: int) -> None:
    """Between messages 2 and 4 either state may be published by either side."""
    scene = Scene().opened(1)
    scene.then(decide_update(scene.channel, scene.update_in_flight(2)))

    plan = ready(scene, closed(scene, side, sequence))

    assert scene.settlement(side, sequence) == plan.tx


def test_B12_a_state_that_its_publisher_never_completed_can_be_settled() -> None:
    """Behind message 2 only the proposer can publish; its settlement needs no signature that it kept back."""
    scene = Scene().opened(1)
    close = closed(scene, Side.B, 2)
    missing = ready_settlement(scene.channel, close)
    scene.then(decide_update(scene.channel, scene.update_in_flight(2, scene.cut_short(2))))

    assert missing is None
    assert scene.settlement(Side.B, 2) == ready(scene, close).tx


def test_an_own_close_stays_settled_when_the_counterparty_revokes_the_state_later() -> None:
    """State 2 in flight, we publish state 1, then the secret of state 1 arrives."""
    scene = Scene().opened(1)
    scene.then(decide_update(scene.channel, scene.update_in_flight(2)))
    close = closed(scene, Side.A, 1)

    scene.then(decide_revoke(scene.channel, scene.revocation(1)))

    assert scene.settlement(Side.A, 1) == ready(scene, close).tx


@pytest.mark.parametrize(
    ("side", "sequence", "kind"),
    [
        (Side.B, 1, SpendKind.BREACH),
        (Side.A, 1, SpendKind.SELF_BREACH),
        (Side.B, 4, SpendKind.PEER_CLOSE),
        (Side.B, 7, SpendKind.FUTURE_STATE),
    ],
)
def test_other_closes_have_no_settlement_here(side: Side, sequence: int, kind: SpendKind) -> None:
    """Stale states are not settled, and what was never uploaded cannot be."""
    scene = Scene().opened(3)

    close = closed(scene, side, sequence)

    assert kind is close.kind
    assert ready_settlement(scene.channel, close) is None
    assert not has_settlement(scene.channel, close)


def test_an_unconfirmed_close_has_no_settlement_yet() -> None:
    """Without a height there is no first block."""
    scene = Scene().opened(3)
    scene.seen(scene.commitment(Side.B, 3))
    spend = scene.channel.present_spend
    assert spend is not None

    assert ready_settlement(scene.channel, spend) is None
    assert not has_settlement(scene.channel, spend)


def test_a_missing_settlement_is_an_alert_once() -> None:
    """The owner's party must settle, and is told so."""
    scene = Scene().opened(3)
    close = closed(scene, Side.B, 4)

    events = scene.then(settlement_missing(scene.channel, close, 200, NOW))

    assert [AlertRaised] == [type(event) for event in events]
    assert {AlertKind.SETTLEMENT_UNAVAILABLE} == scene.channel.alerts
    assert [] == settlement_missing(scene.channel, close, 201, NOW)


# ── its records ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_settlement_is_prepared_once() -> None:
    """The intent holds the bytes; the next pass finds it."""
    scene = Scene().opened(3)
    plan = ready(scene, closed(scene, Side.B, 3))

    events = scene.then(settle_prepared(scene.channel, plan, NOW))

    assert isinstance(events[0], SettlePrepared)
    assert (plan.tx.serialize(), 200 + T) == (events[0].raw, events[0].valid_from)
    assert [] == settle_prepared(scene.channel, plan, NOW)


def test_R05_a_settlement_is_prepared_again_for_another_height() -> None:
    """The same bytes, but another first block: the acceptance counts anew."""
    scene = Scene().opened(3)
    plan = ready(scene, closed(scene, Side.B, 3))
    scene.then(settle_prepared(scene.channel, plan, NOW))
    scene.then(settle_answered(scene.channel, plan, BroadcastOutcome.ACCEPTED, 343, NOW))
    scene.then(disconnected(scene.channel, block(200), NOW))
    later = ready(scene, closed(scene, Side.B, 3, height=202, branch=1))

    scene.then(settle_prepared(scene.channel, later, NOW))
    known = scene.channel.settlement_of(later.commit_txid)

    assert plan.tx == later.tx
    assert known is not None
    assert (202 + T, False) == (known.valid_from, known.accepted)


@pytest.mark.parametrize("outcome", list(BroadcastOutcome))
def test_a_settlement_is_recorded_when_the_node_holds_it(outcome: BroadcastOutcome) -> None:
    """Acceptance is news once; every refusal means: try again, and one that no wait can cure is an alert."""
    scene = Scene().opened(3)
    plan = ready(scene, closed(scene, Side.B, 3))
    scene.then(settle_prepared(scene.channel, plan, NOW))
    held = outcome in (BroadcastOutcome.ACCEPTED, BroadcastOutcome.ALREADY_KNOWN)
    lasting = outcome in (BroadcastOutcome.BELOW_MINIMUM, BroadcastOutcome.REJECTED)

    events = scene.then(settle_answered(scene.channel, plan, outcome, 343, NOW))

    assert [SettleBroadcast] * held + [AlertRaised] * lasting == [type(event) for event in events]
    assert [] == settle_answered(scene.channel, plan, BroadcastOutcome.NOT_YET_FINAL, 344, NOW)


def test_an_answer_without_an_intent_is_not_recorded() -> None:
    """Intent first: what was never prepared was never sent by us."""
    scene = Scene().opened(3)
    plan = ready(scene, closed(scene, Side.B, 3))

    assert [] == settle_answered(scene.channel, plan, BroadcastOutcome.ACCEPTED, 343, NOW)
