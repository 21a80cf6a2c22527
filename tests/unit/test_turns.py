"""Handing over the turn (rule U3): offers out of turn, crossing offers, lost and repeated yields."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from domain.errors import ChannelNotReady, Equivocation, SequenceGap
from domain.events import TurnYielded
from domain.units import Side
from tests.support.parties import Pair, htlc, make_party, open_pair
from watchtower.client.party import exchange
from watchtower.client.party.exchange import deliver
from watchtower.client.party.party import ChannelParty
from watchtower.client.protocol.consent import never_lose
from watchtower.client.protocol.messages import (
    AnyMessage,
    Message,
    UpdateAccept,
    UpdateCommit,
    UpdateOffer,
    UpdateOfferOk,
    UpdatePropose,
    UpdateReject,
    UpdateRevoke,
    UpdateYield,
    decode_message,
    encode_message,
)
from watchtower.wire.hexes import Hex32

OUT_OF_TURN = (UpdateOffer, UpdateYield, UpdateOfferOk, UpdatePropose, UpdateAccept, UpdateCommit, UpdateRevoke)
PAID = (490_000, 510_000)
OTHER = (480_000, 520_000)


def arrived(message: Message) -> AnyMessage:
    """A message after its way over the wire."""
    return decode_message(encode_message(message))


def yields_of(pair: Pair, side: Side) -> list[tuple[int, Side]]:
    """(state, who handed over) in the log of a side."""
    party = pair.parties[side]
    events = party._store.read_stream(party.channel(pair.channel_id).stream)
    found = [event.payload for event in events if isinstance(event.payload, TurnYielded)]
    return [(event.sequence, event.by) for event in found]


def without(*forms: type[Message]) -> exchange.Carry:
    """A wire that loses messages of some types."""

    def carry(sender: ChannelParty, message: Message) -> Sequence[AnyMessage]:
        return () if isinstance(message, forms) else deliver(sender, message)

    return carry


def test_an_offer_out_of_turn_is_answered_with_the_turn() -> None:
    """A offers state 1, which is B's; B hands over, agrees, and A proposes. Both logs hold the yield."""
    pair = open_pair()

    seen = exchange.run(pair.a, pair.b, pair.a.offer(pair.channel_id, PAID))

    assert [type(message) for message in seen] == list(OUT_OF_TURN)
    assert pair.balances == PAID
    assert pair.state(1).by is Side.A
    assert yields_of(pair, Side.A) == yields_of(pair, Side.B) == [(1, Side.B)]


def test_a_turn_is_handed_over_for_one_state_only() -> None:
    """After it the parity decides again: state 2 is A's, state 3 is B's."""
    pair = open_pair()
    exchange.update(pair.a, pair.b, pair.channel_id, PAID, by=Side.A)

    assert pair.a.channel(pair.channel_id).turn(2) is Side.A
    assert exchange.update(pair.a, pair.b, pair.channel_id, OTHER, by=Side.B) == 2
    assert yields_of(pair, Side.A) == [(1, Side.B), (2, Side.A)]
    assert pair.a.channel(pair.channel_id).turn(3) is Side.B


@pytest.mark.parametrize("by", list(Side))
def test_one_side_may_propose_every_state(by: Side) -> None:
    """A payer that always pays needs no help by parity; every second state is handed over."""
    pair = open_pair()

    for number in range(1, 7):
        exchange.update(pair.a, pair.b, pair.channel_id, (500_000 - number, 500_000 + number), by=by)

    assert pair.sequence == 6
    assert [number for number, _ in yields_of(pair, Side.A)] == ([1, 3, 5] if by is Side.A else [2, 4, 6])
    assert pair.a.channel(pair.channel_id).state == pair.b.channel(pair.channel_id).state


def test_when_both_offer_the_one_whose_turn_it_is_goes_first() -> None:
    """Crossing offers: B refuses A's with the reason, A drops its own and takes B's."""
    pair = open_pair()
    (from_a,) = pair.a.offer(pair.channel_id, PAID)
    (from_b,) = pair.b.offer(pair.channel_id, OTHER)

    (refusal,) = pair.b.receive(arrived(from_a))
    answers = pair.a.receive(arrived(from_b))
    assert isinstance(refusal, UpdateReject)
    assert "both sides have offered state 1; B, whose turn it is, goes first" in refusal.reason
    assert pair.a.receive(arrived(refusal)) == []

    exchange.run(pair.a, pair.b, answers)
    assert pair.balances == OTHER
    assert pair.state(1).by is Side.B


def test_a_refusal_that_comes_first_is_told_to_the_offerer() -> None:
    """If the refusal overtakes the other offer, the one who asked hears why."""
    pair = open_pair()
    (from_a,) = pair.a.offer(pair.channel_id, PAID)
    pair.b.offer(pair.channel_id, OTHER)
    (refusal,) = pair.b.receive(arrived(from_a))

    with pytest.raises(ChannelNotReady, match="goes first"):
        pair.a.receive(arrived(refusal))


def test_a_proposal_out_of_turn_without_a_yield_is_refused() -> None:
    """Signatures for a state whose turn was not handed over are not answered, and nothing is stored."""
    pair, honest = open_pair(), open_pair()
    offer, _, agreed, proposal, *_ = exchange.run(honest.a, honest.b, honest.a.offer(honest.channel_id, PAID))
    assert isinstance(offer, UpdateOffer)
    assert isinstance(agreed, UpdateOfferOk)

    with pytest.raises(SequenceGap, match="did not hand over"):
        pair.b.receive(proposal)
    assert pair.b.channel(pair.channel_id).pending is None


def test_an_agreement_without_the_turn_does_not_make_a_proposal() -> None:
    """A does not sign as long as it has not heard that B handed over."""
    pair = open_pair()

    with pytest.raises(ChannelNotReady, match="keeps its turn"):
        exchange.run(pair.a, pair.b, pair.a.offer(pair.channel_id, PAID), carry=without(UpdateYield))

    pending = pair.a.channel(pair.channel_id).pending
    assert pending is not None
    assert not pending.is_bound


def test_a_lost_yield_is_repeated_with_the_next_answer() -> None:
    """Both sides disagree about the turn until one offer is answered; then the update goes through."""
    pair = open_pair()
    exchange.run(pair.a, pair.b, pair.a.offer(pair.channel_id, PAID), carry=without(UpdateYield, UpdateOfferOk))
    turns = [party.channel(pair.channel_id).turn(1) for party in pair.parties]

    exchange.reconnect(pair.a, pair.b, pair.channel_id)

    assert turns == [Side.B, Side.A]
    assert (pair.sequence, pair.balances) == (1, PAID)
    assert yields_of(pair, Side.A) == yields_of(pair, Side.B) == [(1, Side.B)]


def test_an_agreed_offer_may_be_replaced_by_its_sender_only() -> None:
    """B gave its turn away and waits for A; A may still change its mind, for an offer binds nobody."""
    pair = open_pair()
    exchange.run(pair.a, pair.b, pair.a.offer(pair.channel_id, PAID), carry=without(UpdateOfferOk))
    with pytest.raises(ChannelNotReady, match="was agreed to; let it finish first"):
        pair.b.offer(pair.channel_id, OTHER)

    exchange.run(pair.a, pair.b, pair.a.offer(pair.channel_id, OTHER))

    assert pair.balances == OTHER


def test_a_yield_out_of_the_blue_changes_at_most_the_turn() -> None:
    """Repeated and old yields change nothing, one for a later state is refused."""
    pair = open_pair()
    pair.updates(2)
    name = Hex32(pair.channel_id)

    assert pair.a.receive(UpdateYield(channel_id=name, seq=2)) == []
    assert pair.a.receive(UpdateYield(channel_id=name, seq=3)) == []
    assert pair.a.receive(UpdateYield(channel_id=name, seq=3)) == []
    with pytest.raises(SequenceGap, match="state 3 comes next"):
        pair.a.receive(UpdateYield(channel_id=name, seq=4))

    assert yields_of(pair, Side.A) == [(3, Side.B)]
    assert pair.sequence == 2


def test_nobody_hands_over_what_it_has_signed() -> None:
    """After message 1 the turn stays: an offer of the other side is refused, a yield as well."""
    pair = open_pair()
    exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, PAID), carry=without(UpdateAccept))

    with pytest.raises(Equivocation, match="U5"):
        pair.a.offer(pair.channel_id, OTHER)
    with pytest.raises(ChannelNotReady, match="cannot hand over"):
        pair.a.receive(UpdateYield(channel_id=Hex32(pair.channel_id), seq=1))


def test_a_late_offer_of_the_side_that_lost_is_no_equivocation() -> None:
    """A asked for state 1 and lost; its offer arrives when state 1 is complete: refused, and nobody is frozen."""
    pair = open_pair()
    (late,) = pair.a.offer(pair.channel_id, PAID)
    exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, OTHER))

    (answer,) = pair.b.receive(arrived(late))

    assert isinstance(answer, UpdateReject)
    assert "state 2 comes next" in answer.reason
    assert pair.b.channel(pair.channel_id).frozen is None
    assert pair.update() == 2


def test_the_turn_is_handed_over_with_conditions_too() -> None:
    """What is asked for out of turn may be any state."""
    pair = open_pair()
    condition = htlc(Side.A, 1, 20_000, 900_000)

    exchange.run(pair.a, pair.b, pair.a.offer(pair.channel_id, (480_000, 500_000), [condition], b"with data"))

    assert pair.state(1).content.read_conditions() == (condition,)
    assert pair.state(1).content.state_data == b"with data"


def test_a_refused_offer_does_not_block_the_peer() -> None:
    """B's offer is refused; afterwards A may offer the same number and gets the turn."""
    pair = open_pair(parties=(make_party("alice", consent=never_lose), make_party("bob")))
    with pytest.raises(ChannelNotReady, match="is due"):
        exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, PAID))

    exchange.run(pair.a, pair.b, pair.a.offer(pair.channel_id, OTHER))

    assert pair.balances == OTHER


def test_an_unanswered_offer_may_be_withdrawn_until_it_is_signed() -> None:
    """A withdrawn offer is not proposed even if the agreement comes late; a signed one cannot be withdrawn."""
    pair = open_pair()
    (offer,) = pair.b.offer(pair.channel_id, PAID)
    assert pair.b.withdraw(pair.channel_id)
    (agreed,) = pair.a.receive(arrived(offer))

    assert pair.b.receive(arrived(agreed)) == []
    assert not pair.b.withdraw(pair.channel_id)
    exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, OTHER), carry=without(UpdateAccept))
    assert not pair.b.withdraw(pair.channel_id)
    with pytest.raises(Equivocation):
        pair.b.offer(pair.channel_id, PAID)


def test_a_side_that_forgot_an_offer_is_brought_back_to_the_signed_one() -> None:
    """A agreed, forgot, and offers something else while B has signed: B repeats its proposal and both end there."""
    pair = open_pair()
    exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, PAID), carry=without(UpdatePropose))
    assert pair.a.withdraw(pair.channel_id)

    exchange.run(pair.a, pair.b, pair.a.offer(pair.channel_id, OTHER), carry=without(UpdateReject))

    assert pair.balances == PAID
    assert pair.a.channel(pair.channel_id).state == pair.b.channel(pair.channel_id).state


def test_after_a_reconnection_both_know_whose_turn_it_is() -> None:
    """The yield and the agreement were lost, and A has forgotten its offer: B may offer at once."""
    pair = open_pair()
    exchange.run(pair.a, pair.b, pair.a.offer(pair.channel_id, PAID), carry=without(UpdateYield, UpdateOfferOk))
    assert pair.a.withdraw(pair.channel_id)

    exchange.reconnect(pair.a, pair.b, pair.channel_id)
    turns = [party.channel(pair.channel_id).turn(1) for party in pair.parties]
    exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, OTHER))

    assert turns == [Side.A, Side.A]
    assert pair.balances == OTHER
    assert pair.state(1).by is Side.B
    assert yields_of(pair, Side.A) == yields_of(pair, Side.B) == [(1, Side.B), (1, Side.A)]
