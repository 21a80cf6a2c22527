"""The update exchange refuses what breaks a rule, and nothing is released for it (rules U1 to U6, F06 to F16)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from domain.contract.revocation import commitment_point, commitment_secret
from domain.errors import (
    ChannelClosed,
    ChannelNotReady,
    Equivocation,
    InvalidSecret,
    InvalidSignature,
    InvalidState,
    SequenceGap,
    UnknownChannel,
)
from domain.events import AlertKind, AlertRaised, ChannelFrozen, EquivocationFound, FreezeReason
from domain.units import Side
from tests.support.exchanging import copy_of, decoded, events_of, lose, next_balances, tamper
from tests.support.parties import open_pair
from watchtower.client.party import exchange
from watchtower.client.protocol import seat
from watchtower.client.protocol.messages import (
    Message,
    UpdateAccept,
    UpdateCommit,
    UpdateOffer,
    UpdatePropose,
    UpdateReject,
    UpdateRevoke,
)
from watchtower.wire.hexes import Hex64, SecretHex


def test_f06_update_gap_is_refused_and_a_repetition_is_idempotent() -> None:
    """A skipped number is rejected with the reason; the same offer again gets the same answer and no event."""
    pair = open_pair()
    (offer,) = pair.b.offer(pair.channel_id, next_balances(pair))
    header = bytearray(offer.header)
    header[40] = 3
    skipping = msgspec.structs.replace(offer, header=type(offer.header)(header))

    (answer,) = pair.a.receive(skipping)
    assert isinstance(answer, UpdateReject)
    assert "state 1 comes next, got 3" in answer.reason

    first = pair.a.receive(offer)
    stored = len(events_of(pair, Side.A))
    assert pair.a.receive(offer) == first
    assert len(events_of(pair, Side.A)) == stored


def test_f06_second_content_for_a_number_is_equivocation() -> None:
    """A second header for a complete number is refused with evidence, and the channel freezes (U5)."""
    pair = open_pair()
    before = copy_of(pair)
    pair.update()
    (second,) = before.b.offer(pair.channel_id, (400_000, 600_000))
    assert isinstance(second, UpdateOffer)

    with pytest.raises(Equivocation, match="second content"):
        pair.a.receive(second)

    found, frozen = (event.payload for event in events_of(pair, Side.A)[-2:])
    assert isinstance(found, EquivocationFound)
    assert (found.stored_state_hash, found.offered_header) == (pair.state(1).content.state_hash, second.header)
    assert isinstance(frozen, ChannelFrozen)
    assert pair.a.channel(pair.channel_id).frozen is FreezeReason.EQUIVOCATION
    with pytest.raises(ChannelNotReady, match="frozen"):
        pair.update()


@pytest.mark.parametrize(
    ("balances", "complaint"),
    [
        ((500_000, 499_999), "add up to"),
        ((500_001, 500_000), "add up to"),
        ((1_000_001, -1), "negative"),
        ((-1, 1_000_001), "negative"),
        ((9_999, 990_001), "reserve"),
        ((995_000, 5_000), "reserve"),
    ],
)
def test_f07_sums_and_balances(balances: tuple[int, int], complaint: str) -> None:
    """Sums that differ from the capacity, negative balances and broken reserves are refused before any signature."""
    pair = open_pair()

    with pytest.raises(InvalidState, match=complaint):
        pair.b.offer(pair.channel_id, balances)

    assert pair.b.channel(pair.channel_id).pending is None


@pytest.mark.parametrize("name", ["settle_a", "settle_b", "state_sig"])
def test_f08_bad_settlement_signature_releases_nothing(name: str) -> None:
    """U1: with a bad signature in message 1 the acceptor sends no commitment signature and stores nothing."""
    pair = open_pair()
    wire = tamper(UpdatePropose, lambda each: msgspec.structs.replace(each, **{name: Hex64(bytes(64))}))
    stored = len(events_of(pair, Side.A))

    with pytest.raises(InvalidSignature):
        exchange.update(pair.a, pair.b, pair.channel_id, next_balances(pair), carry=wire)

    assert [type(event.payload).__name__ for event in events_of(pair, Side.A)[stored:]] == ["StateOffered"]


@pytest.mark.parametrize("name", ["settle_a", "settle_b", "state_sig", "commit_peer"])
def test_bad_signature_of_the_acceptor_releases_nothing(name: str) -> None:
    """U1 and U2: with a bad signature in message 2 the proposer sends neither commitment signature nor secret."""
    pair = open_pair()
    wire = tamper(UpdateAccept, lambda each: msgspec.structs.replace(each, **{name: Hex64(bytes(64))}))

    with pytest.raises(InvalidSignature):
        exchange.update(pair.a, pair.b, pair.channel_id, next_balances(pair), carry=wire)

    channel = pair.b.channel(pair.channel_id)
    assert (channel.sequence, channel.own_released) == (0, -1)
    assert channel.pending is not None
    assert channel.pending.acceptance is None


def test_bad_commitment_signature_keeps_the_old_state() -> None:
    """A bad signature in message 3: the acceptor does not revoke."""
    pair = open_pair()
    wire = tamper(UpdateCommit, lambda each: msgspec.structs.replace(each, commit_peer=Hex64(bytes(64))))

    with pytest.raises(InvalidSignature):
        exchange.update(pair.a, pair.b, pair.channel_id, next_balances(pair), carry=wire)

    channel = pair.a.channel(pair.channel_id)
    assert (channel.sequence, channel.own_released, channel.peer_revoked) == (0, -1, -1)


@pytest.mark.parametrize("form", [UpdateCommit, UpdateRevoke])
def test_f09_secret_of_a_wrong_point(form: type[Message]) -> None:
    """A secret that does not belong to the announced point is refused; its receiver keeps what it had."""
    pair = open_pair()
    wire = tamper(form, lambda each: msgspec.structs.replace(each, secret=SecretHex(b"\x07" * 32)))
    receiver = pair.a if form is UpdateCommit else pair.b

    with pytest.raises(InvalidSecret, match="point"):
        exchange.update(pair.a, pair.b, pair.channel_id, next_balances(pair), carry=wire)

    assert receiver.channel(pair.channel_id).peer_revoked == -1
    assert receiver.channel(pair.channel_id).buckets == ()


def test_f10_inconsistent_shachain_raises_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that fits its point but not the earlier secrets is refused, and the alert is in the log."""
    pair = open_pair()
    b_seed = pair.secrets(Side.B).seed

    def foreign_from_three(real: Callable[[bytes, int], bytes]) -> Callable[[bytes, int], bytes]:
        return lambda seed, n: real(b"\x42" * 32 if seed == b_seed and n >= 3 else seed, n)

    monkeypatch.setattr(seat, "commitment_secret", foreign_from_three(commitment_secret))
    monkeypatch.setattr(seat, "commitment_point", foreign_from_three(commitment_point))
    pair.updates(3)

    with pytest.raises(InvalidSecret, match="contradicts"):
        pair.update()
    with pytest.raises(InvalidSecret, match="contradicts"):
        exchange.reconnect(pair.a, pair.b, pair.channel_id)

    alert = events_of(pair, Side.A)[-1].payload
    before = events_of(pair, Side.A)[-2].payload
    assert isinstance(alert, AlertRaised)
    assert not isinstance(before, AlertRaised)
    assert (alert.kind, alert.sequence) == (AlertKind.SECRET_INCONSISTENT, 3)
    assert pair.a.channel(pair.channel_id).peer_revoked == 2


def test_f15_abandoned_proposal_binds_both_sides() -> None:
    """After message 1 was sent, its sender refuses another content for the number, and so does its receiver."""
    pair = open_pair()
    before = copy_of(pair)
    exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, next_balances(pair)), carry=lose(3))

    with pytest.raises(Equivocation, match="U5"):
        pair.b.offer(pair.channel_id, (400_000, 600_000))
    with pytest.raises(Equivocation, match="second content"):
        pair.a.receive(decoded(before.b.offer(pair.channel_id, (400_000, 600_000))))


def test_f15_an_offer_alone_binds_nobody() -> None:
    """Before message 1 the proposer may change its mind."""
    pair = open_pair()
    exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, next_balances(pair)), carry=lose(1))

    assert exchange.update(pair.a, pair.b, pair.channel_id, (400_000, 600_000)) == 1
    assert pair.balances == (400_000, 600_000)


def test_f16_no_update_after_a_close_signature() -> None:
    """U6: once a close signature left, neither side offers or accepts an update."""
    pair = open_pair()
    before = copy_of(pair)
    pair.close(Side.A)

    with pytest.raises(ChannelClosed, match="U6"):
        pair.b.offer(pair.channel_id, next_balances(pair))
    (answer,) = pair.a.receive(decoded(before.b.offer(pair.channel_id, next_balances(pair))))
    assert isinstance(answer, UpdateReject)
    assert "U6" in answer.reason


def test_u6_no_update_after_any_spend() -> None:
    """U6: publishing an own commitment or seeing a spend ends updates, whatever becomes of the spend."""
    pair, other = open_pair(), open_pair(names=("carol", "dave"))
    pair.b.sign_commitment(pair.channel_id, 0)
    other.b.note_spend(other.channel_id, other.commitment(Side.A, 0), 100)

    for each in (pair, other):
        with pytest.raises(ChannelClosed, match="U6"):
            each.b.offer(each.channel_id, next_balances(each))


def test_u3_a_proposal_out_of_turn_is_rejected() -> None:
    """A rejects an offer for a number that A itself has to propose."""
    pair = open_pair()
    pair.update()
    (offer,) = pair.a.offer(pair.channel_id, next_balances(pair))

    (answer,) = pair.a.receive(decoded([offer]))

    assert isinstance(answer, UpdateReject)
    assert "U3" in answer.reason


def test_messages_without_their_predecessors_are_refused() -> None:
    """Messages 1 to 4 out of the blue change nothing."""
    pair = open_pair()
    source = open_pair()
    seen = exchange.run(source.b, source.a, source.b.offer(source.channel_id, next_balances(source)))
    stored = len(events_of(pair, Side.A))

    for message in (seen[2], seen[4]):
        with pytest.raises(SequenceGap):
            pair.a.receive(message)
    with pytest.raises(SequenceGap):
        pair.b.receive(seen[3])
    with pytest.raises(SequenceGap):
        pair.b.receive(seen[5])
    with pytest.raises(UnknownChannel):
        pair.a.receive(msgspec.structs.replace(seen[0], channel_id=type(seen[0].channel_id)(bytes(32))))
    assert len(events_of(pair, Side.A)) == stored
