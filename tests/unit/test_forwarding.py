"""Legs and decisions: what counts as certain, what a crash must not bring back, when a channel must close."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from types import SimpleNamespace

import msgspec
import pytest

from domain.errors import ChannelNotReady
from domain.events import FreezeReason, InvoiceMade, PaymentKind, PaymentOutcome, encode_payload
from domain.expiry import claim_margin, closing_blocks
from domain.status import ChannelStatus
from domain.units import Side
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.store import MemoryEventStore
from tests.support import receipts
from tests.support.parties import Pair, make_party, open_pair
from watchtower.client.errors import TowerUnreachable
from watchtower.client.party import exchange
from watchtower.client.party.party import ChannelParty
from watchtower.client.party.payment_log import Leg
from watchtower.client.payments.forwarding import Fail, Reveal, must_close
from watchtower.client.payments.rounds import Close, Round
from watchtower.client.protocol.htlcs import Change, NewHtlc
from watchtower.client.protocol.messages import (
    AnyMessage,
    Message,
    UpdateAccept,
    UpdateCommit,
    UpdateOfferOk,
    UpdatePropose,
    UpdateRevoke,
)
from watchtower.client.tower.legs import ClaimEnd, LegState, OnChain, leg_view
from watchtower.client.tower.payment_tower import TowerWatch

HASH = sha256(bytes(32)).digest()
HEIGHT, EXPIRY, AMOUNT = 1_000, 1_400, 20_000
ADD = Change(add=(NewHtlc(AMOUNT, HASH, EXPIRY),))


def pair_with_height() -> Pair:
    """Two parties that know the height."""
    pair = open_pair()
    for party in pair.parties:
        party.note_height(HEIGHT)
    return pair


def until(*last: type[Message]) -> exchange.Carry:
    """A wire that loses these messages."""

    def carry(sender: ChannelParty, message: Message) -> Sequence[AnyMessage]:
        return () if isinstance(message, last) else exchange.deliver(sender, message)

    return carry


def state_of(pair: Pair, strict: bool = False, **options: object) -> LegState:
    """A's view of its own HTLC."""
    return leg_view(pair.a.channel(pair.channel_id), HASH, Side.A, strict=strict, **options).state  # type: ignore[arg-type]


def acknowledge(pair: Pair) -> None:
    """A's tower has the newest state."""
    receipts.acknowledge(pair.a, pair.channel_id, pair.a.channel(pair.channel_id).sequence)


# ── legs ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lost", [UpdateOfferOk, UpdatePropose, UpdateAccept])
def test_a_leg_in_an_unfinished_update_is_neither_there_nor_gone(lost: type[Message]) -> None:
    """Offered, proposed, accepted: nothing may be concluded."""
    pair = pair_with_height()
    before = state_of(pair)
    exchange.run(pair.a, pair.b, pair.a.change(pair.channel_id, ADD), until(lost))

    assert (LegState.ABSENT, LegState.MOVING) == (before, state_of(pair))


def test_a_leg_is_held_once_the_tower_has_it() -> None:
    """Rule U4: complete and revoked is not enough for a strict party, neither to hold it nor to call it gone."""
    pair = pair_with_height()
    exchange.change(pair.a, pair.b, pair.channel_id, ADD)
    loose, strict = state_of(pair), state_of(pair, strict=True)
    acknowledge(pair)
    held = state_of(pair, strict=True)
    (condition,) = pair.b.find_htlcs(pair.channel_id, HASH)
    exchange.change(pair.b, pair.a, pair.channel_id, Change(fail=((condition.key, "no"),)))
    dropped = state_of(pair, strict=True)
    acknowledge(pair)

    assert (LegState.HELD, LegState.MOVING, LegState.HELD) == (loose, strict, held)
    assert (LegState.MOVING, LegState.ABSENT) == (dropped, state_of(pair, strict=True))


def closed(
    status: ChannelStatus, published: int | None, *claims: ClaimEnd, spent_at: int | None = HEIGHT + 900
) -> OnChain:
    """The tower's word about a channel whose commitment is in that block."""
    return OnChain(status, published, claims, spent_at=spent_at)


@pytest.mark.parametrize(
    ("word", "height", "expected"),
    [
        (OnChain(ChannelStatus.UNILATERAL), 2_000, LegState.ON_CHAIN),
        (closed(ChannelStatus.SETTLED, 1), 2_000, LegState.ON_CHAIN),
        (closed(ChannelStatus.PUNISHED, 0), 2_000, LegState.OURS),
        (closed(ChannelStatus.PUNISHED, 0, spent_at=1_998), 2_000, LegState.OURS),
        (closed(ChannelStatus.PUNISHED, 0, spent_at=1_999), 2_000, LegState.ON_CHAIN),
        (closed(ChannelStatus.PUNISHED, 0, spent_at=None), 2_000, LegState.ON_CHAIN),
        (closed(ChannelStatus.SETTLED, 1, ClaimEnd((0, 0), True, 2_000)), 2_000, LegState.ON_CHAIN),
        (closed(ChannelStatus.SETTLED, 1, ClaimEnd((0, 0), True, 2_000)), 2_001, LegState.ON_CHAIN),
        (closed(ChannelStatus.SETTLED, 1, ClaimEnd((0, 0), True, 2_000)), 2_002, LegState.OURS),
        (closed(ChannelStatus.SETTLED, 1, ClaimEnd((0, 0), False, 2_000)), 2_000, LegState.THEIRS),
        (closed(ChannelStatus.SETTLED, 0), 2_000, LegState.OURS),
        (closed(ChannelStatus.SETTLED, 0, spent_at=1_999), 2_000, LegState.ON_CHAIN),
        (closed(ChannelStatus.SETTLED, None), 2_000, LegState.ON_CHAIN),
    ],
)
def test_a_leg_in_a_channel_that_closes(word: OnChain, height: int, expected: LegState) -> None:
    """Open until a block and two more; taken by a penalty; not there if an older state was published as deep."""
    pair = pair_with_height()
    exchange.change(pair.a, pair.b, pair.channel_id, ADD)
    published = None if word.published is None else pair.a.state(pair.channel_id, word.published).content

    assert expected is state_of(pair, closing=word, published=published, height=height)


@pytest.mark.parametrize("status", [ChannelStatus.PROPOSED, ChannelStatus.FUNDING_BROADCAST])
def test_what_the_peer_promises_counts_once_the_funding_is_deep(status: ChannelStatus) -> None:
    """An incoming HTLC of a channel that is not active is not HELD: a double spend would take it away."""
    pair = pair_with_height()
    exchange.change(pair.a, pair.b, pair.channel_id, ADD)
    incoming, waiting = pair.b.channel(pair.channel_id), OnChain(status)

    assert LegState.HELD is leg_view(incoming, HASH, Side.A, strict=False).state
    assert LegState.MOVING is leg_view(incoming, HASH, Side.A, strict=False, closing=waiting).state
    assert LegState.HELD is state_of(pair, closing=waiting)


@pytest.mark.parametrize(
    ("status", "incoming", "outgoing"),
    [
        (ChannelStatus.DOUBLE_SPENT, LegState.THEIRS, LegState.ON_CHAIN),
        (ChannelStatus.RESOLVED, LegState.THEIRS, LegState.OURS),
    ],
)
def test_a_double_spent_funding_ends_its_legs(status: ChannelStatus, incoming: LegState, outgoing: LegState) -> None:
    """What came in is lost at once; what went out is safe when no reorg can bring the channel back."""
    pair = pair_with_height()
    exchange.change(pair.a, pair.b, pair.channel_id, ADD)
    word = OnChain(status, double_spent=True)

    assert incoming is leg_view(pair.b.channel(pair.channel_id), HASH, Side.A, strict=False, closing=word).state
    assert outgoing is state_of(pair, closing=word, height=HEIGHT)


class DepthTower:
    """A tower that answers with this status and depth, or not at all."""

    def __init__(self, status: ChannelStatus, *, confirmed: bool) -> None:
        self.status, self.confirmed, self.silent = status, confirmed, False

    async def get_channel_info(self, name: str) -> SimpleNamespace:
        """Status only."""
        if self.silent:
            raise TowerUnreachable("no answer")
        return SimpleNamespace(status=self.status, claims=())

    async def get_funding_status(self, name: str) -> SimpleNamespace:
        """Whether it is deep."""
        return SimpleNamespace(confirmed=self.confirmed, spent_by=None, status="CONFIRMED")

    async def synchronize(self, channel_id: bytes) -> None:
        """Nothing to bring."""

    async def exchange_preimages(self, channel_id: bytes) -> None:
        """Nothing to bring."""


def test_a_channel_is_active_when_the_tower_calls_its_funding_deep() -> None:
    """One block is not enough; once deep it stays so while the tower is silent, until the tower takes it back."""
    pair = pair_with_height()
    exchange.change(pair.a, pair.b, pair.channel_id, ADD)
    tower = DepthTower(ChannelStatus.ACTIVE, confirmed=False)
    watch = TowerWatch(pair.b, tower)  # type: ignore[arg-type]

    tower.silent = True
    unknown = asyncio.run(watch.closing())
    tower.silent = False
    shallow = asyncio.run(watch.closing())
    tower.confirmed = True
    deep = asyncio.run(watch.closing())
    tower.silent = True
    silent = asyncio.run(watch.closing())
    tower.silent, tower.status = False, ChannelStatus.FUNDING_BROADCAST
    back = asyncio.run(watch.closing())

    assert (True, True, True) == tuple(word[pair.channel_id].is_unripe for word in (unknown, shallow, back))
    assert ({}, {}) == (deep, silent)


def test_an_invoice_shows_its_preimage_in_an_active_channel_only() -> None:
    """The same HTLC waits while the funding is shallow and is paid once it is deep."""
    pair = pair_with_height()
    invoice = pair.b.make_invoice(AMOUNT, EXPIRY)
    exchange.change(pair.a, pair.b, pair.channel_id, Change(add=(NewHtlc(AMOUNT, invoice.payment_hash, EXPIRY),)))
    notes = {(pair.channel_id, invoice.payment_hash): None}
    waiting = {pair.channel_id: OnChain(ChannelStatus.FUNDING_BROADCAST)}

    shallow = Round(pair.b, HEIGHT, notes, waiting, None, strict=False).jobs()
    deep = Round(pair.b, HEIGHT, notes, {}, None, strict=False).jobs()

    assert [] == shallow
    assert [Reveal] == [type(job.what) for job in deep]


def test_without_the_towers_word_a_closing_channel_says_nothing() -> None:
    """The party saw a spend; what becomes of the HTLC is open."""
    pair = pair_with_height()
    exchange.change(pair.a, pair.b, pair.channel_id, ADD)
    pair.a.sign_commitment(pair.channel_id, 1)

    assert LegState.ON_CHAIN is state_of(pair)


@pytest.mark.parametrize("closing", [None, OnChain(ChannelStatus.SETTLED, 0)])
def test_a_frozen_channel_is_never_sure_that_a_leg_is_gone(closing: OnChain | None) -> None:
    """The log may be an old copy: the peer may hold a state with the HTLC, also when the channel closes."""
    pair = pair_with_height()
    pair.a.note_restored()

    assert LegState.MOVING is state_of(pair, closing=closing)


def test_nothing_unknown_goes_back_while_the_log_may_be_an_old_copy() -> None:
    """An HTLC without a plan may have been forwarded by the newer log; once thawed, it goes back."""
    pair, other = pair_with_height(), open_pair(names=("carol", "dave"))
    exchange.change(pair.a, pair.b, pair.channel_id, ADD)
    notes: dict[tuple[bytes, bytes], bytes | None] = {(pair.channel_id, HASH): None}
    look = Round(pair.b, HEIGHT, notes, {}, None, strict=False)
    channel = pair.b.channel(pair.channel_id)
    frozen = msgspec.structs.replace(other.b.channel(other.channel_id), frozen=FreezeReason.RESTORED, old_copy=True)
    (condition,) = channel.conditions

    assert [Fail] == [type(job.what) for job in look.jobs()]
    assert look._judged(None, channel, condition, {b"": channel, b"x": frozen}) is None


# ── when to close ────────────────────────────────────────────────────────────────────────────────────────


def closes_at(pair: Pair, side: Side, known: set[bytes], *, preemptive: bool = False) -> int:
    """The first height at which a side must close."""
    channel = pair.parties[side].channel(pair.channel_id)
    heights = range(HEIGHT, 2 * EXPIRY)
    return next(h for h in heights if must_close(channel, side, known, h, preemptive=preemptive))


def test_when_a_channel_must_close() -> None:
    """The receiver with the preimage 184 blocks early, the offerer two blocks late, a preemptive one 168 early."""
    pair = pair_with_height()
    exchange.change(pair.a, pair.b, pair.channel_id, ADD)

    assert EXPIRY - claim_margin(144) == closes_at(pair, Side.B, {HASH})
    assert EXPIRY + 2 == closes_at(pair, Side.A, set())
    assert EXPIRY - closing_blocks(144) == closes_at(pair, Side.A, set(), preemptive=True)
    assert not must_close(pair.b.channel(pair.channel_id), Side.B, set(), EXPIRY + 100)


def test_an_htlc_that_was_signed_for_counts_before_it_is_complete() -> None:
    """The peer may finish the update at any time; it must not be able to do so behind the expiry."""
    pair = pair_with_height()
    exchange.run(pair.a, pair.b, pair.a.change(pair.channel_id, ADD), until(UpdateAccept))

    assert () == pair.a.channel(pair.channel_id).conditions
    assert EXPIRY + 2 == closes_at(pair, Side.A, set())


def dropped(pair: Pair, side: Side, what: str, lost: type[Message]) -> None:
    """A's HTLC leaves the channel by an update of this side, which loses one of its messages."""
    exchange.change(pair.a, pair.b, pair.channel_id, ADD)
    (condition,) = pair.a.channel(pair.channel_id).conditions
    for party in pair.parties:
        party.note_height(EXPIRY if what == "expire" else HEIGHT)
    ways = {
        "expire": Change(expire=(condition.key,)),
        "fail": Change(fail=((condition.key, "no"),)),
        "fulfil": Change(fulfil=((condition.key, bytes(32)),)),
    }
    proposer = pair.parties[side]
    acceptor = pair.parties[side.other]
    exchange.run(proposer, acceptor, proposer.change(pair.channel_id, ways[what]), until(lost))


@pytest.mark.parametrize("lost", [UpdateAccept, UpdateCommit, UpdateRevoke])
@pytest.mark.parametrize(
    ("what", "side", "known", "expected"),
    [("expire", Side.A, set[bytes](), EXPIRY + 2), ("fulfil", Side.B, {HASH}, EXPIRY - claim_margin(144))],
)
def test_a_dropped_htlc_counts_until_the_state_with_it_is_revoked(
    what: str, side: Side, known: set[bytes], expected: int, lost: type[Message]
) -> None:
    """A peer that stays silent in the middle of the update could publish the state with the HTLC after its time."""
    pair = pair_with_height()
    dropped(pair, side, what, lost)

    assert expected == closes_at(pair, side, known)


def test_an_htlc_that_was_paid_closes_no_channel() -> None:
    """The payer has the preimage; whichever state its silent peer publishes, the peer is due the amount."""
    pair = pair_with_height()
    dropped(pair, Side.B, "fulfil", UpdateRevoke)
    payer = pair.a.channel(pair.channel_id)
    before = pair.a.state(pair.channel_id, 1).content
    waiting = msgspec.structs.replace(payer, peer_revoked=payer.peer_revoked - 1, settled=before)

    assert waiting.firm is None
    assert not must_close(waiting, Side.A, {HASH}, 2 * EXPIRY)


def test_a_look_closes_for_an_htlc_that_was_dropped_and_may_come_back() -> None:
    """Its newest state pays the receiver already, and is what it publishes; the call is repeated until it is seen."""
    pair = pair_with_height()
    dropped(pair, Side.B, "fulfil", UpdateRevoke)
    late = Round(pair.b, EXPIRY - claim_margin(144), {}, {}, None, strict=False)
    first = [job.what for job in late.jobs()]
    pair.b.sign_commitment(pair.channel_id, 2)

    assert [Close(2)] == first == [job.what for job in late.jobs()]


@pytest.mark.parametrize(("published", "expected"), [(2, LegState.ABSENT), (0, LegState.THEIRS)])
def test_a_leg_that_was_paid_before_the_close_was_not_taken_back(published: int, expected: LegState) -> None:
    """The state without it is newer than that with it: both agreed. An older state without it is another story."""
    pair = pair_with_height()
    dropped(pair, Side.B, "fulfil", UpdateRevoke)
    content, word = pair.b.state(pair.channel_id, published).content, OnChain(ChannelStatus.SETTLED, published)
    view = leg_view(pair.b.channel(pair.channel_id), HASH, Side.A, closing=word, published=content, height=2_000)

    assert expected is view.state


def test_a_close_that_did_not_reach_the_tower_is_asked_for_again() -> None:
    """The commitment is signed, and the tower knows of no close: the job stays until it does."""
    pair = pair_with_height()
    exchange.change(pair.a, pair.b, pair.channel_id, ADD)
    pair.a.sign_commitment(pair.channel_id, 1)
    look = Round(pair.a, HEIGHT, {}, {}, None, strict=True)
    told = Round(pair.a, HEIGHT, {}, {pair.channel_id: OnChain(ChannelStatus.UNILATERAL)}, None, strict=True)

    assert [Close(1)] == [job.what for job in look.jobs()]
    assert [] == told.jobs()


# ── what a crash must not bring back ─────────────────────────────────────────────────────────────────────


def opened(store: MemoryEventStore, keystore: MemoryKeystore) -> Pair:
    """A pair whose A has this store and keystore."""
    pair = open_pair(parties=(make_party("alice", store=store, keystore=keystore), make_party("bob")))
    for party in pair.parties:
        party.note_height(HEIGHT)
    return pair


@pytest.mark.parametrize("is_withdrawn", [True, False])
def test_an_offered_htlc_without_a_signature_dies_with_the_process(is_withdrawn: bool) -> None:
    """Its payment may have gone back to the hop before: made again it would be paid from this side's own money."""
    store, keystore = MemoryEventStore(), MemoryKeystore()
    pair = opened(store, keystore)
    pair.a.change(pair.channel_id, ADD)
    withdrawn = is_withdrawn and pair.a.withdraw_leg(pair.channel_id, HASH)
    again = make_party("alice", store=store, keystore=keystore)

    assert is_withdrawn == withdrawn
    assert again.channel(pair.channel_id).pending is None
    assert LegState.ABSENT is leg_view(again.channel(pair.channel_id), HASH, Side.A, strict=False).state


def test_a_signed_for_htlc_stays() -> None:
    """Rule U5: what was proposed can only be finished, so it is not forgotten and not withdrawn."""
    store, keystore = MemoryEventStore(), MemoryKeystore()
    pair = opened(store, keystore)
    exchange.run(pair.a, pair.b, pair.a.change(pair.channel_id, ADD), until(UpdateAccept))
    withdrawn = pair.a.withdraw_leg(pair.channel_id, HASH)
    again = make_party("alice", store=store, keystore=keystore)
    exchange.reconnect(again, pair.b, pair.channel_id)

    assert not withdrawn
    assert 1 == len(again.find_htlcs(pair.channel_id, HASH))


def test_payments_are_read_from_the_log() -> None:
    """Invoice, plan, attempt, end: a party made again knows them all, and can make the preimage of its invoice."""
    store, keystore = MemoryEventStore(), MemoryKeystore()
    pair = opened(store, keystore)
    made = pair.a.make_invoice(5_000, 2_000)
    pair.a.plan_payment(PaymentKind.PAY, HASH, outgoing=Leg(pair.channel_id, AMOUNT, EXPIRY), note=b"on")
    pair.a.note_leg_offered(HASH)
    pair.a.end_payment(HASH, PaymentOutcome.FAILED, "x" * 500)
    again = make_party("alice", store=store, keystore=keystore)
    again.reveal(pair.channel_id, made.payment_hash)
    preimage = again.preimage(made.payment_hash)

    assert pair.a.payments() == again.payments()
    assert preimage is not None
    assert made.payment_hash == sha256(preimage).digest()
    assert "x" * 120 == again.payments()[1].reason


def test_only_open_payments_are_looked_at() -> None:
    """A long history costs a look nothing; a payment that is tried again is open again."""
    pair = open_pair()
    leg = Leg(pair.channel_id, 20_000, HEIGHT + 300)
    names = [bytes([number]) * 32 for number in range(3)]
    for name in names:
        pair.a.plan_payment(PaymentKind.PAY, name, outgoing=leg)
    for name in names[:2]:
        pair.a.end_payment(name, PaymentOutcome.FAILED)
    pair.a.plan_payment(PaymentKind.PAY, names[0], outgoing=leg)

    assert [names[2], names[0]] == [payment.payment_hash for payment in pair.a.open_payments()]


def test_the_log_does_not_hold_the_preimage_of_an_unpaid_invoice() -> None:
    """Only its salt: the seed is needed as well."""
    store, keystore = MemoryEventStore(), MemoryKeystore()
    pair = opened(store, keystore)
    made = pair.a.make_invoice(5_000, 2_000)
    events = [recorded.envelope.payload for recorded in store.read_log(0, 1_000)]
    pair.a.reveal(pair.channel_id, made.payment_hash)
    preimage = pair.a.preimage(made.payment_hash)

    assert preimage is not None
    assert [] == [event for event in events if preimage in encode_payload(event)]
    assert 1 == sum(isinstance(event, InvoiceMade) for event in events)


def test_a_leg_has_one_attempt() -> None:
    """A second offer under one plan is refused, also for a payment that is over."""
    pair = pair_with_height()
    pair.a.plan_payment(PaymentKind.PAY, HASH, outgoing=Leg(pair.channel_id, AMOUNT, EXPIRY))
    pair.a.note_leg_offered(HASH)
    with pytest.raises(ChannelNotReady, match="fresh payment hash"):
        pair.a.note_leg_offered(HASH)
    pair.a.end_payment(HASH, PaymentOutcome.PAID)
    with pytest.raises(ChannelNotReady, match="fresh payment hash"):
        pair.a.note_leg_offered(HASH)
    assert PaymentOutcome.PAID is pair.a.end_payment(HASH, PaymentOutcome.FAILED).outcome
    with pytest.raises(ChannelNotReady, match="not made here"):
        pair.a.reveal(pair.channel_id, HASH)
