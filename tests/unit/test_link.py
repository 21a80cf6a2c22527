"""Links between parties: whole lives of channels over messages, silence, refusals, hostile peers, cut connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest

from domain.contract.params import SEGWIT
from domain.errors import ChannelNotReady, InvalidState, UnknownChannel
from domain.transaction import Transaction
from domain.units import Side
from tests.fakes.keystore import MemoryKeystore
from tests.support.clocks import LoopTime
from tests.support.linking import ALICE, BOB, TERMS, TIMEOUT_MS, Linked, fund, linked, new_parties
from tests.support.parties import make_party, settings_of
from tests.support.receipts import acknowledge
from watchtower.client import link_work
from watchtower.client.allowance import HOUR, AllowanceExceeded, PeerAllowance
from watchtower.client.consent import never_lose
from watchtower.client.errors import TowerUnreachable
from watchtower.client.finality import Finality
from watchtower.client.link import REFUSAL_LIMIT, PeerLink
from watchtower.client.link_messages import Refused, decode, encode
from watchtower.client.link_work import OPENING_LIMIT
from watchtower.client.messages import (
    Message,
    Reestablish,
    UpdateAccept,
    UpdateCommit,
    UpdateOffer,
    UpdateOfferOk,
    UpdatePropose,
    UpdateReject,
    UpdateRevoke,
)
from watchtower.client.opening import Terms
from watchtower.client.party import ChannelParty, PartySettings
from watchtower.client.peer_book import PeerBook
from watchtower.client.peer_errors import Overtaken, PeerRefused, PeerSilent, TransportClosed
from watchtower.client.transport.memory import MemoryTransport, memory_pair
from watchtower.wire.hexes import Hex32

pytestmark = pytest.mark.asyncio
T = TypeVar("T")
NEXT = (490_000, 510_000)


class Sieve:
    """A transport that loses chosen messages on their way out."""

    def __init__(self, inner: MemoryTransport, loss: asyncio.Event) -> None:
        self._inner, self._loss = inner, loss
        self.peer = inner.peer
        self.lost: tuple[type[Message], ...] = ()
        self.sent: list[Message] = []

    async def send(self, raw: bytes) -> None:
        """Send, unless it is to be lost."""
        message = decode(raw)
        if isinstance(message, self.lost):
            self._loss.set()
            return
        self.sent.append(message)
        await self._inner.send(raw)

    async def lose(self) -> None:
        """Return when the next message was lost, at this end or the other."""
        self._loss.clear()
        await soon(self._loss.wait())

    async def receive(self) -> bytes:
        """As the inner one."""
        return await self._inner.receive()

    async def close(self) -> None:
        """As the inner one."""
        await self._inner.close()


def sieves() -> tuple[Sieve, Sieve]:
    """Both ends of a connection that can lose messages."""
    near, far = memory_pair(ALICE, BOB)
    loss = asyncio.Event()
    return Sieve(near, loss), Sieve(far, loss)


async def unanswered(two: Linked, near: Sieve, call: Awaitable[T]) -> T:
    """A call of which a message gets lost: its time passes as soon as nothing happens any more."""
    time, waiting = LoopTime(), asyncio.ensure_future(call)
    await near.lose()
    await two.rest()
    time.forward(TIMEOUT_MS / 1000)
    return await soon(waiting)


async def soon(waiting: Awaitable[T]) -> T:
    """What must happen within seconds, and on a busy machine in half a minute."""
    return await asyncio.wait_for(waiting, 30)


async def test_a_channel_lives_over_a_link() -> None:
    """Open, update from both sides in and out of turn, close: both sides stand at the same state."""
    async with linked() as two:
        channel_id = await two.open()

        assert await two.b.update(channel_id, NEXT) == 1
        assert await two.a.update(channel_id, (480_000, 520_000), state_data=b"two") == 2
        assert await two.a.update(channel_id, (470_000, 530_000)) == 3

        raw = await two.a.close_channel(channel_id, (470_000, 530_000), 1_000)
        closed = await two.b.wait_for(channel_id, lambda channel: bool(channel.closes and channel.closes[-1].raw))
        assert Transaction.parse(raw).txid == closed.closes[-1].txid
        assert closed.balances == (470_000, 530_000)


async def test_a_close_by_leaf_needs_no_session() -> None:
    """The other form of a close gives a complete transaction, too, also when it is asked for again."""
    async with linked() as two:
        channel_id = await two.open()
        raw = await two.b.close_channel(channel_id, TERMS.balances, 500, musig=False)

        assert raw == await two.b.close_channel(channel_id, TERMS.balances, 500, musig=False)


async def test_a_channel_without_taproot_lives_over_a_link() -> None:
    """Open, update and close in profile 1; the close has no joined signature, without being told."""
    keystores = (MemoryKeystore(), MemoryKeystore())
    ends = tuple(
        make_party(name, keystore=keystore, settings=settings_of(SEGWIT))
        for name, keystore in zip(("alice", "bob"), keystores, strict=True)
    )
    async with linked(None, (ends[0], ends[1]), (PeerBook(keystores[0]), PeerBook(keystores[1]))) as two:
        channel_id = await two.open(Terms(balances=TERMS.balances, profile=SEGWIT))
        await two.a.update(channel_id, NEXT)
        raw = await two.a.close_channel(channel_id, NEXT, 1_000)

    assert 4 == len(Transaction.parse(raw).inputs[0].witness)


async def test_many_channels_share_a_link() -> None:
    """Updates of several channels run at the same time; none disturbs another."""
    async with linked() as two:
        channels = [await two.open() for _ in range(5)]
        made = await asyncio.gather(*(two.b.update(channel_id, NEXT) for channel_id in channels))

    assert [1] * 5 == made


async def test_calls_of_one_channel_wait_for_each_other() -> None:
    """Two updates at once become two states."""
    async with linked() as two:
        channel_id = await two.open()
        made = await asyncio.gather(*(two.a.update(channel_id, NEXT, state_data=b"%d" % n) for n in range(2)))

    assert [1, 2] == sorted(made)


# ── silence ──────────────────────────────────────────────────────────────────────────────────────────────


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


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_peers_refusal_comes_out_with_its_reason() -> None:
    """A party that must not lose refuses an offer that takes its money; its words are in the error."""
    careful = MemoryKeystore()
    ends, books = new_parties()
    ends = (ends[0], make_party("bob", keystore=careful, consent=never_lose))
    async with linked(None, ends, (books[0], PeerBook(careful))) as two:
        channel_id = await two.open()
        with pytest.raises(PeerRefused) as refusal:
            await two.a.update(channel_id, (600_000, 400_000))

        assert "500000" in refusal.value.reason.replace(",", "")
        assert 1 == await two.a.update(channel_id, NEXT)


async def test_the_own_partys_refusal_comes_before_anything_is_sent() -> None:
    """Balances that do not add up never leave; what ends the opening may still be on its way."""
    near, far = sieves()
    async with linked((near, far)) as two:
        channel_id = await two.open()
        with pytest.raises(InvalidState):
            await two.b.update(channel_id, (1, 2))

        assert [] == [message for message in far.sent if isinstance(message, UpdateOffer | UpdatePropose)]


async def test_an_opening_that_the_peer_does_not_take_is_typed() -> None:
    """The kind of refusal and the reason come over the wire; nothing is stored on the other side."""
    async with linked() as two:
        with pytest.raises(PeerRefused) as refusal:
            await two.a.open_channel(Terms(balances=(60_000_000, 50_000_000)), fund)

        assert "invalid-params" == refusal.value.slug
        assert "capacity" in refusal.value.reason
        assert () == two.parties[1].channels()


async def test_a_peer_on_another_network_is_refused() -> None:
    """The genesis hash of the opening does not fit."""
    keystores = (MemoryKeystore(), MemoryKeystore())
    ends = (
        make_party("alice", keystore=keystores[0], settings=PartySettings(network="signet")),
        make_party("bob", keystore=keystores[1]),
    )
    async with linked(None, ends, (PeerBook(keystores[0]), PeerBook(keystores[1]))) as two:
        with pytest.raises(PeerRefused, match="chain"):
            await two.a.open_channel(TERMS, fund)

    assert () == ends[1].channels()


async def test_a_close_with_wrong_balances_is_refused_by_the_peer() -> None:
    """Who would lose does not sign; the reason comes back."""
    async with linked() as two:
        channel_id = await two.open()
        with pytest.raises(PeerRefused) as refusal:
            await two.a.close_channel(channel_id, (600_000, 400_000), 1_000)

        assert "invalid-state" == refusal.value.slug


async def test_an_offer_that_was_overtaken_is_said() -> None:
    """If another content became the state, the caller hears that its own did not."""
    near, far = sieves()
    async with linked((near, far)) as two:
        channel_id = await two.open()
        far.lost = (UpdateOfferOk, UpdateReject)
        near.lost = (UpdateOffer,)
        mine = asyncio.create_task(two.a.update(channel_id, NEXT, state_data=b"mine"))
        await two.a.wait_for(channel_id, lambda channel: channel.pending is not None)
        two.parties[0].withdraw(channel_id)
        await two.b.update(channel_id, NEXT, state_data=b"theirs")

        with pytest.raises(Overtaken):
            await soon(mine)


# ── hostile peers ────────────────────────────────────────────────────────────────────────────────────────


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


# ── the own tower ────────────────────────────────────────────────────────────────────────────────────────


async def test_an_update_counts_when_the_tower_has_it() -> None:
    """`update` returns after the tower's answer, with the state complete before it was asked."""
    asked: list[int] = []
    seen: list[Callable[[], int]] = []

    async def synchronize(channel_id: bytes) -> None:
        asked.append(seen[0]())

    async with linked(finality=Finality(synchronize)) as two:
        channel_id = await two.open()
        seen.append(lambda: two.parties[0].channel(channel_id).sequence)
        await two.a.update(channel_id, NEXT)

    assert [1] == asked


async def test_a_tower_that_fails_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    """The caller hears the failure; the background task goes on until the tower has the state, and says why once."""
    tries: list[bytes] = []
    done = asyncio.Event()

    async def synchronize(channel_id: bytes) -> None:
        tries.append(channel_id)
        if len(tries) < 5:
            raise TowerUnreachable("down")
        done.set()

    finality = Finality(synchronize, retry_seconds=0.01)
    async with linked(finality=finality) as two:
        channel_id = await two.open()
        with pytest.raises(TowerUnreachable):
            await two.a.update(channel_id, NEXT)
        running = asyncio.create_task(finality.run())
        await soon(done.wait())
        running.cancel()

    assert [channel_id] * 5 == tries
    assert 1 == caplog.text.count(f"tower_behind channel={channel_id.hex()[:16]} reason=down")


# ── who belongs to whom ──────────────────────────────────────────────────────────────────────────────────


async def test_the_book_outlives_its_object() -> None:
    """The peer of a channel is in the keystore: a restart knows it, and another peer is never written over it."""
    keystore = MemoryKeystore()
    async with linked() as two:
        channel = two.parties[0].channel(await two.open())
    PeerBook(keystore).bind(channel.params.proposal_id, BOB)

    assert BOB == PeerBook(keystore).peer_of(channel)
    with pytest.raises(UnknownChannel):
        PeerBook(keystore).require(channel, ALICE)


async def test_a_link_tells_its_peer_only() -> None:
    """The text of a link shows the peer and no secret of the party."""
    async with linked() as two:
        assert f"<PeerLink to {BOB.hex()[:8]}>" == repr(two.a)
        assert Side.A is two.parties[0].channel(await two.open()).own_side
        with pytest.raises(ChannelNotReady):
            two.parties[0].note_data_loss(two.parties[0].channels()[0].channel_id, 9)


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
