"""A link whose peer is silent, loses messages or hangs up: what binds, what does not, and that calls end."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.linking import ALICE, BOB, TERMS, fund, linked, new_parties
from tests.support.sieve import NEXT, sieves, soon, unanswered
from watchtower.client.peer_errors import PeerRefused, PeerSilent, TransportClosed
from watchtower.client.peers.link import PeerLink
from watchtower.client.peers.messages import Refused, encode
from watchtower.client.protocol.messages import (
    Message,
    UpdateAccept,
    UpdateCommit,
    UpdateOffer,
    UpdateOfferOk,
    UpdatePropose,
    UpdateReject,
    UpdateRevoke,
)
from watchtower.client.transport.memory import memory_pair
from watchtower.wire.hexes import Hex32

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("lost", [UpdateOffer, UpdateOfferOk])
async def test_silence_before_a_signature_changes_nothing(lost: type[Message]) -> None:
    """Nothing is bound yet: the error says that the call may be repeated, and repeating it works."""
    near, far = sieves()
    async with linked((near, far)) as two:
        channel_id = await two.open()
        near.lost = far.lost = (lost,)
        with pytest.raises(PeerSilent, match="may be repeated"):
            await unanswered(two, near, two.b.update(channel_id, NEXT))
        near.lost = far.lost = ()

        assert 0 == two.parties[0].channel(channel_id).sequence
        assert 1 == await two.b.update(channel_id, NEXT)


@pytest.mark.parametrize("lost", [UpdatePropose, UpdateAccept])
async def test_silence_after_a_signature_binds(lost: type[Message]) -> None:
    """After message 1 the error says what is left, finish or close; the same content goes on."""
    near, far = sieves()
    async with linked((near, far)) as two:
        channel_id = await two.open()
        near.lost = far.lost = (lost,)
        with pytest.raises(PeerSilent, match="U5"):
            await unanswered(two, near, two.b.update(channel_id, NEXT))
        near.lost = far.lost = ()

        assert 1 == await two.b.update(channel_id, NEXT)


async def test_a_refusal_after_a_signature_binds() -> None:
    """The peer's no to a proposal does not take the signatures back: the error says finish or close."""
    near, far = sieves()
    async with linked((near, far)) as two:
        channel_id = await two.open()
        near.lost = far.lost = (UpdatePropose,)
        waiting = asyncio.create_task(two.b.update(channel_id, NEXT))
        await two.b.wait_for(channel_id, lambda channel: channel.pending is not None and channel.pending.is_bound)
        no = Refused(channel_id=Hex32(channel_id), about="update-propose", slug="refused", reason="not today")
        await near.send(encode(no))

        with pytest.raises(PeerRefused, match=r"not today.*close the channel; no other content.*\(rule U5\)"):
            await waiting
        near.lost = far.lost = ()
        assert 1 == await two.b.update(channel_id, NEXT)


@pytest.mark.parametrize("lost", [UpdateCommit, UpdateRevoke])
async def test_a_lost_end_of_an_update_is_sent_again(lost: type[Message]) -> None:
    """Messages 3 and 4 come back with the next connection; both sides hold the state."""
    near, far = sieves()
    async with linked((near, far)) as two:
        channel_id = await two.open()
        near.lost = far.lost = (lost,)
        with pytest.raises(PeerSilent):
            await unanswered(two, near, two.b.update(channel_id, NEXT))
        ends, books = two.parties, two.books

    async with linked(None, ends, books) as again:
        for link in (again.a, again.b):
            channel = await link.wait_for(channel_id, lambda each: each.sequence == 1 and each.peer_revoked == 0)
            assert NEXT == channel.balances


async def test_a_peer_that_never_answers_an_opening_costs_the_timeout() -> None:
    """No channel exists afterwards."""
    near, _ = memory_pair(ALICE, BOB)
    ends, books = new_parties()
    async with PeerLink(ends[0], near, books[0], timeout_ms=200) as link:
        with pytest.raises(PeerSilent, match="200 ms"):
            await link.open_channel(TERMS, fund)

    assert () == ends[0].channels()


async def test_the_end_of_a_connection_ends_the_calls() -> None:
    """A call in flight and every later one hear `TransportClosed`, at once."""
    near, far = sieves()
    async with linked((near, far)) as two:
        channel_id = await two.open()
        far.lost = (UpdateOfferOk, UpdateReject)
        waiting = asyncio.create_task(two.a.update(channel_id, NEXT))
        await two.b.wait_for(channel_id, lambda channel: channel.pending is not None)
        await far.close()

        with pytest.raises(TransportClosed):
            await soon(waiting)
        with pytest.raises(TransportClosed):
            await soon(two.a.update(channel_id, NEXT))
