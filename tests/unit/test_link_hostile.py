"""A link to a peer that sends what no party sends, or too much of what parties send."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import pytest

from domain.errors import UnknownChannel
from tests.support.linking import ALICE, BOB, TERMS, fund, linked, new_parties
from tests.support.receipts import acknowledge
from tests.support.sieve import NEXT, sieves, soon
from watchtower.client.party.party import ChannelParty
from watchtower.client.party.peer_book import PeerBook
from watchtower.client.peer_errors import PeerRefused, TransportClosed
from watchtower.client.peers import work as link_work
from watchtower.client.peers.allowance import HOUR, AllowanceExceeded, PeerAllowance
from watchtower.client.peers.link import REFUSAL_LIMIT, PeerLink
from watchtower.client.peers.messages import Refused, decode, encode
from watchtower.client.peers.work import OPENING_LIMIT
from watchtower.client.protocol.messages import Message, Reestablish
from watchtower.client.transport.memory import MemoryTransport, memory_pair
from watchtower.wire.hexes import Hex32

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff\xfe", b"{}", b'{"type":"unknown"}', b"[" * 10_000, b'{"type":"update_reject","channel_id":"00"}'],
    ids=["empty", "binary", "no type", "unknown type", "deep", "wrong field"],
)
async def test_what_no_party_sends_ends_the_connection(raw: bytes) -> None:
    """Nothing is stored, the other side's calls end."""
    near, far = memory_pair(ALICE, BOB)
    ends, books = new_parties()
    async with PeerLink(ends[0], near, books[0]):
        await far.send(raw)
        with pytest.raises(TransportClosed):
            await soon(_until_closed(far))

    assert () == ends[0].channels()


async def test_a_stranger_cannot_speak_for_a_channel() -> None:
    """Another peer that knows the channel id gets the answer for unknown channels, and no `reestablish`."""
    async with linked() as two:
        channel_id = await two.open()
        ends, books = two.parties, two.books
    eve, mallory = memory_pair(b"\xee" * 32, ALICE)
    del mallory
    near, stranger = memory_pair(ALICE, b"\xee" * 32)
    del eve
    before = ends[0].channel(channel_id)
    async with PeerLink(ends[0], near, books[0]) as link:
        await stranger.send(encode(where(channel_id)))
        answer = decode(await soon(stranger.receive()))

        assert isinstance(answer, Refused)
        assert "unknown-channel" == answer.slug
        assert before == ends[0].channel(channel_id)
        with pytest.raises(UnknownChannel):
            await link.update(channel_id, NEXT)


async def test_too_many_refused_messages_end_the_connection() -> None:
    """Each is answered with a refusal; after the limit the link hangs up."""
    near, far = memory_pair(ALICE, BOB)
    ends, books = new_parties()
    async with PeerLink(ends[0], near, books[0]):
        for _ in range(REFUSAL_LIMIT + 1):
            await far.send(encode(where(bytes(32))))

        assert REFUSAL_LIMIT == await soon(_until_closed(far, count=True))


async def test_refusals_are_never_answered() -> None:
    """Two links that refuse each other's messages would talk for ever otherwise."""
    near, far = memory_pair(ALICE, BOB)
    ends, books = new_parties()
    async with PeerLink(ends[0], near, books[0]):
        await far.send(encode(Refused(channel_id=Hex32(bytes(32)), about="reestablish", slug="refused", reason="no")))
        await far.send(encode(where(bytes(32))))
        first = decode(await soon(far.receive()))

    assert isinstance(first, Refused)
    assert "reestablish" == first.about


async def test_openings_that_nobody_finishes_are_bounded() -> None:
    """A peer cannot fill the log with openings that it breaks off."""
    async with linked() as two:
        for _ in range(OPENING_LIMIT):
            await two.a.propose_channel(TERMS)
        with pytest.raises(PeerRefused, match="unfinished"):
            await two.a.propose_channel(TERMS)

        assert OPENING_LIMIT == len(two.parties[1].channels())


async def test_channels_that_nobody_funds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete state costs the opener nothing either; a channel that the tower holds leaves room for another."""
    monkeypatch.setattr(link_work, "UNHELD_LIMIT", 3)
    async with linked() as two:
        channels = [await two.open() for _ in range(3)]
        await two.a.update(channels[0], NEXT)
        with pytest.raises(PeerRefused, match="3 channels of this peer have no funding"):
            await two.open()
        acknowledge(two.parties[1], channels[0], 1)
        await two.open()

        assert 4 == len(two.parties[1].channels())


async def test_offers_that_come_to_nothing_are_bounded() -> None:
    """A peer that offers, takes back and offers again fills its share only; a new connection does not help it."""
    (alice, bob), books = new_parties()
    async with linked(None, (alice, bob), books) as two:
        channel_id = await two.open()
    allowance = PeerAllowance(limit=20_000)
    offers = tuple(next_offer(bob, channel_id, number) for number in range(1, 60))

    first = await stored_until_the_end(alice, books[0], allowance, offers)
    second = await stored_until_the_end(alice, books[0], allowance, offers)

    assert 5 < first < 25
    assert 0 == second


async def test_exchanges_that_end_with_a_state_cost_nothing() -> None:
    """An honest peer may make any number of states, in and out of turn."""
    near, far = memory_pair(ALICE, BOB)
    ends, books = new_parties()
    allowance = PeerAllowance(limit=10_000)
    a = PeerLink(ends[0], near, books[0], allowance=allowance)
    async with a, PeerLink(ends[1], far, books[1]) as b:
        channel_id = await a.open_channel(TERMS, fund)
        await b.wait_for(channel_id, lambda channel: channel.sequence == 0)
        for number in range(1, 21):
            await b.update(channel_id, (500_000 - number, 500_000 + number))

    assert allowance.is_untouched


async def test_an_allowance_is_given_anew_each_hour() -> None:
    """Spent is spent until the hour is over; what was finished is given back."""
    now = [0.0]
    allowance = PeerAllowance(limit=1_000, clock=lambda: now[0])
    allowance.charge(ALICE, 300, replaces=True)
    allowance.charge(ALICE, 300, replaces=True)
    with pytest.raises(AllowanceExceeded, match="1600 bytes"):
        allowance.require()
    allowance.refund(ALICE)
    allowance.require()
    allowance.charge(ALICE, 300, replaces=True)
    now[0] = HOUR

    allowance.require()

    assert allowance.is_untouched


def next_offer(party: ChannelParty, channel_id: bytes, number: int) -> Message:
    """An offer for state 1, withdrawn at once so that another one can follow."""
    (offer,) = party.offer(channel_id, (500_000 - number, 500_000 + number))
    party.withdraw(channel_id)
    return offer


async def stored_until_the_end(
    party: ChannelParty, book: PeerBook, allowance: PeerAllowance, offers: Sequence[Message]
) -> int:
    """Events that a connection with these offers leaves in the party's log; it must be ended by the party."""
    near, far = memory_pair(ALICE, BOB)
    before = party.channels()[0].version
    link = PeerLink(party, near, book, allowance=allowance)
    running = asyncio.create_task(link.run())
    for offer in offers:
        with contextlib.suppress(TransportClosed):
            await far.send(encode(offer))
    with pytest.raises(AllowanceExceeded, match="without a completed state"):
        await soon(running)
    return party.channels()[0].version - before


async def test_a_stopped_link_has_nothing_left_to_say_to_its_party() -> None:
    """What had arrived before is taken or thrown away by then, so that the next connection comes behind it."""
    (alice, bob), books = new_parties()
    async with linked(None, (alice, bob), books) as two:
        channel_id = await two.open()
    near, far = memory_pair(ALICE, BOB)
    link = PeerLink(alice, near, books[0])
    running = asyncio.create_task(link.run())
    await far.receive()
    for number in range(20):
        await far.send(encode(next_offer(bob, channel_id, number)))

    await link.stop()
    ended, stored = running.done(), alice.channel(channel_id).version
    await asyncio.gather(running, return_exceptions=True)

    assert ended
    assert stored == alice.channel(channel_id).version


async def test_an_answer_to_no_opening_is_refused() -> None:
    """A second acceptance, or one that nobody waits for, changes nothing."""
    near, far = sieves()
    async with linked((near, far)) as two:
        await two.open()
        before = len(two.parties[0].channels())
        accept = next(message for message in far.sent if type(message).__name__ == "AcceptChannel")
        await two.b.send(accept)
        await two.b.update(two.parties[0].channels()[0].channel_id, NEXT)

        assert before == len(two.parties[0].channels())


def where(channel_id: bytes) -> Reestablish:
    """A question that any peer may ask."""
    return Reestablish(
        channel_id=Hex32(channel_id),
        current_seq=0,
        pending_seq=None,
        pending_state_hash=None,
        last_peer_secret_seq=None,
        last_peer_secret=None,
    )


async def _until_closed(transport: MemoryTransport, count: bool = False) -> int:
    """Read to the end; `TransportClosed`, or with `count` the number of messages before it."""
    read: Sequence[bytes] = []
    try:
        while True:
            read = [*read, await transport.receive()]
    except TransportClosed:
        if not count:
            raise
        return len(read)
