"""Spends of the funding and contest outputs: seen, replaced, mined, undone, final; alerts come and go."""

from __future__ import annotations

import msgspec
import pytest

from domain.chain import make_outpoint
from domain.channel import Channel
from domain.classifier import Verdict
from domain.events import (
    AlertCleared,
    AlertKind,
    AlertRaised,
    BreachDetected,
    ChannelResolved,
    Payload,
    PenaltyConfirmed,
    PenaltyDisconnected,
    ResolvedAs,
    SettleConfirmed,
    SoftFinal,
    Source,
    SpendConfirmed,
    SpendDisconnected,
    SpendKind,
    SpendReplaced,
    SpendSeen,
    decode_payload,
    encode_payload,
    envelopes,
)
from domain.spending import (
    clear_alert,
    contest_confirmed,
    disconnected,
    funding_double_spent,
    matured,
    raise_alert,
    reclassified,
    spend_confirmed,
    spend_gone,
    spend_seen,
)
from domain.status import ChannelStatus
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import Side
from domain.updating import decide_revoke, decide_update
from tests.support.scenes import FUNDED_AT, NOW, Scene, block, payout

T = 144


def kinds(events: list[Payload]) -> list[type[Payload]]:
    """The types of some events."""
    return [type(event) for event in events]


def two_contests(scene: Scene) -> tuple[Transaction, Transaction]:
    """B's stale commitments of states 1 and 2."""
    return scene.commitment(Side.B, 1), scene.commitment(Side.B, 2)


# ── mempool ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_breach_in_the_mempool_is_detected_once() -> None:
    """The sighting keeps the signed bytes; the breach has no deadline yet."""
    scene = Scene().opened(3)
    stale = scene.commitment(Side.B, 1)

    seen, breach = scene.seen(stale)

    assert isinstance(seen, SpendSeen)
    assert isinstance(breach, BreachDetected)
    assert (stale.serialize(), SpendKind.BREACH, 1) == (seen.raw, seen.kind, seen.sequence)
    assert (None, None, make_outpoint(stale.txid, 0)) == (breach.block, breach.deadline, breach.contest)
    assert (scene.params.contest_value, stale.outputs[0].spk) == (breach.contest_value, breach.contest_spk)
    assert [] == scene.seen(stale)
    assert ChannelStatus.UNILATERAL is scene.channel.status


def test_B06_another_stale_state_replaces_the_first() -> None:
    """A package replacement gives two records; only the new one counts."""
    scene = Scene().opened(3)
    first, second = two_contests(scene)
    scene.seen(first)

    events = scene.seen(second)

    assert [SpendReplaced, SpendSeen, BreachDetected] == kinds(events)
    assert second.txid == scene.channel.mempool_spend.txid  # type: ignore[union-attr]
    assert 2 == len(scene.channel.spends)


@pytest.mark.parametrize("kind", ["newest", "coop"])
def test_B08_B09_an_honest_spend_replaces_a_breach(kind: str) -> None:
    """The cheater retracts: the breach is withdrawn."""
    scene = Scene().opened(3)
    honest = {"newest": scene.commitment(Side.B, 3), "coop": scene.coop_close()}[kind]
    scene.seen(scene.commitment(Side.B, 1))

    events = scene.seen(honest)

    assert [SpendReplaced, SpendSeen] == kinds(events)
    assert honest.txid == scene.channel.present_spend.txid  # type: ignore[union-attr]


def test_a_spend_too_long_for_an_event_is_recorded_without_its_bytes() -> None:
    """Such an event could not be read again, and with it the whole channel."""
    scene = Scene().opened(2)
    spend = Transaction(2, (TxIn(scene.channel.params.funding_outpoint, 0),), (TxOut(1, bytes(100_000)),), 0)
    verdict, raw = Verdict(SpendKind.UNKNOWN_SPEND), spend.serialize()

    seen = spend_seen(scene.channel, spend, raw, verdict, Source.MEMPOOL, 200, NOW)[0]
    mined = spend_confirmed(scene.channel, spend, raw, verdict, block(201), Source.BLOCK, NOW)[0]

    assert isinstance(seen, SpendSeen)
    assert isinstance(mined, SpendConfirmed)
    assert (spend.txid, None) == (seen.txid, seen.raw)
    assert (spend.txid, None) == (mined.txid, mined.raw)
    for event in envelopes(scene.channel.stream, scene.channel.version, [seen, mined]):
        assert event.payload == decode_payload(event.topic, encode_payload(event.payload))


def test_an_evicted_spend_is_gone_once() -> None:
    """Eviction is recorded once and can be followed by the same transaction again."""
    scene = Scene().opened(3)
    stale = scene.commitment(Side.B, 1)
    scene.seen(stale)

    gone = scene.then(spend_gone(scene.channel, stale.txid, None, 201, NOW))
    again = scene.seen(stale)

    assert [SpendReplaced] == kinds(gone)
    assert [SpendSeen, BreachDetected] == kinds(again)
    assert [] == spend_gone(scene.channel, b"\x01" * 32, None, 201, NOW)


def test_nothing_is_seen_in_the_mempool_beside_a_confirmed_spend() -> None:
    """Late news about the mempool cannot replace a fact of the chain."""
    scene = Scene().opened(3)
    scene.mined(scene.commitment(Side.B, 3), block(200))

    assert [] == scene.seen(scene.commitment(Side.B, 1))
    assert [] == spend_gone(scene.channel, scene.commitment(Side.B, 3).txid, None, 201, NOW)


# ── blocks ───────────────────────────────────────────────────────────────────────────────────────────────


def test_B16_a_breach_that_was_never_seen_unconfirmed() -> None:
    """The block alone gives the signed bytes, the height and the deadline."""
    scene = Scene().opened(3)
    stale = scene.commitment(Side.B, 1)

    confirmed, breach = scene.mined(stale, block(200))

    assert isinstance(confirmed, SpendConfirmed)
    assert isinstance(breach, BreachDetected)
    assert stale.serialize() == confirmed.raw
    assert (block(200), 200 + T - 1) == (breach.block, breach.deadline)
    assert [] == scene.mined(stale, block(200))


def test_a_confirmation_does_not_repeat_the_bytes_of_the_sighting() -> None:
    """The raw transaction is stored once; the fold keeps it."""
    scene = Scene().opened(3)
    stale = scene.commitment(Side.B, 1)
    scene.seen(stale)

    confirmed = scene.mined(stale, block(200))[0]

    assert isinstance(confirmed, SpendConfirmed)
    assert confirmed.raw is None
    assert stale.serialize() == scene.channel.confirmed_spend.raw  # type: ignore[union-attr]


def test_B07_the_block_holds_another_stale_state_than_the_mempool() -> None:
    """The rival in the mempool is void; the breach in the block has the deadline."""
    scene = Scene().opened(3)
    first, second = two_contests(scene)
    scene.seen(first)

    events = scene.mined(second, block(200))

    assert [SpendReplaced, SpendConfirmed, BreachDetected] == kinds(events)
    assert second.txid == scene.channel.present_spend.txid  # type: ignore[union-attr]
    assert scene.channel.mempool_spend is None


def test_C10_the_commitment_of_the_other_party_wins() -> None:
    """Ours was in the mempool, theirs is in the block."""
    scene = Scene().opened(3)
    scene.seen(scene.commitment(Side.A, 3))

    events = scene.mined(scene.commitment(Side.B, 3), block(200))

    assert [SpendReplaced, SpendConfirmed] == kinds(events)
    assert SpendKind.PEER_CLOSE is scene.channel.confirmed_spend.kind  # type: ignore[union-attr]


def test_B04_breach_and_penalty_in_one_block() -> None:
    """UNILATERAL and PUNISHED within one batch of events."""
    scene = Scene().opened(3)
    stale = scene.commitment(Side.B, 1)
    scene.mined(stale, block(200))
    between = scene.channel.status.value

    events = scene.ended(stale, scene.penalty(Side.B, 1, fee=1_234), block(200))

    assert "UNILATERAL" == between
    assert [PenaltyConfirmed] == kinds(events)
    assert (1_234, scene.params.contest_value - 1_234) == (events[0].fee, events[0].swept)  # type: ignore[attr-defined]
    assert ChannelStatus.PUNISHED is scene.channel.status
    assert [] == scene.ended(stale, scene.penalty(Side.B, 1, fee=1_234), block(200))


def test_B20_a_stale_settlement_loses_the_channel() -> None:
    """LOST with evidence, and two alerts for people."""
    scene = Scene().opened(3)
    stale = scene.commitment(Side.B, 1)
    scene.mined(stale, block(200))

    events = scene.ended(stale, scene.settlement(Side.B, 1), block(200 + T))

    assert [SettleConfirmed, AlertRaised, AlertRaised] == kinds(events)
    assert {AlertKind.OUTPUT_CLAIMED_BY_COUNTERPARTY, AlertKind.FUNDS_LOST} == scene.channel.alerts
    assert ChannelStatus.LOST is scene.channel.status


def test_a_stale_settlement_that_pays_the_sweep_script_is_no_penalty() -> None:
    """An owner who sweeps to the payout script is still told of the loss."""
    scene = Scene(sweep_spk=payout(Side.A)).opened(3)
    stale = scene.commitment(Side.B, 1)
    scene.mined(stale, block(200))

    scene.ended(stale, scene.settlement(Side.B, 1), block(200 + T))

    assert ChannelStatus.LOST is scene.channel.status


def test_a_penalty_that_pays_somebody_else_is_a_loss() -> None:
    """Our revocation key was used, but the money went elsewhere: people must look."""
    scene = Scene().opened(3)
    stale = scene.commitment(Side.B, 1)
    scene.mined(stale, block(200))
    stolen = msgspec.structs.replace(scene.penalty(Side.B, 1), outputs=(TxOut(999_000, payout(Side.B)),))

    scene.ended(stale, stolen, block(201))

    assert ChannelStatus.LOST is scene.channel.status
    assert AlertKind.FUNDS_LOST in scene.channel.alerts


@pytest.mark.parametrize("annex", [(), (b"\x50" * 9,)])
def test_the_counterparty_punishes_an_own_old_state(annex: tuple[bytes, ...]) -> None:
    """A key-path spend of our own contest output is a loss, not a settlement."""
    scene = Scene().opened(3)
    own = scene.commitment(Side.A, 1)
    penalty = scene.penalty(Side.A, 1)
    scene.mined(own, block(200))

    scene.ended(own, penalty.with_witness(0, penalty.inputs[0].witness + annex), block(201))

    assert ChannelStatus.LOST is scene.channel.status
    assert AlertKind.FUNDS_LOST in scene.channel.alerts


@pytest.mark.parametrize("side", list(Side))
def test_an_honest_close_is_settled(side: Side) -> None:
    """The newest state of either side, split after the challenge period."""
    scene = Scene().opened(3)
    commit = scene.commitment(side, 3)
    scene.mined(commit, block(200))

    events = scene.ended(commit, scene.settlement(side, 3), block(200 + T))

    assert [SettleConfirmed] == kinds(events)
    assert (False, side, 3) == (events[0].revoked, events[0].side, events[0].sequence)  # type: ignore[attr-defined]
    assert ChannelStatus.SETTLED is scene.channel.status


def test_a_penalty_of_another_tower_punishes_a_future_state() -> None:
    """Our data is old, but the owner's other tower pays to the same script."""
    scene = Scene().opened(1)
    future = scene.commitment(Side.B, 4)
    scene.mined(future, block(200))

    scene.ended(future, scene.penalty(Side.B, 4), block(201))

    assert ChannelStatus.PUNISHED is scene.channel.status


def test_a_cooperative_close_goes_through_the_mempool_into_a_block() -> None:
    """COOP_CLOSING, then SETTLED."""
    scene = Scene().opened(3)
    close = scene.coop_close()

    scene.seen(close)
    waiting = scene.channel.status.value
    scene.mined(close, block(200))

    assert ("COOP_CLOSING", "SETTLED") == (waiting, scene.channel.status.value)


def test_C11_a_replaced_cooperative_close() -> None:
    """Three versions, one confirmed; all are cooperative closes."""
    scene = Scene().opened(3)
    versions = [scene.coop_close(fee) for fee in (400, 800, 1_200)]

    for version in versions:
        scene.seen(version)
    scene.mined(versions[1], block(200))

    assert {SpendKind.COOP} == {spend.kind for spend in scene.channel.spends}
    assert versions[1].txid == scene.channel.present_spend.txid  # type: ignore[union-attr]


# ── late secrets ─────────────────────────────────────────────────────────────────────────────────────────


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


# ── alerts ───────────────────────────────────────────────────────────────────────────────────────────────

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


# ── reorganizations ──────────────────────────────────────────────────────────────────────────────────────


def test_R02_breach_and_penalty_are_disconnected_together() -> None:
    """One block held both: the penalty is undone first, then the breach."""
    scene = Scene().opened(3)
    stale = scene.commitment(Side.B, 1)
    scene.mined(stale, block(200))
    scene.ended(stale, scene.penalty(Side.B, 1), block(200))

    events = scene.then(disconnected(scene.channel, block(200), NOW))
    scene.seen(stale, tip=199)

    assert [PenaltyDisconnected, SpendDisconnected] == kinds(events)
    assert scene.channel.contest_spends == ()
    assert ChannelStatus.UNILATERAL is scene.channel.status


def test_R03_another_stale_state_after_a_reorg() -> None:
    """State 1 was punished; the other branch holds state 2."""
    scene = Scene().opened(3)
    first, second = two_contests(scene)
    scene.mined(first, block(200))
    scene.ended(first, scene.penalty(Side.B, 1), block(201))
    for height in (201, 200):
        scene.then(disconnected(scene.channel, block(height), NOW))

    events = scene.mined(second, block(201, branch=1))

    assert [SpendConfirmed, BreachDetected] == kinds(events)
    assert second.txid == scene.channel.present_spend.txid  # type: ignore[union-attr]
    assert ChannelStatus.UNILATERAL is scene.channel.status


def test_R04_an_honest_close_after_a_reorg() -> None:
    """The newest state confirms instead: no breach any more."""
    scene = Scene().opened(3)
    scene.mined(scene.commitment(Side.B, 1), block(200))
    scene.then(disconnected(scene.channel, block(200), NOW))

    assert [SpendConfirmed] == kinds(scene.mined(scene.commitment(Side.B, 3), block(200, branch=1)))


def test_R05_a_reorg_changes_the_deadline() -> None:
    """The same commitment two blocks later: a new breach with a new deadline."""
    scene = Scene().opened(3)
    stale = scene.commitment(Side.B, 1)
    scene.mined(stale, block(200))
    scene.then(disconnected(scene.channel, block(200), NOW))

    events = scene.mined(stale, block(202, branch=1))

    assert [SpendConfirmed, BreachDetected] == kinds(events)
    assert 202 + T - 1 == events[1].deadline  # type: ignore[attr-defined]


def test_R07_funding_and_close_leave_in_one_block() -> None:
    """Newest first: the close, then the funding."""
    scene = Scene().opened(3)
    scene.mined(scene.commitment(Side.B, 1), block(FUNDED_AT))

    events = scene.then(disconnected(scene.channel, block(FUNDED_AT), NOW))

    assert ["SpendDisconnected", "FundingDisconnected"] == [type(event).__name__ for event in events]
    assert ChannelStatus.FUNDING_BROADCAST is scene.channel.status


def test_R12_the_same_facts_in_both_branches_are_recorded_per_block() -> None:
    """Idempotent per (txid, block hash), not per txid."""
    scene = Scene().opened(3)
    stale = scene.commitment(Side.B, 1)
    scene.mined(stale, block(200))
    scene.then(disconnected(scene.channel, block(200), NOW))

    assert 2 == len(scene.mined(stale, block(200, branch=1)))
    assert [] == scene.mined(stale, block(200, branch=1))


def test_a_disconnected_stale_settlement_ends_the_loss() -> None:
    """LOST is undone together with its alerts."""
    scene = Scene().opened(3)
    stale = scene.commitment(Side.B, 1)
    scene.mined(stale, block(200))
    before = scene.channel
    scene.ended(stale, scene.settlement(Side.B, 1), block(344))

    scene.then(disconnected(scene.channel, block(344), NOW))

    assert msgspec.structs.replace(before, version=0) == msgspec.structs.replace(scene.channel, version=0)


def test_a_block_without_our_facts_undoes_nothing() -> None:
    """The same height on another branch is another block."""
    scene = Scene().opened(3)
    scene.mined(scene.commitment(Side.B, 1), block(200))

    assert [] == disconnected(scene.channel, block(200, branch=1), NOW)


# ── finality ─────────────────────────────────────────────────────────────────────────────────────────────


def punished(scene: Scene) -> Channel:
    """A channel whose penalty is in block 201."""
    stale = scene.commitment(Side.B, 1)
    scene.mined(stale, block(200))
    scene.ended(stale, scene.penalty(Side.B, 1), block(201))
    return scene.channel


@pytest.mark.parametrize(("tip", "expected"), [(201, []), (205, []), (206, [SoftFinal]), (299, [SoftFinal])])
def test_R09_soft_finality_at_six_confirmations(tip: int, expected: list[type[Payload]]) -> None:
    """Block 201 has its sixth confirmation at tip 206, not at 205."""
    assert expected == kinds(matured(punished(Scene().opened(3)), tip, NOW))


@pytest.mark.parametrize("tip", [300, 301, 5_000])
def test_finality_at_a_hundred_confirmations_or_any_time_later(tip: int) -> None:
    """A tower that slept finds both at once."""
    events = matured(punished(Scene().opened(3)), tip, NOW)

    assert [SoftFinal, ChannelResolved] == kinds(events)
    assert (ResolvedAs.PUNISHED, tip - 200) == (events[1].outcome, events[1].depth)  # type: ignore[attr-defined]


def test_soft_finality_is_announced_once() -> None:
    """Then nothing until the hundredth confirmation, and nothing after it."""
    scene = Scene().opened(3)
    punished(scene)
    scene.then(matured(scene.channel, 206, NOW))

    assert [] == matured(scene.channel, 299, NOW)
    assert [ChannelResolved] == kinds(scene.then(matured(scene.channel, 300, NOW)))
    assert [] == matured(scene.channel, 301, NOW)
    assert ChannelStatus.RESOLVED is scene.channel.status


def test_a_resolved_channel_is_not_undone() -> None:
    """The promise on depth ends at 100 confirmations."""
    scene = Scene().opened(3)
    punished(scene)
    scene.then(matured(scene.channel, 300, NOW))

    assert [] == disconnected(scene.channel, block(201), NOW)


def ends(name: str) -> tuple[Scene, ResolvedAs]:
    """A channel that ended in block 201 in one of five ways."""
    scene = Scene().opened(3)
    stale, newest = scene.commitment(Side.B, 1), scene.commitment(Side.B, 3)
    if name == "coop":
        scene.mined(scene.coop_close(), block(201))
    elif name == "double_spent":
        scene.then(disconnected(scene.channel, block(FUNDED_AT), NOW))
        scene.then(funding_double_spent(scene.channel, b"\x0d" * 32, block(201), NOW))
    else:
        commit = newest if name == "settled" else stale
        scene.mined(commit, block(200))
        answer = {
            "settled": scene.settlement(Side.B, 3),
            "lost": scene.settlement(Side.B, 1),
            "punished": scene.penalty(Side.B, 1),
        }[name]
        scene.ended(commit, answer, block(201))
    return scene, ResolvedAs[name.upper()]


ENDS = ["coop", "double_spent", "settled", "lost", "punished"]


@pytest.mark.parametrize("name", ENDS)
def test_every_end_is_resolved_under_its_name(name: str) -> None:
    """Five outcomes, one rule."""
    scene, outcome = ends(name)

    resolved = matured(scene.channel, 300, NOW)[-1]

    assert isinstance(resolved, ChannelResolved)
    assert (outcome, block(201), 100) == (resolved.outcome, resolved.block, resolved.depth)


@pytest.mark.parametrize("name", ENDS)
def test_soft_finality_is_undone_with_its_block(name: str) -> None:
    """A reorg of six takes the announcement back, whatever ended the channel."""
    scene, _ = ends(name)
    scene.then(matured(scene.channel, 206, NOW))
    announced = scene.channel.soft_final

    scene.then(disconnected(scene.channel, block(201), NOW))

    assert announced is not None
    assert scene.channel.soft_final is None


def test_a_second_confirmation_of_a_cooperative_close_is_announced_again() -> None:
    """Disconnected after its announcement and mined again on another branch."""
    scene, _ = ends("coop")
    scene.then(matured(scene.channel, 206, NOW))
    scene.then(disconnected(scene.channel, block(201), NOW))
    scene.mined(scene.coop_close(), block(202, branch=1))

    assert [SoftFinal] == kinds(matured(scene.channel, 207, NOW))


@pytest.mark.parametrize("tx", ["close", "unknown"])
def test_an_open_contest_never_matures(tx: str) -> None:
    """A confirmed commitment or an unknown spend is not the end."""
    scene = Scene().opened(3)
    scene.mined({"close": scene.commitment(Side.B, 3), "unknown": scene.stranger()}[tx], block(200))

    assert [] == matured(scene.channel, 10_000, NOW)


def test_facts_in_flight_do_not_freeze_the_status() -> None:
    """State 2 in flight, B publishes state 1: legitimate, and no breach (B12)."""
    scene = Scene().opened(1)
    scene.then(decide_update(scene.channel, scene.update_in_flight(2)))
    commit = scene.commitment(Side.B, 1)

    events = spend_seen(scene.channel, commit, commit.serialize(), scene.verdict(commit), Source.MEMPOOL, 200, NOW)

    assert [SpendSeen] == kinds(events)
