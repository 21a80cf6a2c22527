"""Conditional outputs: where they are, preimages that become public, who takes them, how long they matter."""

from __future__ import annotations

import pytest

from domain.conditional import (
    CLAIM_PATIENCE,
    KnownPreimage,
    conditional_outputs,
    decide_preimage,
    keeps_open,
    output_taken,
    preimages_learned,
)
from domain.contract.conditions import Condition
from domain.errors import InvalidSecret
from domain.events import (
    AlertCleared,
    AlertKind,
    AlertRaised,
    ChannelResolved,
    ClaimConfirmed,
    ClaimDisconnected,
    Payload,
    PreimageLearned,
    SettleDisconnected,
    Source,
    SpendDisconnected,
)
from domain.spending import disconnected, matured
from domain.transaction import Transaction, TxIn
from domain.units import Side
from domain.updating import decide_update
from tests.support.htlcs import (
    BACK,
    BACK_PREIMAGE,
    EXPIRY,
    HTLC,
    OPEN_HTLCS,
    PREIMAGE,
    SETTLED_AT,
    TWIN,
    at,
    closed,
    nothing,
    output,
    outputs,
    record_of,
    refund,
    settled,
    success,
)
from tests.support.scenes import NOW, Scene, block


def kinds(events: list[Payload]) -> list[type[Payload]]:
    """Types of events."""
    return [type(event) for event in events]


def taken(
    scene: Scene, condition: Condition, tx: Transaction, height: int, known: KnownPreimage = nothing
) -> list[Payload]:
    """A transaction took the output of a condition in a block."""
    place = next(found for found in outputs(scene) if found.condition == condition)
    return scene.then(output_taken(scene.channel, place, tx, at(height), known, NOW))


def knows(preimage: bytes) -> KnownPreimage:
    """Another channel of the tower revealed this preimage."""
    return lambda _payment_hash: preimage


# ── where they are ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", list(Side))
def test_C09_outputs_of_the_present_close(side: Side) -> None:
    """Output numbers follow (type, id); the trimmed HTLC of 329 sat has no output."""
    scene = Scene(conditions=OPEN_HTLCS).opened(2)
    scene.seen(scene.commitment(side, 2))
    settle = scene.settlement(side, 2)

    found = outputs(scene)

    assert [(HTLC, 2), (TWIN, 3), (BACK, 4)] == [(place.condition, place.vout) for place in found]
    assert {settle.txid} == {place.settle_txid for place in found}
    assert [20_000, 30_000, 40_000] == [settle.outputs[place.vout].value for place in found]


def test_there_are_none_without_a_close_of_a_known_state_with_conditions() -> None:
    """No spend, a cooperative close, a state without conditions, content that is not stored."""
    scenes = [Scene(conditions=OPEN_HTLCS).opened(updates) for updates in (2, 3, 1, 5)]
    scenes[1].seen(scenes[1].coop_close())
    scenes[2].seen(scenes[2].commitment(Side.B, 1))
    scenes[3].seen(scenes[3].commitment(Side.B, 2))
    channels = [scene.channel for scene in scenes]
    records = [channel.state(channel.sequence) for channel in channels]

    assert [(), (), (), ()] == [conditional_outputs(c, r) for c, r in zip(channels, records, strict=True)]
    assert () == conditional_outputs(channels[3], None)


def test_there_are_none_once_a_penalty_took_everything() -> None:
    """The stale state's conditions went with its contest output."""
    scene = closed(updates=3)
    scene.ended(scene.commitment(Side.B, 2), scene.penalty(Side.B, 2), block(210))

    assert () == conditional_outputs(scene.channel, record_of(scene))


def test_B20_outputs_of_a_stale_settlement_exist() -> None:
    """A lost channel: the conditional outputs of the revoked state are there to be taken."""
    scene = settled(updates=3)

    assert [HTLC, TWIN, BACK] == [place.condition for place in outputs(scene)]


# ── preimages ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("own", list(Side))
@pytest.mark.parametrize("source", [Source.MEMPOOL, Source.BLOCK])
def test_C07_a_preimage_is_taken_from_a_success_witness(source: Source, own: Side) -> None:
    """Once it is public it is stored, whoever took the output, and only once."""
    scene = closed(own)
    tx = success(scene, output(scene, HTLC))

    events = scene.then(preimages_learned(scene.channel, outputs(scene), tx, source, NOW))

    assert [PreimageLearned] == kinds(events)
    assert ((HTLC.hash, PREIMAGE),) == scene.channel.preimages
    assert [] == preimages_learned(scene.channel, outputs(scene), tx, source, NOW)


def test_two_htlcs_with_one_hash_teach_one_preimage() -> None:
    """Both are claimed in one transaction: one fact."""
    scene = closed()
    tx = success(scene, output(scene, HTLC), output(scene, TWIN))

    assert 1 == len(preimages_learned(scene.channel, outputs(scene), tx, Source.BLOCK, NOW))


def test_a_refund_and_a_foreign_claim_teach_nothing() -> None:
    """No preimage in the witness; or the witness of another output."""
    scene = closed()
    place = output(scene, HTLC)
    other = Transaction(3, (TxIn(bytes(36), 0, b"", success(scene, place).inputs[0].witness),), (), 0)

    for tx in (refund(scene, place), other):
        assert [] == preimages_learned(scene.channel, outputs(scene), tx, Source.BLOCK, NOW)


def test_an_uploaded_preimage_is_stored_once() -> None:
    """It opens an HTLC of a stored state; nobody else showed it."""
    scene = Scene(conditions=OPEN_HTLCS).opened(2)

    events = scene.then(decide_preimage(scene.channel, scene.channel.states, PREIMAGE, nothing, NOW))
    again = decide_preimage(scene.channel, scene.channel.states, PREIMAGE, nothing, NOW)
    elsewhere = decide_preimage(scene.channel, scene.channel.states, BACK_PREIMAGE, knows(BACK_PREIMAGE), NOW)

    learned = events[0]
    assert isinstance(learned, PreimageLearned)
    assert (HTLC.hash, PREIMAGE, Source.UPLOAD, None) == (
        learned.payment_hash,
        learned.preimage,
        learned.source,
        learned.txid,
    )
    assert [] == again == elsewhere


def test_a_preimage_of_no_htlc_is_refused() -> None:
    """It would only fill the log; its bytes are not repeated."""
    scene = Scene(conditions=OPEN_HTLCS).opened(2)

    with pytest.raises(InvalidSecret, match="opens no HTLC of a stored state") as refusal:
        decide_preimage(scene.channel, scene.channel.states, b"\x09" * 32, nothing, NOW)

    assert "0909" not in str(refusal.value)


def test_preimages_of_replaced_states_leave_the_fold() -> None:
    """The channel keeps those of its publishable states; the view of preimages keeps all."""
    scene = Scene(conditions=OPEN_HTLCS).opened(2)
    scene.then(decide_preimage(scene.channel, scene.channel.states, PREIMAGE, nothing, NOW))
    held = [len(scene.channel.preimages)]

    for sequence in (3, 4):
        scene.then(decide_update(scene.channel, scene.update(sequence)))
        held.append(len(scene.channel.preimages))

    assert [1, 1, 0] == held


# ── who takes them ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("own", "ours"), [(Side.A, False), (Side.B, True)])
def test_a_success_claim_belongs_to_the_receiver(own: Side, ours: bool) -> None:
    """Before the expiry nobody else had a right to it: no alert on either side."""
    scene = settled(own)
    place = output(scene, HTLC)

    events = taken(scene, HTLC, success(scene, place), SETTLED_AT + 1)

    assert [(ClaimConfirmed, ours, False)] == [(type(e), e.ours, e.missed) for e in events]  # type: ignore[attr-defined]
    assert [] == taken(scene, HTLC, success(scene, place), SETTLED_AT + 1)


@pytest.mark.parametrize(("own", "ours"), [(Side.A, True), (Side.B, False)])
def test_a_refund_belongs_to_the_offerer(own: Side, ours: bool) -> None:
    """Without the preimage the receiver has no right to it."""
    scene = settled(own)

    events = taken(scene, HTLC, refund(scene, output(scene, HTLC)), EXPIRY + 1)

    assert [(ClaimConfirmed, ours, False)] == [(type(e), e.ours, e.missed) for e in events]  # type: ignore[attr-defined]


def test_a_refund_of_what_we_could_have_claimed_is_an_alert() -> None:
    """The preimage was known, in this channel or another one, and the offerer was faster after the expiry."""
    scene = settled(Side.B)

    events = taken(scene, HTLC, refund(scene, output(scene, HTLC)), EXPIRY + 1, knows(PREIMAGE))

    assert [ClaimConfirmed, AlertRaised] == kinds(events)
    assert frozenset({AlertKind.OUTPUT_CLAIMED_BY_COUNTERPARTY}) == scene.channel.alerts


@pytest.mark.parametrize(("height", "missed"), [(EXPIRY, False), (EXPIRY + 1, True)])
def test_a_success_claim_is_late_behind_the_expiry(height: int, missed: bool) -> None:
    """From block E + 1 the offerer's refund could have been there instead."""
    scene = settled(Side.A)

    events = taken(scene, HTLC, success(scene, output(scene, HTLC)), height)

    assert missed == events[0].missed  # type: ignore[attr-defined]
    assert missed is (AlertKind.OUTPUT_CLAIMED_BY_COUNTERPARTY in scene.channel.alerts)


@pytest.mark.parametrize("annex", [(), (b"\x50annex",)])
def test_the_key_path_counts_as_ours(annex: tuple[bytes, ...]) -> None:
    """It needs our signature: whoever was paid, we agreed."""
    scene = settled(Side.A)
    place = output(scene, HTLC)
    tx = Transaction(2, (TxIn(place.outpoint, 0, b"", (b"\x01" * 64, *annex)),), (), 0)

    events = taken(scene, HTLC, tx, EXPIRY + 9)

    assert [True] == [e.ours for e in events]  # type: ignore[attr-defined]


# ── reorganizations ──────────────────────────────────────────────────────────────────────────────────────


def test_a_disconnected_block_opens_the_outputs_again() -> None:
    """One transaction took two outputs: one event undoes both, and the alert about them ends."""
    scene = settled(Side.A)
    places = output(scene, HTLC), output(scene, TWIN)
    tx = success(scene, *places)
    taken(scene, HTLC, tx, EXPIRY + 1)
    taken(scene, TWIN, tx, EXPIRY + 1)

    events = scene.then(disconnected(scene.channel, at(EXPIRY + 1), NOW))

    assert [ClaimDisconnected, AlertCleared] == kinds(events)
    assert ((), frozenset()) == (scene.channel.claim_ends, scene.channel.alerts)
    assert [] == disconnected(scene.channel, at(EXPIRY + 1), NOW)


def test_claim_settlement_and_close_are_undone_newest_first() -> None:
    """Blocks leave the chain one by one down to the close."""
    scene = settled(Side.B)
    taken(scene, HTLC, success(scene, output(scene, HTLC)), SETTLED_AT)

    events = scene.then(disconnected(scene.channel, at(SETTLED_AT), NOW))
    events += scene.then(disconnected(scene.channel, at(200), NOW))

    assert [ClaimDisconnected, SettleDisconnected, SpendDisconnected] == kinds(events)


def test_a_lost_channel_keeps_its_alert_when_a_claim_is_undone() -> None:
    """The stale settlement still stands: somebody else has what was ours."""
    scene = settled(Side.A, updates=3)
    taken(scene, HTLC, success(scene, output(scene, HTLC)), EXPIRY + 1)

    events = scene.then(disconnected(scene.channel, at(EXPIRY + 1), NOW))

    assert [ClaimDisconnected] == kinds(events)
    assert AlertKind.OUTPUT_CLAIMED_BY_COUNTERPARTY in scene.channel.alerts


def test_the_same_claim_in_another_block_is_a_new_fact() -> None:
    """Mined again after a reorganization."""
    scene = settled(Side.B)
    tx = success(scene, output(scene, HTLC))
    taken(scene, HTLC, tx, SETTLED_AT + 1)
    scene.then(disconnected(scene.channel, at(SETTLED_AT + 1), NOW))

    taken(scene, HTLC, tx, SETTLED_AT + 2)

    assert [at(SETTLED_AT + 2)] == [end.block for end in scene.channel.claim_ends]


# ── how long they matter ─────────────────────────────────────────────────────────────────────────────────


def resolves(scene: Scene, tip: int, known: KnownPreimage = nothing) -> bool:
    """Whether the channel is resolved at this tip."""
    events = matured(
        scene.channel,
        tip,
        NOW,
        lambda: keeps_open(scene.channel, outputs(scene), known, tip),
    )
    return ChannelResolved in kinds(events)


def test_an_offered_output_keeps_the_channel_open() -> None:
    """A's HTLC and its twin are A's money from their expiry on, for two weeks at most."""
    scene = settled(Side.A)
    last = TWIN.expiry + CLAIM_PATIENCE

    assert [False, False, True] == [resolves(scene, tip) for tip in (SETTLED_AT + 99, last - 1, last)]


def test_an_incoming_output_without_preimage_is_given_up_earlier() -> None:
    """B offered BACK: without a preimage B is a mere onlooker of the other two, until they are surely over."""
    scene = settled(Side.B)
    taken(scene, BACK, refund(scene, output(scene, BACK)), EXPIRY + 1)
    last = TWIN.expiry + 100

    assert [False, True] == [resolves(scene, tip) for tip in (last - 1, last)]
    assert not resolves(scene, last, knows(PREIMAGE))


def test_taken_outputs_count_until_they_are_final() -> None:
    """Resolved 100 blocks after the last of them."""
    scene = settled(Side.A)
    for height, condition in ((600, HTLC), (601, TWIN)):
        taken(scene, condition, refund(scene, output(scene, condition)), height)
    taken(scene, BACK, success(scene, output(scene, BACK), preimage=BACK_PREIMAGE), 610)

    assert [False, True] == [resolves(scene, tip) for tip in (708, 709)]


def test_a_punished_channel_waits_for_nothing() -> None:
    """The penalty took all conditional amounts."""
    scene = closed(updates=3)
    scene.ended(scene.commitment(Side.B, 2), scene.penalty(Side.B, 2), block(210))

    assert [False, True] == [resolves(scene, tip) for tip in (308, 309)]
