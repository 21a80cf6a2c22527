"""Closes that the owner asks for: what may be published, what is stored of it, and what is sent again."""

from __future__ import annotations

import msgspec
import pytest

from domain.channel import Channel
from domain.contract import keys
from domain.contract.closing import build_cooperative_close, complete_close_by_leaf, leaf_sighash
from domain.contract.conditions import Condition
from domain.errors import ChannelClosed, ChannelNotReady, InvalidSignature, InvalidState, SelfBreach, SequenceGap
from domain.events import ChannelFrozen, CommitmentPublished, FreezeReason, encode_payload
from domain.joint import funding_signatures
from domain.publishing import close_to_send, commitment_published, decide_close, own_commitment
from domain.spending import disconnected, spend_gone
from domain.transaction import Transaction
from domain.units import Side
from domain.updating import RevokeState, decide_revoke, decide_update
from tests.support.scenes import AUX, CAPACITY, NOW, Scene, block, secrets_of


@pytest.fixture
def scene() -> Scene:
    """A's tower with states 0 to 3."""
    return Scene().opened(updates=3)


def signatures(scene: Scene, sequence: int) -> tuple[bytes, bytes]:
    """Of A and B on A's commitment."""
    pair = funding_signatures(scene.params, scene.commitment(Side.A, sequence))
    assert pair is not None
    return pair


def close(scene: Scene, balances: tuple[int, int], closer: Side = Side.A, fee: int = 500) -> Transaction:
    """A cooperative close signed by both."""
    tx = build_cooperative_close(scene.params, balances, closer, fee)
    signed = (keys.sign_schnorr(secrets_of(side).fund, leaf_sighash(scene.params, tx), AUX) for side in Side)
    return complete_close_by_leaf(scene.params, tx, *signed)


# ── own commitments ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_newest_state_can_be_published(scene: Scene) -> None:
    """The rebuilt commitment is complete; the intent holds number and txid, and no signature; then no more updates."""
    pair = signatures(scene, 3)
    tx = own_commitment(scene.channel, 3, pair)
    events = scene.then(commitment_published(scene.channel, tx, 3, NOW))

    assert scene.commitment(Side.A, 3) == tx
    assert [CommitmentPublished(recorded_at=NOW, sequence=3, txid=tx.txid)] == events
    assert pair[0] not in encode_payload(events[0])
    assert [] == commitment_published(scene.channel, tx, 3, NOW)
    with pytest.raises(ChannelClosed, match="signed or published"):
        decide_update(scene.channel, scene.update(4))


def test_between_two_revocations_both_states_can_be_published(scene: Scene) -> None:
    """State 4 is complete and state 3 not revoked: either may go out."""
    scene.then(decide_update(scene.channel, scene.update_in_flight(4)))

    made = [own_commitment(scene.channel, number, signatures(scene, number)) for number in (3, 4)]

    assert [scene.commitment(Side.A, number) for number in (3, 4)] == made


def test_revoked_and_unknown_states_are_refused(scene: Scene) -> None:
    """The self-breach guard, and a state that does not exist."""
    with pytest.raises(SelfBreach, match="own state 2 was revoked"):
        own_commitment(scene.channel, 2, signatures(scene, 2))
    with pytest.raises(SequenceGap, match="no complete state 4"):
        own_commitment(scene.channel, 4, signatures(scene, 4))


def test_a_frozen_channel_publishes_nothing(scene: Scene) -> None:
    """What is newest is not known."""
    scene.then([ChannelFrozen(recorded_at=NOW, reason=FreezeReason.RESTORED, evidence=b"")])

    with pytest.raises(ChannelNotReady, match="frozen"):
        own_commitment(scene.channel, 3, signatures(scene, 3))


@pytest.mark.parametrize("side", list(Side))
def test_signatures_are_checked(scene: Scene, side: Side) -> None:
    """A signature of another transaction is refused with the name of its side."""
    pair = list(signatures(scene, 3))
    pair[side] = signatures(scene, 2)[side]

    with pytest.raises(InvalidSignature, match=f"signature of {side.name} "):
        own_commitment(scene.channel, 3, (pair[0], pair[1]))


def test_nothing_is_published_once_another_spend_is_in_a_block(scene: Scene) -> None:
    """The peer's close is confirmed; the own commitment could never follow."""
    pair = signatures(scene, 3)
    scene.mined(scene.commitment(Side.B, 3), block(200))

    with pytest.raises(ChannelClosed, match="in a block"):
        own_commitment(scene.channel, 3, pair)


@pytest.mark.parametrize("revoker", list(Side))
def test_a_commitment_that_was_revoked_meanwhile_is_not_sent_again(scene: Scene, revoker: Side) -> None:
    """State 3 was asked for while state 4 was on its way; whoever revokes it, sending it again would be a breach."""
    scene.then(decide_update(scene.channel, scene.update_in_flight(4)))
    tx = own_commitment(scene.channel, 3, signatures(scene, 3))
    scene.then(commitment_published(scene.channel, tx, 3, NOW))
    before = close_to_send(scene.channel, tx.serialize())
    secret = None if revoker is scene.own else scene.secret(revoker, 3)
    scene.then(decide_revoke(scene.channel, RevokeState(NOW, revoker, 3, secret, scene.points(5)[revoker])))

    assert (tx.serialize(), None) == (before, close_to_send(scene.channel, tx.serialize()))


# ── cooperative closes ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("closer", list(Side))
def test_a_cooperative_close_is_stored_once(scene: Scene, closer: Side) -> None:
    """Terms are found again from the transaction; the same close again stores nothing; the status says so."""
    balances = scene.channel.balances
    tx = close(scene, balances, closer, 777)
    proposed, signed = scene.then(decide_close(scene.channel, tx, balances, NOW))

    assert (closer, 777, balances) == (proposed.by, proposed.fee, proposed.final_balances)
    assert (tx.serialize(), Side.A) == (signed.raw, signed.by)
    assert "COOP_CLOSING" == scene.channel.status
    assert [] == decide_close(scene.channel, tx, balances, NOW)


def test_a_close_with_a_trimmed_output() -> None:
    """A balance below dust leaves one output; the terms are still found."""
    scene = Scene().opened(updates=1)
    balances = (CAPACITY - 200, 200)

    events = decide_close(scene.channel, close(scene, balances), balances, NOW)

    assert 2 == len(events)


def test_a_higher_fee_replaces_a_close_with_the_same_balances(scene: Scene) -> None:
    """Fee bumps are allowed, another division is not (U6)."""
    balances = scene.channel.balances
    scene.then(decide_close(scene.channel, close(scene, balances), balances, NOW))
    dearer = close(scene, balances, fee=900)
    scene.then(decide_close(scene.channel, dearer, balances, NOW))
    other = (balances[0] + 1, balances[1] - 1)

    assert dearer.serialize() == close_to_send(scene.channel, None)
    with pytest.raises(ChannelClosed, match="sat was signed before"):
        decide_close(scene.channel, close(scene, other), other, NOW)


def test_closes_that_are_refused(scene: Scene) -> None:
    """Sums, templates and signatures."""
    balances = scene.channel.balances
    tx = close(scene, balances)
    with pytest.raises(InvalidState, match="do not add up"):
        decide_close(scene.channel, tx, (1, 2), NOW)
    with pytest.raises(InvalidState, match="not the cooperative close"):
        decide_close(scene.channel, tx, (balances[0] + 1, balances[1] - 1), NOW)
    with pytest.raises(InvalidState, match="not the cooperative close"):
        decide_close(scene.channel, msgspec.structs.replace(tx, version=3), balances, NOW)
    with pytest.raises(InvalidSignature, match="both parties"):
        decide_close(scene.channel, tx.with_witness(0, (bytes(64),)), balances, NOW)


def test_a_close_with_pending_conditions_is_refused() -> None:
    """They must be settled or dropped first."""
    waiting = Condition(0, 1, 5_000, 20_000, bytes(32))
    scene = Scene(conditions={1: (waiting,)}).opened(updates=1)
    balances = (500_000, 500_000)

    with pytest.raises(InvalidState, match="conditions are pending"):
        decide_close(scene.channel, close(scene, balances), balances, NOW)


# ── what is sent again ───────────────────────────────────────────────────────────────────────────────────────────


def published(scene: Scene) -> tuple[Transaction, Channel]:
    """The own commitment of state 3 was asked for."""
    tx = own_commitment(scene.channel, 3, signatures(scene, 3))
    scene.then(commitment_published(scene.channel, tx, 3, NOW))
    return tx, scene.channel


def test_an_own_commitment_comes_from_memory_until_it_was_seen(scene: Scene) -> None:
    """Never seen: only if this process has it. Seen and gone: from the log. Seen: nothing to do."""
    tx, unseen = published(scene)
    scene.seen(tx)
    present = scene.channel
    scene.then(spend_gone(scene.channel, tx.txid, None, 201, NOW))

    assert (None, tx.serialize()) == (close_to_send(unseen, None), close_to_send(unseen, tx.serialize()))
    assert close_to_send(present, None) is None
    assert tx.serialize() == close_to_send(scene.channel, None)


def test_a_close_is_sent_again_after_a_reorg(scene: Scene) -> None:
    """Confirmed it rests; disconnected it is sent again."""
    balances = scene.channel.balances
    tx = close(scene, balances)
    scene.then(decide_close(scene.channel, tx, balances, NOW))
    scene.mined(tx, block(200))
    confirmed = scene.channel
    scene.then(disconnected(scene.channel, block(200), NOW))

    assert close_to_send(confirmed, None) is None
    assert tx.serialize() == close_to_send(scene.channel, None)


def test_a_stale_commitment_that_dropped_out_goes_first(scene: Scene) -> None:
    """The cheater's revoked state is punished, not replaced by the own close."""
    tx, _ = published(scene)
    stale = scene.commitment(Side.B, 1)
    scene.seen(stale)
    scene.then(spend_gone(scene.channel, stale.txid, None, 201, NOW))

    assert close_to_send(scene.channel, tx.serialize()) is None


def test_what_others_published_is_not_sent_by_us(scene: Scene) -> None:
    """The peer's close that left the mempool is the peer's to send."""
    theirs = scene.commitment(Side.B, 3)
    scene.seen(theirs)
    scene.then(spend_gone(scene.channel, theirs.txid, None, 201, NOW))

    assert close_to_send(scene.channel, None) is None


def test_an_own_commitment_that_somebody_else_sent_survives_a_reorg(scene: Scene) -> None:
    """The owner published it without the tower; taken out of its block and every mempool it is sent again."""
    tx = scene.commitment(scene.own, 3)
    scene.mined(tx, block(200))
    confirmed = scene.channel
    scene.then(disconnected(scene.channel, block(200), NOW))

    assert close_to_send(confirmed, None) is None
    assert tx.serialize() == close_to_send(scene.channel, None)
    assert close_to_send(msgspec.structs.replace(scene.channel, frozen=True), None) is None
    assert close_to_send(msgspec.structs.replace(scene.channel, own_released=3), None) is None
