"""Alerts of a channel, and secrets that come after the close they belong to."""

from __future__ import annotations

import msgspec
import pytest

from domain.events import (
    AlertCleared,
    AlertKind,
    AlertRaised,
    BreachDetected,
    Payload,
    Source,
    SpendConfirmed,
    SpendKind,
    SpendReplaced,
    SpendSeen,
)
from domain.spending import (
    clear_alert,
    contest_confirmed,
    disconnected,
    raise_alert,
    reclassified,
    spend_gone,
)
from domain.transaction import Transaction
from domain.units import Side
from domain.updating import decide_revoke
from tests.support.contests import T, kinds
from tests.support.scenes import NOW, Scene, block


def late_breach(scene: Scene, commit: Transaction, tip: int) -> list[Payload]:
    """Classify a known spend again."""
    spend = scene.channel.spend(commit.txid)
    assert spend is not None
    return scene.then(reclassified(scene.channel, spend, commit, scene.verdict(commit), tip, NOW))


def test_a_late_secret_makes_a_breach_with_its_deadline() -> None:
    """The close was honest for 20 blocks; the deadline counts from its block."""
    scene = Scene().opened(3)
    commit = scene.commitment(Side.B, 3)
    scene.mined(commit, block(200))
    assert [] == late_breach(scene, commit, 219)

    scene.then(decide_revoke(scene.channel, scene.revocation(3)))
    events = late_breach(scene, commit, 220)

    assert [BreachDetected] == kinds(events)
    assert (200 + T - 1, Source.UPLOAD) == (events[0].deadline, events[0].source)  # type: ignore[attr-defined]
    assert SpendKind.BREACH is scene.channel.confirmed_spend.kind  # type: ignore[union-attr]
    assert [] == late_breach(scene, commit, 221)


def test_a_future_state_becomes_a_breach_of_its_side() -> None:
    """Old data catches up: the spend gets the side that the penalty needs, and the alert ends."""
    scene = Scene().opened(1)
    commit = scene.commitment(Side.B, 4)
    scene.mined(commit, block(200))
    assert {AlertKind.FUTURE_STATE} == scene.channel.alerts
    for sequence in range(1, 5):
        scene.then(decide_revoke(scene.channel, scene.revocation(sequence)))

    events = late_breach(scene, commit, 201)

    spend = scene.channel.confirmed_spend
    assert [AlertCleared, BreachDetected] == kinds(events)
    assert spend is not None
    assert (SpendKind.BREACH, Side.B, 4) == (spend.kind, spend.side, spend.sequence)
    assert frozenset() == scene.channel.alerts


def test_a_breach_that_is_mined_after_its_late_secret_ends_the_alert() -> None:
    """The verdict changed between mempool and block."""
    scene = Scene().opened(1)
    commit = scene.commitment(Side.B, 4)
    scene.seen(commit)
    for sequence in range(1, 5):
        scene.then(decide_revoke(scene.channel, scene.revocation(sequence)))

    events = scene.mined(commit, block(201))

    assert [AlertCleared, SpendConfirmed, BreachDetected] == kinds(events)
    assert frozenset() == scene.channel.alerts


ALARMING = {
    AlertKind.SELF_BREACH: lambda scene: scene.commitment(Side.A, 1),
    AlertKind.FUTURE_STATE: lambda scene: scene.commitment(Side.B, 7),
    AlertKind.UNKNOWN_SPEND: lambda scene: scene.stranger(),
}


@pytest.mark.parametrize("kind", ALARMING)
def test_an_alert_is_raised_once_for_mempool_and_block(kind: AlertKind) -> None:
    """The condition is the same on both levels."""
    scene = Scene().opened(3)
    tx = ALARMING[kind](scene)

    first, second = scene.seen(tx), scene.mined(tx, block(200))

    assert [SpendSeen, AlertRaised] == kinds(first)
    assert [SpendConfirmed] == kinds(second)
    assert {kind} == scene.channel.alerts


@pytest.mark.parametrize("kind", ALARMING)
def test_an_alert_ends_when_its_spend_is_replaced(kind: AlertKind) -> None:
    """A cooperative close removes the reason."""
    scene = Scene().opened(3)
    scene.seen(ALARMING[kind](scene))

    events = scene.mined(scene.coop_close(), block(200))

    assert [SpendReplaced, AlertCleared, SpendConfirmed] == kinds(events)
    assert frozenset() == scene.channel.alerts


@pytest.mark.parametrize("kind", ALARMING)
def test_an_alert_ends_with_an_eviction_and_begins_again(kind: AlertKind) -> None:
    """The condition is what is there now."""
    scene = Scene().opened(3)
    tx = ALARMING[kind](scene)
    scene.seen(tx)

    gone = scene.then(spend_gone(scene.channel, tx.txid, None, 201, NOW))
    again = scene.seen(tx)

    assert [SpendReplaced, AlertCleared] == kinds(gone)
    assert [SpendSeen, AlertRaised] == kinds(again)


def test_an_alert_stays_while_another_spend_gives_the_same_reason() -> None:
    """One unknown spend replaces another: the alert neither ends nor comes twice."""
    scene = Scene().opened(3)
    scene.seen(scene.stranger(0))

    events = scene.seen(scene.stranger(1))

    assert [SpendReplaced, SpendSeen] == kinds(events)
    assert {AlertKind.UNKNOWN_SPEND} == scene.channel.alerts


@pytest.mark.parametrize(
    ("alert", "side", "sequence"),
    [
        (AlertKind.UNARMED_BREACH, Side.B, 1),
        (AlertKind.UNECONOMICAL_TO_PUNISH, Side.B, 1),
        (AlertKind.SETTLEMENT_UNAVAILABLE, Side.B, 3),
        (AlertKind.SETTLEMENT_UNAVAILABLE, Side.A, 3),
    ],
)
def test_complaints_of_the_responder_end_with_the_contest(alert: AlertKind, side: Side, sequence: int) -> None:
    """Somebody else answered, or the commitment left the chain: nothing is left to complain about."""
    scene = Scene().opened(3)
    commit = scene.commitment(side, sequence)
    scene.mined(commit, block(200))
    scene.then(raise_alert(scene.channel, alert, commit.txid, sequence, 200, NOW))
    spend = scene.channel.confirmed_spend
    assert spend is not None

    answered = contest_confirmed(scene.channel, spend, scene.settlement(side, sequence), block(200 + T), NOW)
    undone = disconnected(scene.channel, block(200), NOW)

    cleared = AlertCleared(recorded_at=NOW, kind=alert, height=200)
    assert msgspec.structs.replace(cleared, height=200 + T) in answered
    assert cleared in undone


def test_an_alert_is_raised_and_cleared_on_the_change_only() -> None:
    """Twice the same condition is one event; an alert that does not stand cannot end."""
    scene = Scene().opened(0)
    kind = AlertKind.UNECONOMICAL_TO_PUNISH

    assert [] == clear_alert(scene.channel, kind, 1, NOW)
    assert 1 == len(scene.then(raise_alert(scene.channel, kind, None, None, 1, NOW)))
    assert [] == raise_alert(scene.channel, kind, None, None, 2, NOW)
    assert 1 == len(scene.then(clear_alert(scene.channel, kind, 3, NOW)))
    assert [] == clear_alert(scene.channel, kind, 4, NOW)
