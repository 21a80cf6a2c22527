"""Exchanges between two parties of a test: what was stored, messages that are changed or lost, restarts half-way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from domain.contract.conditions import Condition
from domain.events import Envelope, StateAccepted, StateCommitted, StateProposed, StateRevoked
from domain.units import Side
from tests.fakes.store import MemoryEventStore
from tests.support.faults import Crashed
from tests.support.parties import Pair, make_party
from watchtower.client.party import exchange
from watchtower.client.party.exchange import deliver
from watchtower.client.party.party import ChannelParty
from watchtower.client.protocol.messages import (
    AnyMessage,
    Message,
    UpdateAccept,
    UpdateCommit,
    UpdateOffer,
    UpdateOfferOk,
    UpdatePropose,
    UpdateRevoke,
    decode_message,
    encode_message,
)

EXCHANGE = (UpdateOffer, UpdateOfferOk, UpdatePropose, UpdateAccept, UpdateCommit, UpdateRevoke)


def events_of(pair: Pair, side: Side) -> list[Envelope]:
    """The log of one party for the channel."""
    party = pair.parties[side]
    return party._store.read_stream(party.channel(pair.channel_id).stream)


def tamper(form: type[Message], change: Callable[[AnyMessage], AnyMessage]) -> exchange.Carry:
    """A wire that alters messages of one type."""

    def carry(sender: ChannelParty, message: Message) -> Sequence[AnyMessage]:
        arrived = deliver(sender, message)
        return [change(each) if isinstance(each, form) else each for each in arrived]

    return carry


def lose(place: int) -> exchange.Carry:
    """A wire that loses everything from the given message on."""
    count = iter(range(1_000_000))

    def carry(sender: ChannelParty, message: Message) -> Sequence[AnyMessage]:
        return deliver(sender, message) if next(count) < place else ()

    return carry


def next_balances(pair: Pair) -> tuple[int, int]:
    """A payment of 1,000 sat from A to B."""
    return pair.balances[0] - 1_000, pair.balances[1] + 1_000


def assert_revoked_only_when_safe(events: Sequence[Envelope], own: Side) -> None:
    """U2: before an own release of n the log holds a complete n+1 with both settlement signatures of the peer."""
    complete: set[int] = set()
    proposed: set[int] = set()
    for event in events:
        match event.payload:
            case StateProposed(sequence=sequence) | StateAccepted(sequence=sequence):
                proposed.add(sequence)
            case StateCommitted(sequence=sequence):
                assert sequence in proposed
                complete.add(sequence)
            case StateRevoked(sequence=sequence, party=party) if party is own:
                assert sequence + 1 in complete


def copy_of(pair: Pair) -> Pair:
    """The same parties on copies of their stores: what a dishonest party keeps to go back to."""
    copies = []
    for side in Side:
        store = MemoryEventStore()
        store.append(events_of(pair, side))
        copies.append(make_party(pair.names[side], store=store))
    return Pair((copies[0], copies[1]), pair.names, pair.channel_id, pair.funding)


def decoded(messages: Sequence[Message]) -> AnyMessage:
    """The one message as it arrives."""
    (message,) = messages
    return decode_message(encode_message(message))


def died_during(work: Callable[[], object]) -> bool:
    """Whether the work ended in a crash."""
    try:
        work()
    except Crashed:
        return True
    return False


def finish_update(
    pair: Pair, balances: tuple[int, int], conditions: Sequence[Condition] = (), state_data: bytes = b""
) -> None:
    """Begin state 3 again with the same content, if no message of it survived."""
    if pair.sequence < 3:
        exchange.update(pair.a, pair.b, pair.channel_id, balances, conditions, state_data)


def resume_opening(a: ChannelParty, b: ChannelParty, funding: tuple[bytes, int]) -> None:
    """Go on with an opening that both sides know; one that only the acceptor knows is given up."""
    for channel in a.channels():
        if not channel.params.is_funding_known:
            exchange.run(a, b, a.fix_funding(channel.channel_id, *funding))
        else:
            exchange.reconnect(a, b, channel.channel_id)
