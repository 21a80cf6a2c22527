"""What a reorganization takes back, and what nothing takes back any more."""

from __future__ import annotations

import msgspec
import pytest

from domain.channel import Channel
from domain.events import (
    BreachDetected,
    ChannelResolved,
    Payload,
    PenaltyDisconnected,
    ResolvedAs,
    SoftFinal,
    Source,
    SpendConfirmed,
    SpendDisconnected,
    SpendSeen,
)
from domain.spending import (
    disconnected,
    funding_double_spent,
    matured,
    spend_seen,
)
from domain.status import ChannelStatus
from domain.units import Side
from domain.updating import decide_update
from tests.support.contests import T, kinds, two_contests
from tests.support.scenes import FUNDED_AT, NOW, Scene, block


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
