"""A counterparty that keeps to the form of every message and tries to take, burn or hold money with its content."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import msgspec
import pytest

from domain.chain import NULL_TXID
from domain.errors import ChannelClosed, ChannelNotReady, Equivocation, InvalidParams, InvalidState, MalformedInput
from domain.events import EquivocationFound, FreezeReason
from domain.transaction import Transaction
from domain.units import Side
from tests.fakes.store import MemoryEventStore
from tests.support.hops import HEIGHT, three_parties
from tests.support.parties import Pair, made_up_funding, make_party, open_pair, preimage_of
from tests.support.receipts import acknowledge
from watchtower.client.party import exchange
from watchtower.client.party.party import ChannelParty, PartySettings
from watchtower.client.protocol.closing import MAX_PEER_CLOSES
from watchtower.client.protocol.consent import never_lose
from watchtower.client.protocol.htlcs import Change, NewHtlc
from watchtower.client.protocol.messages import (
    ClosePropose,
    FundingFixed,
    HtlcFulfil,
    OpenChannel,
    Reestablish,
    UpdateOffer,
    UpdateOfferOk,
    UpdatePropose,
)
from watchtower.client.protocol.opening import Terms
from watchtower.wire.hexes import Hex32, Hex33, TxidHex


def twin_of(party: ChannelParty, pair: Pair, side: Side, until: str = "StateCommitted") -> ChannelParty:
    """The party as it was after the first event of a kind: a second mind of the same counterparty."""
    store = MemoryEventStore()
    events = party._store.read_stream(party.channel(pair.channel_id).stream)
    names = [type(event.payload).__name__ for event in events]
    store.append(events[: names.index(until) + 1])
    return make_party(pair.names[side], store=store)


def equivocated() -> Pair:
    """A channel at state 1 whose B has offered a second content for it."""
    pair = open_pair()
    early = twin_of(pair.b, pair, Side.B)
    pair.update()
    (second,) = early.offer(pair.channel_id, (400_000, 600_000))
    with pytest.raises(Equivocation):
        pair.a.receive(second)
    return pair


# ── ransom ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_second_content_does_not_take_the_own_close_away() -> None:
    """Rule U5: the way forward is the newest state; without it a peer could hold the money by one bad offer."""
    pair = equivocated()

    raw = pair.a.sign_commitment(pair.channel_id, 1)

    assert pair.commitment_txid(Side.A, 1) == Transaction.parse(raw).txid
    with pytest.raises(ChannelClosed):
        pair.a.propose_close(pair.channel_id, pair.balances, 1_000)


def test_a_second_content_ends_updates_for_good() -> None:
    """Frozen means that nothing new is signed, also when the own close stays open."""
    pair = equivocated()

    with pytest.raises(ChannelNotReady, match="equivocation"):
        pair.a.offer(pair.channel_id, pair.balances)


@pytest.mark.parametrize("order", ["restored first", "restored later"])
def test_an_old_copy_never_publishes_whatever_the_peer_did(order: str) -> None:
    """Equivocation must not hide that the log may lack own revocations."""
    pair = open_pair() if order == "restored first" else equivocated()
    early = twin_of(pair.b, pair, Side.B)
    pair.a.note_restored()
    if order == "restored first":
        pair.a.unfreeze(pair.channel_id, 0)
        pair.update()
        pair.a.note_restored()
        (second,) = early.offer(pair.channel_id, (400_000, 600_000))
        with pytest.raises(Equivocation):
            pair.a.receive(second)

    with pytest.raises(ChannelNotReady, match="frozen"):
        pair.a.sign_commitment(pair.channel_id, 1)


def test_proven_loss_of_data_outlives_equivocation() -> None:
    """A tower that knows more forbids the own close of a channel that was frozen for another reason before."""
    pair = equivocated()
    with pytest.raises(ChannelNotReady, match="old copy"):
        pair.a.note_tower_report(pair.channel_id, 9)

    with pytest.raises(ChannelNotReady, match="frozen"):
        pair.a.sign_commitment(pair.channel_id, 1)
    assert FreezeReason.EQUIVOCATION is pair.a.channel(pair.channel_id).frozen


def test_repeated_equivocation_is_recorded_once() -> None:
    """The evidence is in the log; a thousand more bad offers must not fill the disk."""
    pair = equivocated()
    early = twin_of(pair.b, pair, Side.B)
    before = pair.a.channel(pair.channel_id).version
    (third,) = early.offer(pair.channel_id, (300_000, 700_000))

    with pytest.raises(Equivocation):
        pair.a.receive(third)

    events = pair.a._store.read_stream(pair.a.channel(pair.channel_id).stream)
    assert before == pair.a.channel(pair.channel_id).version
    assert 1 == sum(isinstance(event.payload, EquivocationFound) for event in events)


# ── openings ─────────────────────────────────────────────────────────────────────────────────────────────


def asked(terms: Terms, settings: PartySettings | None = None) -> tuple[OpenChannel, ChannelParty]:
    """What an opener with these terms says, and the party that it says it to."""
    return make_party("alice").open(terms), make_party("bob", settings=settings)


def test_the_funding_outpoint_is_never_the_null_outpoint() -> None:
    """It could be fixed a second time, under a state 0 and a registration that watch nothing."""
    a, b = make_party("alice"), make_party("bob")
    exchange.run(a, b, [a.open(Terms(balances=(500_000, 500_000)))])
    (proposal,) = b.channels()
    fixed = FundingFixed(channel_id=Hex32(proposal.channel_id), funding_txid=TxidHex(NULL_TXID), funding_vout=0)

    with pytest.raises(MalformedInput, match="funding"):
        b.receive(fixed)
    with pytest.raises(MalformedInput, match="funding"):
        a.fix_funding(proposal.channel_id, NULL_TXID, 0)
    assert 1 == b.channel(proposal.channel_id).version


@pytest.mark.parametrize(
    ("terms", "complaint"),
    [
        (Terms(balances=(500_000, 500_000), challenge_period=2_017), "challenge period 2017"),
        (Terms(balances=(500_000, 500_000), challenge_period=65_535), "challenge period 65535"),
        (Terms(balances=(500_000, 500_000), reserve_sat=0), "reserve_sat 0"),
        (Terms(balances=(500_000, 500_000), reserve_sat=1_659), "reserve_sat 1659"),
        (Terms(balances=(500_000, 500_000), reserve_sat=200_001), "reserve_sat 200001"),
    ],
)
def test_an_acceptor_refuses_terms_that_trap_it(terms: Terms, complaint: str) -> None:
    """Money locked for a year by one close, an opener with nothing to lose, a balance that may never fall."""
    message, b = asked(terms)

    with pytest.raises(InvalidParams, match=complaint):
        b.receive(message)
    assert () == b.channels()


@pytest.mark.parametrize(
    "terms",
    [
        Terms(balances=(500_000, 500_000), challenge_period=2_016),
        Terms(balances=(500_000, 500_000), reserve_sat=1_660),
        Terms(balances=(500_000, 500_000), reserve_sat=200_000),
    ],
)
def test_an_acceptor_takes_terms_at_its_limits(terms: Terms) -> None:
    """The limits themselves are fine."""
    message, b = asked(terms)

    assert 1 == len(b.receive(message))


@pytest.mark.parametrize(
    "change",
    [{"capacity": 999_999}, {"flags": 64}, {"points": (Hex33(bytes(33)), Hex33(bytes(33)))}],
    ids=["sum", "flags", "points"],
)
def test_a_refused_opening_uses_no_key_up(change: dict[str, object]) -> None:
    """Every index that is used stays in the keystore for ever: a peer must not fill it with nonsense."""
    message, b = asked(Terms(balances=(500_000, 500_000)))
    key = b.next_funding_key()

    with pytest.raises(InvalidParams):
        b.receive(msgspec.structs.replace(message, **change))
    assert key == b.next_funding_key()


def test_on_mainnet_a_short_challenge_period_needs_a_setting() -> None:
    """With T = 1 a breach can be settled in the next block: no tower could punish it (protocol 2.2)."""
    assert 144 == PartySettings().params_policy.min_challenge_period
    assert 6 == PartySettings(min_challenge_period=6).params_policy.min_challenge_period
    assert 1 == PartySettings(network="regtest").params_policy.min_challenge_period


@pytest.mark.parametrize(("updates", "held"), [(1, -1), (0, 0)], ids=["a further state", "a tower that holds it"])
def test_an_acceptor_does_not_give_up_a_channel_in_use(updates: int, held: int) -> None:
    """Only the opener has the funding transaction; a channel with money must not be taken for an empty opening."""
    pair = open_pair()
    pair.updates(updates)
    acknowledge(pair.b, pair.channel_id, held)

    with pytest.raises(ChannelNotReady, match="in use"):
        pair.b.abandon(pair.channel_id)

    assert not pair.b.channel(pair.channel_id).abandoned


def test_a_given_up_opening_is_not_funded() -> None:
    """Its coins were given back; a second caller that still signs must not send them into a dead channel."""
    pair = open_pair()
    pair.a.abandon(pair.channel_id)

    with pytest.raises(ChannelNotReady, match="given up"):
        pair.a.note_funding_sent(pair.channel_id, pair.funding.raw)


# ── closes ───────────────────────────────────────────────────────────────────────────────────────────────


def proposed(pair: Pair, *, fee: int = 1_000, lock_time: int = 0) -> ClosePropose:
    """B's close of the newest state."""
    (message,) = pair.b.propose_close(pair.channel_id, pair.balances, fee, lock_time)
    assert isinstance(message, ClosePropose)
    return message


def test_an_approval_of_a_close_ends_with_the_next_state() -> None:
    """The owner agreed to less at state 0; what it was paid since then is not part of that."""
    pair = open_pair()
    pair.a.approve_close(pair.channel_id, (400_000, 600_000))
    pair.update((800_000, 200_000))
    (message,) = pair.b.propose_close(pair.channel_id, (400_000, 600_000), 1_000)

    with pytest.raises(InvalidState, match="the balance of A is 800000"):
        pair.a.receive(message)


def test_a_close_far_in_the_future_is_not_signed() -> None:
    """A signature ends all updates (U6); for a transaction that no block takes that would be for nothing."""
    pair = open_pair()
    pair.a.note_height(1_000)

    with pytest.raises(InvalidState, match="lock time"):
        pair.a.receive(proposed(pair, lock_time=1_007))
    assert () == pair.a.channel(pair.channel_id).closes


def test_a_close_at_the_peers_height_is_signed() -> None:
    """The peer's node may be a few blocks ahead."""
    pair = open_pair()
    pair.a.note_height(1_000)

    assert 1 == len(pair.a.receive(proposed(pair, lock_time=1_006)))


def test_a_close_that_no_node_relays_is_not_signed() -> None:
    """Less than one satoshi per virtual byte: 196 vB by leaf."""
    pair = open_pair()

    with pytest.raises(InvalidState, match="fee of 195 sat"):
        pair.a.receive(proposed(pair, fee=195))
    other = open_pair(names=("carol", "dave"))
    assert 1 == len(other.a.receive(proposed(other, fee=196)))


def test_the_versions_of_a_peers_close_are_counted() -> None:
    """Each costs signatures, memory and a line in the log for ever."""
    pair = open_pair()
    for number in range(MAX_PEER_CLOSES):
        pair.a.receive(proposed(pair, fee=1_000 + number))

    with pytest.raises(ChannelClosed, match="versions"):
        pair.a.receive(proposed(pair, fee=5_000))
    repeated = proposed(pair, fee=1_000)
    assert 1 == len(pair.a.receive(repeated))
    assert MAX_PEER_CLOSES == len(pair.a.channel(pair.channel_id).closes)


@pytest.mark.asyncio
async def test_equivocation_in_one_channel_stops_no_payment_in_others() -> None:
    """Dave freezes his own channel with bob; what alice pays to carol over bob goes on."""
    async with three_parties() as row:
        funding = made_up_funding(b"dave", 1_000_000)
        store = MemoryEventStore()
        dave, bob = make_party("dave", store=store), row.bob.party
        terms = Terms(balances=(500_000, 500_000), challenge_period=row.period)
        channel_id = exchange.open_channel(bob, dave, terms, lambda spk, amount: (funding.txid, funding.vout))
        early = MemoryEventStore()
        early.append(store.read_stream(dave.channel(channel_id).stream))
        exchange.update(bob, dave, channel_id, (500_000, 500_000))
        (second,) = make_party("dave", store=early).offer(channel_id, (500_001, 499_999))
        with pytest.raises(Equivocation):
            bob.receive(second)

        invoice = row.carol.payments.invoice(50_000, HEIGHT + 1_000)
        async with asyncio.timeout(60):
            preimage = await row.alice.payments.pay(row.route(50_000), invoice)

    assert invoice.payment_hash == sha256(preimage).digest()


# ── fees that the opener pays ────────────────────────────────────────────────────────────────────────────


def costly_pair() -> Pair:
    """A pays 50 sat/vB for every output of a settlement, and agrees to nothing that costs it."""
    parties = (make_party("alice", consent=never_lose), make_party("bob", consent=never_lose))
    return open_pair(parties=parties, static_feerate=50_000)


@pytest.mark.parametrize(("amount", "agreed"), [(2_149, False), (2_150, True)])
def test_an_htlc_that_burns_more_than_it_holds_is_refused(amount: int, agreed: bool) -> None:
    """43 vB at 50 sat/vB: two hundred HTLCs of 330 sat would burn 430,000 sat of the opener."""
    pair = costly_pair()
    (offer,) = pair.b.change(pair.channel_id, Change(add=(NewHtlc(amount, bytes(32), 100_000),)))

    answers = pair.a.receive(offer)

    assert agreed is any(isinstance(each, UpdateOfferOk) for each in answers)
    assert agreed is not any("cost A 2150 sat" in getattr(each, "reason", "") for each in answers)


def test_the_acceptor_pays_no_overhead() -> None:
    """The opener may burn its own money."""
    pair = costly_pair()
    pair.update()
    (offer,) = pair.a.change(pair.channel_id, Change(add=(NewHtlc(330, bytes(32), 100_000),)))

    assert [UpdateOfferOk] == [type(each) for each in pair.b.receive(offer)]


# ── after a close ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("message", [UpdateOffer, UpdatePropose, HtlcFulfil])
def test_nothing_of_an_update_is_sent_again_once_the_channel_closes(message: type) -> None:
    """U6: a reconnection must not release the signatures or the preimage of an offer that was cut off."""
    pair = open_pair()
    new = NewHtlc(10_000, sha256(preimage_of(1)).digest(), 100_000)
    exchange.change(pair.a, pair.b, pair.channel_id, Change(add=(new,)))
    pair.b.fulfil_htlc(pair.channel_id, (0, 0), preimage_of(1))
    pair.b.sign_commitment(pair.channel_id, 1)
    (hello,) = pair.a.reconnect(pair.channel_id)
    assert isinstance(hello, Reestablish)

    answers = pair.b.receive(hello)

    assert [] == [each for each in answers if isinstance(each, message)]
