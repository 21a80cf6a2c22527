"""Payments over links: paid, refused, forwarded, interrupted, swapped; no chain."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from hashlib import sha256
from types import SimpleNamespace
from typing import cast

import pytest

from domain.errors import MalformedInput
from domain.events import PaymentKind, PaymentOutcome
from domain.expiry import claim_margin
from domain.status import ChannelStatus
from tests.fakes.keystore import MemoryKeystore
from tests.support import receipts
from tests.support.hops import HEIGHT, POLICY, Row, three_parties
from tests.support.parties import open_pair
from watchtower.client.party import exchange
from watchtower.client.party.payments import PaymentConflict
from watchtower.client.party.peer_book import PeerBook
from watchtower.client.payments import (
    ForwardingPolicy,
    Invoice,
    Leg,
    PaymentFailed,
    Payments,
    RouteChannel,
    SwapRefused,
    least_delta,
    least_expiry,
    links_of,
    plan_route,
)
from watchtower.client.payments.rounds import Job, Round
from watchtower.client.peer_errors import PeerUnreachable
from watchtower.client.peers.link import PeerLink
from watchtower.client.peers.server import PartyServer
from watchtower.client.protocol.htlcs import Change, NewHtlc
from watchtower.ports import StoreBroken

pytestmark = pytest.mark.asyncio
AMOUNT = 50_000
FEE = POLICY.fee(AMOUNT)
LATER = HEIGHT + 1_000


def quiet(row: Row) -> bool:
    """No HTLC is left in any channel."""
    return not any(channel.conditions for end in row.ends for channel in end.party.channels())


async def test_a_payment_over_two_hops() -> None:
    """Alice pays, bob keeps his fee, carol has the amount; the preimage proves it."""
    async with three_parties() as row:
        invoice = row.carol.payments.invoice(AMOUNT, LATER)
        preimage = await row.alice.payments.pay(row.route(AMOUNT), invoice)
        await row.carol.payments.ended(invoice.payment_hash)
        forwarded = await row.bob.payments.ended(invoice.payment_hash)
        await row.until(lambda: quiet(row))

    assert invoice.payment_hash == sha256(preimage).digest()
    assert (PaymentKind.FORWARD, PaymentOutcome.PAID) == (forwarded.kind, forwarded.outcome)
    assert 500_000 - AMOUNT - FEE == row.alice.balance(row.first)
    assert (500_000 + AMOUNT + FEE, 500_000 - AMOUNT) == (row.bob.balance(row.first), row.bob.balance(row.second))
    assert 500_000 + AMOUNT == row.carol.balance(row.second)


async def test_paying_the_same_invoice_again_pays_once() -> None:
    """A repeated call, as after a crash of the caller, gives the same proof and moves nothing."""
    async with three_parties() as row:
        invoice = row.carol.payments.invoice(AMOUNT, LATER)
        first = await row.alice.payments.pay(row.route(AMOUNT), invoice)
        again = await row.alice.payments.pay(row.route(AMOUNT), invoice)
        await row.until(lambda: quiet(row))

    assert first == again
    assert 500_000 + AMOUNT == row.carol.balance(row.second)


async def test_an_unknown_hash_comes_back_with_the_reason() -> None:
    """Carol never made this invoice: both HTLCs are given back, nobody lost a satoshi."""
    async with three_parties() as row:
        stray = Invoice(sha256(b"stray").digest(), AMOUNT)
        with pytest.raises(PaymentFailed, match="next hop"):
            await row.alice.payments.pay(row.route(AMOUNT), stray)
        await row.until(lambda: quiet(row))

    balances = [end.balance(c) for end, c in ((row.alice, row.first), (row.bob, row.second), (row.carol, row.second))]
    assert [500_000] * 3 == balances


async def test_a_failed_payment_may_be_tried_again_under_its_hash() -> None:
    """The second try finds the receiver ready: forwarder and payer take the same hash again."""
    async with three_parties() as row:
        secret = bytes(31) + b"\x07"
        late = Invoice(sha256(secret).digest(), AMOUNT)
        with pytest.raises(PaymentFailed):
            await row.alice.payments.pay(row.route(AMOUNT), late)
        row.carol.payments.invoice(AMOUNT, LATER, late.payment_hash)
        row.carol.party.learn_preimage(row.second, secret)
        preimage = await row.alice.payments.pay(row.route(AMOUNT), late)
        await row.until(lambda: quiet(row))

    assert secret == preimage
    assert 500_000 + AMOUNT == row.carol.balance(row.second)


@pytest.mark.parametrize(
    ("asked", "until_height"), [(AMOUNT + 1, LATER), (AMOUNT // 2 - 1, LATER), (AMOUNT, HEIGHT - 1)]
)
async def test_the_receiver_refuses_other_terms(asked: int, until_height: int) -> None:
    """Too little, more than twice as much, too late: the preimage is not shown."""
    async with three_parties() as row:
        made = row.carol.payments.invoice(asked, until_height)
        with pytest.raises(PaymentFailed):
            await row.alice.payments.pay(row.route(AMOUNT), Invoice(made.payment_hash, AMOUNT))
        await row.until(lambda: quiet(row))

    assert row.carol.party.preimage(made.payment_hash) is None
    assert 500_000 == row.carol.balance(row.second)


async def test_a_forwarder_that_is_offered_too_little_gives_it_back() -> None:
    """No fee, a short delta, more than the next channel has: each time the reason travels back."""
    cheap, hasty = ForwardingPolicy(base_fee=0, fee_rate=0), ForwardingPolicy(base_fee=100, preemptive=True)
    async with three_parties() as row:
        await row.bob.links[row.second].update(row.second, (450_000, 550_000))
        refusals = []
        for terms, amount in ((cheap, AMOUNT), (hasty, AMOUNT), (POLICY, 470_000)):
            route = plan_route([RouteChannel(row.first, 6), RouteChannel(row.second, 6, terms)], amount, HEIGHT)
            made = row.carol.payments.invoice(amount, LATER)
            with pytest.raises(PaymentFailed) as refusal:
                await row.alice.payments.pay(route, made)
            refusals.append(str(refusal.value))
        await row.until(lambda: quiet(row))

    reasons = ("the fee for", "between the expiries", "the next channel has not enough")
    assert [True] * 3 == [reason in text for reason, text in zip(reasons, refusals, strict=True)]
    assert 500_000 == row.alice.balance(row.first)


async def test_a_silent_next_hop_costs_the_payer_nothing() -> None:
    """Carol is not there: bob gives the payment back as soon as he cannot reach her."""
    row = Row()
    async with AsyncExitStack() as stack:
        for end in row.ends:
            await stack.enter_async_context(end.start(POLICY if end is row.bob else None))
        row.tell_height(HEIGHT)
        await stack.enter_async_context(row.linked(row.first))
        made = row.carol.payments.invoice(AMOUNT, LATER)
        with pytest.raises(PaymentFailed, match="next hop"):
            await row.alice.payments.pay(row.route(AMOUNT), made)
        await row.until(lambda: quiet(row))

    assert 500_000 == row.alice.balance(row.first)


async def test_a_forwarder_restarted_with_both_htlcs_pays_on() -> None:
    """Bob dies while both HTLCs are there; the one made from his log knows the plan and takes the preimage upstream."""
    row = Row()
    async with AsyncExitStack() as outer:
        await outer.enter_async_context(row.alice.start())
        await outer.enter_async_context(row.carol.start())
        secret = bytes(31) + b"\x08"
        held = Invoice(sha256(secret).digest(), AMOUNT)
        async with AsyncExitStack() as life:
            await life.enter_async_context(row.bob.start(POLICY))
            row.tell_height(HEIGHT)
            row.carol.payments.invoice(AMOUNT, LATER, held.payment_hash)
            await life.enter_async_context(row.linked(row.first))
            await life.enter_async_context(row.linked(row.second))
            row.alice.payments.begin(row.route(AMOUNT), held)
            await row.until(lambda: bool(row.carol.party.find_htlcs(row.second, held.payment_hash)))
        row.bob.revive()
        await outer.enter_async_context(row.bob.start(POLICY))
        row.tell_height(HEIGHT + 1)
        await outer.enter_async_context(row.linked(row.first))
        await outer.enter_async_context(row.linked(row.second))
        row.carol.party.learn_preimage(row.second, secret)
        row.carol.payments.wake()
        preimage = await row.alice.payments.proof(held.payment_hash)
        await row.until(lambda: quiet(row))

    assert secret == preimage
    assert (500_000 + AMOUNT + FEE, 500_000 - AMOUNT) == (row.bob.balance(row.first), row.bob.balance(row.second))


async def test_a_forwarder_restarted_before_it_forwarded_gives_back() -> None:
    """The note died with the process: the HTLC goes back instead of hanging until its expiry."""
    row = Row()
    async with AsyncExitStack() as outer:
        await outer.enter_async_context(row.alice.start())
        await outer.enter_async_context(row.carol.start())
        stray = Invoice(sha256(b"held").digest(), AMOUNT)
        async with row.linked(row.first):
            row.alice.party.note_height(HEIGHT)
            row.alice.payments.begin(row.route(AMOUNT), stray)
            await row.until(lambda: bool(row.bob.party.find_htlcs(row.first, stray.payment_hash)))
        row.bob.revive()
        await outer.enter_async_context(row.bob.start(POLICY))
        row.tell_height(HEIGHT)
        await outer.enter_async_context(row.linked(row.first))
        with pytest.raises(PaymentFailed, match="no payment"):
            await row.alice.payments.proof(stray.payment_hash)

    assert 500_000 == row.alice.balance(row.first)


async def test_an_htlc_that_nobody_took_comes_back_after_its_expiry() -> None:
    """Carol holds it too long; at the height the two agree that it is over, upstream as well."""
    async with three_parties() as row:
        held = Invoice(sha256(bytes(32)).digest(), AMOUNT)
        row.carol.payments.invoice(AMOUNT, LATER, held.payment_hash)
        route = row.route(AMOUNT)
        row.alice.payments.begin(route, held)
        await row.until(lambda: bool(row.carol.party.find_htlcs(row.second, held.payment_hash)))
        row.tell_height(route.hops[1].expiry)
        with pytest.raises(PaymentFailed):
            await row.alice.payments.proof(held.payment_hash)
        await row.until(lambda: quiet(row))

    assert [500_000] * 2 == [row.alice.balance(row.first), row.bob.balance(row.second)]


# ── swaps ────────────────────────────────────────────────────────────────────────────────────────────────


def legs(row: Row, *, longer: str) -> tuple[Leg, Leg]:
    """Bob gives in `second` and takes in `first`; `longer` names the leg that outlives the other one."""
    near = least_expiry(HEIGHT, 6) + 10
    far = near + least_delta(6, 6)
    give = Leg(row.second, 40_000, far if longer == "give" else near)
    take = Leg(row.first, 41_000, far if longer == "take" else near)
    return give, take


def pay_leg(payments: Payments, leg: Leg, payment_hash: bytes) -> None:
    """The other side of a leg offers it."""
    route = plan_route([RouteChannel(leg.channel_id, 6)], leg.amount, HEIGHT, final_expiry=leg.expiry)
    payments.begin(route, Invoice(payment_hash, leg.amount))


async def test_a_swap_by_who_makes_the_preimage() -> None:
    """Bob gives first and takes last; carol uses the preimage that alice saw."""
    async with three_parties() as row:
        give, take = legs(row, longer="give")
        name = row.bob.payments.begin_swap(give, take)
        row.carol.payments.invoice(40_000, LATER, name)
        await row.until(lambda: bool(row.carol.party.find_htlcs(row.second, name)))
        pay_leg(row.alice.payments, take, name)
        preimage = await row.alice.payments.proof(name)
        row.carol.party.learn_preimage(row.second, preimage)
        row.carol.payments.wake()
        proof = await row.bob.payments.proof(name)
        await row.until(lambda: quiet(row))

    assert preimage == proof
    assert (541_000, 460_000) == (row.bob.balance(row.first), row.bob.balance(row.second))


async def test_a_swap_by_who_waits_for_the_preimage() -> None:
    """Carol makes the preimage: bob gives only once he holds what he takes."""
    async with three_parties() as row:
        give, take = legs(row, longer="take")
        made = row.carol.payments.invoice(40_000, LATER)
        row.bob.payments.begin_swap(give, take, made.payment_hash)
        before = row.bob.party.channel(row.second).sequence
        pay_leg(row.alice.payments, take, made.payment_hash)
        await row.bob.payments.proof(made.payment_hash)
        await row.until(lambda: quiet(row))

    assert 0 == before
    assert (541_000, 460_000) == (row.bob.balance(row.first), row.bob.balance(row.second))


async def test_a_swap_leg_that_holds_less_is_no_leg() -> None:
    """Alice offers one satoshi less than agreed: it is given back, and bob never gives."""
    async with three_parties() as row:
        give, take = legs(row, longer="take")
        made = row.carol.payments.invoice(40_000, LATER)
        row.bob.payments.begin_swap(give, take, made.payment_hash)
        less = Leg(take.channel_id, take.amount - 1, take.expiry)
        pay_leg(row.alice.payments, less, made.payment_hash)
        with pytest.raises(PaymentFailed, match="no payment"):
            await row.alice.payments.proof(made.payment_hash)

    assert (500_000, 0) == (row.bob.balance(row.second), row.bob.party.channel(row.second).sequence)


@pytest.mark.parametrize(("longer", "secret_here"), [("give", False), ("take", True), ("neither", True)])
async def test_a_swap_in_the_wrong_order_is_refused(longer: str, secret_here: bool) -> None:
    """Who shows the preimage must not be able to take without giving, and the other way round."""
    async with three_parties() as row:
        give, take = legs(row, longer=longer)
        payment_hash = None if secret_here else sha256(b"theirs").digest()
        with pytest.raises(SwapRefused, match="long"):
            row.bob.payments.begin_swap(give, take, payment_hash)

    assert () == row.bob.party.payments()


async def test_a_swap_that_leaves_no_time_is_refused() -> None:
    """Both legs need claim margin and some blocks from now."""
    async with three_parties() as row:
        short = HEIGHT + 20
        with pytest.raises(SwapRefused, match="expires at height"):
            row.bob.payments.begin_swap(Leg(row.second, 330, short), Leg(row.first, 330, short))
        with pytest.raises(SwapRefused, match="one channel"):
            row.bob.payments.begin_swap(Leg(row.first, 1, LATER), Leg(row.first, 1, LATER))


@pytest.mark.parametrize(("give", "take"), [(329, 1_000), (1_000, 329)])
async def test_a_swap_of_dust_is_refused(give: int, take: int) -> None:
    """A leg without an output cannot be enforced: one leg could happen without the other."""
    async with three_parties() as row:
        delta = least_delta(6, 6)
        legs = Leg(row.second, give, LATER + delta), Leg(row.first, take, LATER)
        with pytest.raises(SwapRefused, match="below 330 sat"):
            row.bob.payments.begin_swap(*legs)


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_hash_stands_for_one_thing() -> None:
    """An own invoice is not paid to oneself, and no second invoice has its hash."""
    async with three_parties() as row:
        made = row.alice.payments.invoice(AMOUNT, LATER)
        with pytest.raises(PaymentConflict, match="other amounts, channels or expiries"):
            await row.alice.payments.pay(row.route(AMOUNT), made)
        with pytest.raises(PaymentConflict, match="other terms"):
            row.alice.payments.invoice(AMOUNT + 1, LATER, made.payment_hash)


async def test_a_route_must_fit_the_invoice() -> None:
    """Another amount, an expiry below what the receiver wants, an invoice out of date: nothing is offered."""
    async with three_parties() as row:
        name = sha256(b"x").digest()
        for invoice, wrong in (
            (Invoice(name, AMOUNT + 1), "asks for"),
            (Invoice(name, AMOUNT, final_expiry=100_000), "the last HTLC expires"),
            (Invoice(name, AMOUNT, HEIGHT - 1), "payable until"),
        ):
            with pytest.raises(MalformedInput, match=wrong):
                await row.alice.payments.pay(row.route(AMOUNT), invoice)

    assert () == row.alice.party.payments()


# ── the edges ────────────────────────────────────────────────────────────────────────────────────────────


class OneLink:
    """A party server that knows one peer."""

    def __init__(self, peer: bytes, link: PeerLink) -> None:
        self._known = {peer: link}

    async def link(self, peer: bytes) -> PeerLink:
        """The link to a peer."""
        return self._known[peer]


async def test_links_are_found_by_channel() -> None:
    """The book says whose channel it is; one that was opened otherwise has no peer to talk to."""
    async with three_parties() as row:
        server = cast("PartyServer", OneLink(row.bob.identity, row.alice.links[row.first]))
        link_of = links_of(server, row.alice.party, row.alice.book)
        found = await link_of(row.first)
        stranger = links_of(server, row.alice.party, PeerBook(MemoryKeystore()))
        with pytest.raises(PeerUnreachable, match="not opened over a transport"):
            await stranger(row.first)

    assert row.bob.identity == found.peer


class Heights:
    """A tower that is asked to close; it says at which height the chain is, and that the channel is active."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.closed: list[tuple[str, int]] = []
        self.was_closed = asyncio.Event()

    async def get_state(self) -> SimpleNamespace:
        """The height alone."""
        return SimpleNamespace(height=self.height)

    async def get_channel_info(self, name: str) -> SimpleNamespace:
        """Active."""
        return SimpleNamespace(status=ChannelStatus.ACTIVE, claims=())

    async def get_funding_status(self, name: str) -> SimpleNamespace:
        """Deep."""
        return SimpleNamespace(confirmed=True)

    async def synchronize(self, channel_id: bytes) -> None:
        """It has everything."""

    async def exchange_preimages(self, channel_id: bytes) -> None:
        """It needs none."""

    async def close_channel_unilateral(self, name: str, sequence: int) -> SimpleNamespace:
        """Note it; the mempool asks for more."""
        self.closed.append((name, sequence))
        self.was_closed.set()
        return SimpleNamespace(outcome="FEE_CHILD_NEEDED", message="send it with a child that pays more")


async def test_a_peer_that_hangs_does_not_keep_its_channel_from_being_closed(caplog: pytest.LogCaptureFixture) -> None:
    """The preimage was to go to a link that never answers; at the last height the channel goes on chain.

    The owner is told that the commitment waits for a fee child.
    """
    pair, tower = open_pair(), Heights(HEIGHT)
    for party in pair.parties:
        party.note_height(HEIGHT)
    asked = asyncio.Event()

    async def hang(channel_id: bytes) -> PeerLink:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError("never")

    payments = Payments(pair.b, hang, tower=tower, retry_seconds=60)  # type: ignore[arg-type]
    invoice = payments.invoice(20_000, payable_until=HEIGHT + 100)
    exchange.change(pair.a, pair.b, pair.channel_id, Change(add=(NewHtlc(20_000, invoice.payment_hash, HEIGHT + 300),)))
    receipts.acknowledge(pair.b, pair.channel_id, 1)
    async with payments:
        await asyncio.wait_for(asked.wait(), 30)
        tower.height = HEIGHT + 300 - claim_margin(144)
        await payments.look()
        await asyncio.wait_for(tower.was_closed.wait(), 30)

    assert [(pair.channel_id.hex(), 1)] == tower.closed
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("payment_delayed")]
    name = pair.channel_id.hex()[:16]
    assert [f"payment_delayed about=channel:{name} reason=send it with a child that pays more"] == told


async def test_a_broken_log_ends_the_payments() -> None:
    """Whoever waits is told, and so is the program around them; nothing goes on with a log that cannot be trusted."""

    def broken(name: str) -> None:
        raise StoreBroken(f"the disk is gone at {name}")

    async with three_parties() as row:
        name = row.alice.payments.begin(row.route(AMOUNT), Invoice(sha256(b"x").digest(), AMOUNT))
        row.alice.failpoint = broken
        with pytest.raises(StoreBroken):
            await row.alice.payments.proof(name)
        with pytest.raises(StoreBroken):
            await row.alice.payments.wait()


async def test_a_mistake_in_a_look_ends_the_payments_for_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait, and those that come later: nobody looks again, so nobody would ever tell them."""

    def mistaken(_round: Round) -> list[Job]:
        raise ZeroDivisionError

    async with three_parties() as row:
        name = row.alice.payments.begin(row.route(AMOUNT), Invoice(sha256(b"x").digest(), AMOUNT))
        monkeypatch.setattr(Round, "jobs", mistaken)
        async with asyncio.timeout(10):
            for _ in range(2):
                with pytest.raises(ZeroDivisionError):
                    await row.alice.payments.proof(name)


async def test_strict_payments_need_a_tower() -> None:
    """Rule U4 asks for its word."""
    async with three_parties() as row:
        with pytest.raises(MalformedInput, match="strict=False"):
            Payments(row.alice.party, row.alice.link_of)
