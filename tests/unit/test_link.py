"""Links between parties: whole lives of channels over messages, refusals, the own tower, and who belongs to whom."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable

import pytest

from domain.contract.params import SEGWIT
from domain.errors import ChannelNotReady, InvalidState, UnknownChannel
from domain.transaction import Transaction
from domain.units import Side
from tests.fakes.keystore import MemoryKeystore
from tests.support.linking import ALICE, BOB, TERMS, fund, linked, new_parties
from tests.support.parties import make_party, settings_of
from tests.support.sieve import NEXT, sieves, soon
from watchtower.client.errors import TowerUnreachable
from watchtower.client.party.party import PartySettings
from watchtower.client.party.peer_book import PeerBook
from watchtower.client.peer_errors import Overtaken, PeerRefused
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.protocol.consent import never_lose
from watchtower.client.protocol.messages import UpdateOffer, UpdateOfferOk, UpdatePropose, UpdateReject
from watchtower.client.protocol.opening import Terms
from watchtower.client.tower.finality import Finality
from watchtower.ports import StoreFull

pytestmark = pytest.mark.asyncio


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


async def test_waiting_is_not_set_back_by_a_look_that_took_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before the peer moved the channel comes after the news of it; nothing would tell it again."""
    async with linked() as two:
        channel_id = await two.open()
        look, was_read, may_end = two.b.party.channel, threading.Event(), threading.Event()

        def slow(name: bytes) -> PartyChannel:
            found = look(name)
            was_read.set()
            may_end.wait(60)
            return found

        looks = itertools.chain([look, slow], itertools.repeat(look))
        monkeypatch.setattr(two.b.party, "channel", lambda name: next(looks)(name))
        waiting = asyncio.create_task(two.b.wait_for(channel_id, lambda channel: channel.sequence == 1, 20_000))
        await asyncio.to_thread(was_read.wait, 60)
        await two.a.update(channel_id, NEXT)
        may_end.set()

        assert 1 == (await waiting).sequence


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


@pytest.mark.parametrize(
    "passing", [TowerUnreachable("down"), StoreFull("no room for the receipt")], ids=["tower", "disk"]
)
async def test_what_passes_is_tried_again(passing: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The caller hears the failure; the background task goes on until the tower has the state, and says why once.

    Nobody would begin it again if it ended.
    """
    tries: list[bytes] = []
    done = asyncio.Event()

    async def synchronize(channel_id: bytes) -> None:
        tries.append(channel_id)
        if len(tries) < 5:
            raise passing
        done.set()

    finality = Finality(synchronize, retry_seconds=0.01)
    async with linked(finality=finality) as two:
        channel_id = await two.open()
        with pytest.raises(type(passing)):
            await two.a.update(channel_id, NEXT)
        running = asyncio.create_task(finality.run())
        await soon(done.wait())
        running.cancel()

    assert [channel_id] * 5 == tries
    assert 1 == caplog.text.count(f"tower_behind channel={channel_id.hex()[:16]} reason={passing}")


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
