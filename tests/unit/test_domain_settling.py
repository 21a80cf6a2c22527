"""Honest closes: the settlement, its first block, its records; preimages that become public."""

from __future__ import annotations

from hashlib import sha256

import pytest

from domain.chain import make_outpoint
from domain.channel import Spend
from domain.contract.commitment import contest_txout
from domain.contract.conditions import Condition
from domain.contract.htlc import (
    ClaimPath,
    build_htlc_success,
    build_htlc_timeout,
    complete_htlc_success,
    complete_htlc_timeout,
    sign_htlc_claim,
)
from domain.contract.keys import verify_schnorr
from domain.contract.revocation import revocation_public
from domain.contract.settlement import settlement_sighash
from domain.events import (
    AlertKind,
    AlertRaised,
    BroadcastOutcome,
    PreimageLearned,
    SettleBroadcast,
    SettlePrepared,
    Source,
    SpendKind,
)
from domain.settling import (
    ReadySettlement,
    condition_outpoints,
    has_settlement,
    preimages_learned,
    ready_settlement,
    settle_answered,
    settle_prepared,
    settlement_missing,
)
from domain.spending import disconnected
from domain.transaction import Transaction
from domain.units import Side
from domain.updating import decide_revoke, decide_update
from tests.support.scenes import AUX, NOW, Scene, block, secrets_of, sweep

T = 144
PREIMAGE = b"\x71" * 32
HTLC = Condition(type=0, id=1, expiry=500, amount=20_000, hash=sha256(PREIMAGE).digest())
TWIN = Condition(type=0, id=2, expiry=600, amount=30_000, hash=HTLC.hash)
TRIMMED = Condition(type=1, id=3, expiry=500, amount=329, hash=sha256(b"\x72" * 32).digest())
OPEN_HTLCS = {2: (HTLC, TWIN, TRIMMED)}


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


def claim(scene: Scene, settle_txid: bytes, *places: tuple[Condition, int]) -> Transaction:
    """One success claim of several HTLCs with the same preimage."""
    txs = []
    for condition, vout in places:
        tx = build_htlc_success(scene.params, condition, settle_txid, vout, 500, sweep(Side.B))
        signature = sign_htlc_claim(
            scene.params, condition, tx, ClaimPath.SUCCESS, secrets_of(condition.offerer.other).htlc, AUX
        )
        txs.append(complete_htlc_success(scene.params, condition, tx, signature, PREIMAGE))
    return Transaction(3, tuple(tx.inputs[0] for tx in txs), tuple(tx.outputs[0] for tx in txs), 0)


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


# ── conditions and preimages ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", list(Side))
def test_conditional_outputs_of_the_present_close_are_watched(side: Side) -> None:
    """A close with HTLCs: the outputs of its settlement, trimmed ones left out (C09)."""
    scene = Scene(conditions=OPEN_HTLCS).opened(2)
    scene.seen(scene.commitment(side, 2))
    settle = scene.settlement(side, 2)

    watched = condition_outpoints(scene.channel)

    assert {make_outpoint(settle.txid, 2): HTLC, make_outpoint(settle.txid, 3): TWIN} == watched
    assert [20_000, 30_000] == [settle.outputs[vout].value for vout in (2, 3)]


def test_nothing_is_watched_without_a_close_or_conditions() -> None:
    """No spend, a cooperative close, a state without conditions, an old state."""
    scenes = [Scene(conditions=OPEN_HTLCS).opened(updates) for updates in (2, 3, 1, 5)]
    scenes[1].seen(scenes[1].coop_close())
    scenes[2].seen(scenes[2].commitment(Side.B, 1))
    scenes[3].seen(scenes[3].commitment(Side.B, 2))

    assert [{}, {}, {}, {}] == [condition_outpoints(scene.channel) for scene in scenes]


@pytest.mark.parametrize("source", [Source.MEMPOOL, Source.BLOCK])
def test_C07_a_preimage_is_taken_from_a_success_witness(source: Source) -> None:
    """Once it is public it is stored, and only once."""
    scene = Scene(conditions=OPEN_HTLCS).opened(2)
    closed(scene, Side.B, 2)
    tx = claim(scene, scene.settlement(Side.B, 2).txid, (HTLC, 2))

    events = scene.then(preimages_learned(scene.channel, tx, source, NOW))

    assert [PreimageLearned] == [type(event) for event in events]
    assert ((HTLC.hash, PREIMAGE),) == scene.channel.preimages
    assert [] == preimages_learned(scene.channel, tx, source, NOW)


def test_two_htlcs_with_one_hash_teach_one_preimage() -> None:
    """Both are claimed in one transaction: one fact."""
    scene = Scene(conditions=OPEN_HTLCS).opened(2)
    closed(scene, Side.B, 2)
    tx = claim(scene, scene.settlement(Side.B, 2).txid, (HTLC, 2), (TWIN, 3))

    assert 1 == len(preimages_learned(scene.channel, tx, Source.BLOCK, NOW))


def test_a_timeout_and_a_foreign_claim_teach_nothing() -> None:
    """No preimage in the witness; or the witness of another output."""
    scene = Scene(conditions=OPEN_HTLCS).opened(2)
    closed(scene, Side.B, 2)
    settle_txid = scene.settlement(Side.B, 2).txid
    unsigned = build_htlc_timeout(scene.params, HTLC, settle_txid, 2, 500, sweep(Side.A))
    signature = sign_htlc_claim(scene.params, HTLC, unsigned, ClaimPath.TIMEOUT, secrets_of(Side.A).htlc, AUX)
    timeout = complete_htlc_timeout(scene.params, HTLC, unsigned, signature)
    foreign = claim(scene, b"\x05" * 32, (HTLC, 2))

    assert [] == preimages_learned(scene.channel, timeout, Source.BLOCK, NOW)
    assert [] == preimages_learned(scene.channel, foreign, Source.BLOCK, NOW)
