"""Spends of the funding and contest outputs: seen, replaced, mined."""

from __future__ import annotations

import msgspec
import pytest

from domain.chain import make_outpoint
from domain.classifier import Verdict
from domain.events import (
    AlertKind,
    AlertRaised,
    BreachDetected,
    PenaltyConfirmed,
    SettleConfirmed,
    Source,
    SpendConfirmed,
    SpendKind,
    SpendReplaced,
    SpendSeen,
    decode_payload,
    encode_payload,
    envelopes,
)
from domain.spending import (
    spend_confirmed,
    spend_gone,
    spend_seen,
)
from domain.status import ChannelStatus
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import Side
from tests.support.contests import T, kinds, two_contests
from tests.support.scenes import NOW, Scene, block, payout


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
