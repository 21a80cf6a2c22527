"""Payments over hops and swaps: the part that waits, sends and asks; what is done is decided in `forwarding`.

    async with Payments(party, links_of(server, party, book), tower=client, policy=ForwardingPolicy()) as payments:
        invoice = payments.invoice(50_000, payable_until=height + 144)
        preimage = await payments.pay(route, invoice)

Every party of a payment runs this: it pays, forwards (with a `policy`), receives, swaps, and goes on chain in time. It
looks at everything again after each message, each block and at least every few seconds, and holds nothing that matters
in memory, so it may be killed at any moment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from domain.errors import DomainError, MalformedInput
from domain.events import PaymentKind, PaymentOutcome
from domain.foreign_text import one_line
from watchtower.client.errors import StateChannelError
from watchtower.client.party.party import ChannelParty
from watchtower.client.party.payment_log import Leg, Payment
from watchtower.client.party.peer_book import PeerBook
from watchtower.client.payments.errors import PaymentFailed, SwapRefused
from watchtower.client.payments.forwarding import (
    Decision,
    End,
    Expire,
    Fail,
    Forward,
    Fulfil,
    Offer,
    Reveal,
    swap_objection,
)
from watchtower.client.payments.invoices import Invoice
from watchtower.client.payments.rounds import Close, Job, Round
from watchtower.client.payments.routing import (
    ForwardingPolicy,
    Route,
)
from watchtower.client.peer_errors import PeerUnreachable
from watchtower.client.peers.link import PeerLink
from watchtower.client.peers.server import PartyServer
from watchtower.client.protocol.htlcs import Change
from watchtower.client.protocol.news import HtlcAdded, HtlcNews, HtlcRemoved
from watchtower.client.tower.payment_tower import PASSING, PaymentTower, TowerWatch

RETRY_SECONDS = 5.0
ON_ITS_WAY = ("IN_MEMPOOL", "CONFIRMED", "PENDING")
"""Outcomes of a close that need nobody; of any other one the owner is told (`ClosureResult.outcome`)."""

LinkOf = Callable[[bytes], Awaitable[PeerLink]]
"""The living link to the peer of a channel (by channel id); raises a `PeerError` if there is none."""

_log = logging.getLogger(__name__)


def links_of(server: PartyServer, party: ChannelParty, book: PeerBook) -> LinkOf:
    """The links of a party server, by channel."""

    async def link(channel_id: bytes) -> PeerLink:
        peer = await asyncio.to_thread(lambda: book.peer_of(party.channel(channel_id)))
        if peer is None:
            raise PeerUnreachable("this channel was not opened over a transport; its peer is not known")
        return await server.link(peer)

    return link


class Payments:
    """All payments of one party. Use as an async context manager, in one event loop, once per party.

    Make it before the links of the party run: the note of an HTLC that came earlier is lost, and the HTLC goes back.
    Without a `tower` heights come from `note_height`, a silent peer is only waited for, and `strict` must be False:
    then a state counts as soon as its predecessor is revoked. With a `policy` the party forwards for others.
    """

    def __init__(
        self,
        party: ChannelParty,
        link_of: LinkOf,
        *,
        tower: PaymentTower | None = None,
        policy: ForwardingPolicy | None = None,
        strict: bool = True,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        if strict and tower is None:
            raise MalformedInput("without a tower nothing is final by rule U4; pass a tower or strict=False")
        self.party, self.policy = party, policy
        self._link_of, self._tower, self._strict = link_of, tower, strict
        self._retry_seconds = retry_seconds
        self._bell = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._looking = asyncio.Lock()
        self._watch = TowerWatch(party, tower)
        self._jobs: dict[tuple[bytes | None, bytes], asyncio.Task[None]] = {}
        self._waiting: dict[bytes, list[asyncio.Future[Payment]]] = {}
        self._reasons: dict[bytes, str] = {}
        self._notes = _heard(party)
        self._told = party.listener
        party.listener = self._hear

    def __repr__(self) -> str:
        return f"<Payments of {self.party!r}, {len(self._jobs)} jobs>"

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._running = asyncio.create_task(self.run(), name="payments")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End the task and the jobs in hand; what they began is in the log."""
        self.party.listener = self._told
        tasks = [*self._jobs.values(), *([self._running] if self._running else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for waiting in self._waiting.values():
            for future in waiting:
                future.cancel()

    async def run(self) -> None:
        """Look again after every ring, at least every `retry_seconds`, until cancelled."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._keep_looking()
        except Exception as error:
            self._failure = error
            self._fail_waiting(error)
            raise

    async def _keep_looking(self) -> None:
        while True:
            self._bell.clear()
            if self._failure is not None:
                raise self._failure
            try:
                await self.look()
            except PASSING as error:
                _log.warning("payment_delayed about=%s reason=%s", "all", error)
            try:
                async with asyncio.timeout(self._retry_seconds):
                    await self._bell.wait()
            except TimeoutError:
                continue

    async def wait(self) -> None:
        """Run until `stop`; raises what made the payments end by themselves."""
        assert self._running is not None, "enter the payments first"
        await asyncio.shield(self._running)

    def wake(self) -> None:
        """Something may have changed: look again. From any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._bell.set)

    def note_height(self, height: int) -> None:
        """Tell the height of the chain; with a tower it is asked for in every look."""
        self.party.note_height(height)
        self.wake()

    # ── calls ────────────────────────────────────────────────────────────────────────────────────────────

    def invoice(self, amount: int, payable_until: int, payment_hash: bytes | None = None) -> Invoice:
        """Ask to be paid; durable on return. See `ChannelParty.make_invoice` for a hash that was made elsewhere."""
        made = self.party.make_invoice(amount, payable_until, payment_hash)
        return Invoice(made.payment_hash, made.amount, made.payable_until)

    async def pay(self, route: Route, invoice: Invoice) -> bytes:
        """Pay along a route; returns the preimage, the proof of payment.

        May be repeated after a crash: it never pays twice under one hash. Raises `PaymentFailed` when everything came
        back, `MalformedInput` for a route that does not fit the invoice.
        """
        return await self.proof(await asyncio.to_thread(self.begin, route, invoice))

    def begin(self, route: Route, invoice: Invoice) -> bytes:
        """Begin a payment and return its hash; durable on return, nothing is waited for."""
        last, height = route.hops[-1], self.party.height
        if last.amount != invoice.amount:
            raise MalformedInput(f"the route ends with {last.amount} sat, the invoice asks for {invoice.amount} sat")
        if last.expiry < invoice.final_expiry:
            raise MalformedInput(
                f"the last HTLC expires at {last.expiry}, the receiver asks for {invoice.final_expiry}"
            )
        known = self.party.payment(invoice.payment_hash)
        self._require_unknown(known, invoice.payment_hash)
        if known is None and invoice.payable_until and height is not None and height > invoice.payable_until:
            raise MalformedInput(f"the invoice was payable until height {invoice.payable_until}, now is {height}")
        first = route.hops[0]
        leg = Leg(self.party.channel(first.channel_id).channel_id, first.amount, first.expiry)
        planned = self.party.plan_payment(PaymentKind.PAY, invoice.payment_hash, outgoing=leg, note=route.note)
        self.wake()
        return planned.payment_hash

    def begin_swap(self, give: Leg, take: Leg, payment_hash: bytes | None = None) -> bytes:
        """Begin a swap of two legs in two channels; returns its payment hash, durable on return.

        Without a `payment_hash` this party makes the preimage: it gives first, longer, and shows the preimage when it
        takes. With one it takes first, longer, and gives once what it takes is there for good. Either both legs happen
        or none. Raises `SwapRefused` for legs that would not be safe.
        """
        height = self.party.height
        if height is None:
            raise SwapRefused("the height of the chain is not known here; tell it with note_height first")
        periods = [self.party.channel(leg.channel_id).params.challenge_period for leg in (give, take)]
        known = self.party.payment(payment_hash) if payment_hash is not None else None
        self._require_unknown(known, payment_hash)
        if known is None:
            legs = (give, periods[0]), (take, periods[1])
            preemptive = self.policy is not None and self.policy.preemptive
            reason = swap_objection(*legs, height, secret_here=payment_hash is None, preemptive=preemptive)
            if reason is not None:
                raise SwapRefused(reason)
        planned = self.party.plan_payment(PaymentKind.SWAP, payment_hash, incoming=take, outgoing=give)
        self.wake()
        return planned.payment_hash

    async def swap(self, give: Leg, take: Leg, payment_hash: bytes | None = None) -> bytes:
        """`begin_swap`, then wait for its end; the preimage, or `PaymentFailed` if neither leg happened."""
        return await self.proof(await asyncio.to_thread(self.begin_swap, give, take, payment_hash))

    async def proof(self, payment_hash: bytes) -> bytes:
        """The preimage of a payment once it is over; `PaymentFailed` with the reason if it came back."""
        ended = await self.ended(payment_hash)
        preimage = self.party.preimage(payment_hash)
        if ended.outcome is not PaymentOutcome.PAID or preimage is None:
            raise PaymentFailed(ended.reason or "the payment failed")
        return preimage

    async def ended(self, payment_hash: bytes) -> Payment:
        """The payment once nothing is left to do for it; that may take until its HTLCs are resolved on chain.

        Raises what made the payments end by themselves.
        """
        if self._failure is not None:
            raise self._failure
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(bytes(payment_hash), []).append(future)
        known = self.party.payment(payment_hash)
        if known is not None and not known.is_open:
            self._tell(known)
        self.wake()
        ended: Payment = await future
        return ended

    def _require_unknown(self, planned: Payment | None, payment_hash: bytes | None) -> None:
        """A preimage that is here already proves nothing, and the peers may have it, too."""
        if planned is None and payment_hash is not None and self.party.preimage(payment_hash) is not None:
            raise MalformedInput("the preimage of this payment hash is known here already; ask for a fresh one")

    # ── a look ───────────────────────────────────────────────────────────────────────────────────────────

    async def look(self) -> None:
        """Ask the tower, decide, and start what is to be done."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        # What a job was changing while the facts were gathered is left for the next look.
        busy = set(self._jobs)
        height = await self._watch.height()
        if height is None:
            return
        closing = await self._watch.closing()
        look = Round(self.party, height, dict(self._notes), closing, self.policy, self._strict)
        for job in await asyncio.to_thread(look.jobs):
            self._start(job, busy)

    async def rest(self) -> None:
        """Return when no job is in hand."""
        while tasks := tuple(self._jobs.values()):
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, job: Job, busy: set[tuple[bytes | None, bytes]]) -> None:
        """One job at a time per channel and per payment: a decision is made from facts that no job is changing.

        A close waits for no update: its peer may be the reason why that does not end, and of a state that was revoked
        meanwhile the party signs no commitment.
        """
        key, taken = (job.channel_id, job.payment_hash), busy | set(self._jobs)
        for channel, payment in () if isinstance(job.what, Close) else taken:
            if (job.channel_id is not None and channel == job.channel_id) or (payment and payment == job.payment_hash):
                return
        if key in taken:
            return
        task = asyncio.create_task(self._carry_out(job), name=f"payment:{job.payment_hash.hex()[:8]}")
        self._jobs[key] = task
        task.add_done_callback(lambda done: self._done(key, done))

    def _done(self, key: tuple[bytes | None, bytes], task: asyncio.Task[None]) -> None:
        """An error that is not one of passing trouble ends everything: this party cannot trust its own log any more."""
        self._jobs.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._bell.set()

    # ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _carry_out(self, job: Job) -> None:
        try:
            await self._perform(job)
        except PASSING as error:
            _log.warning("payment_delayed about=%s reason=%s", f"payment:{job.payment_hash.hex()[:16]}", error)
        else:
            self.wake()

    async def _perform(self, job: Job) -> None:
        match job.what:
            case End():
                await self._end(job.payment_hash, job.what)
            case Forward():
                forward = job.what
                await asyncio.to_thread(self._plan_forward, job.payment_hash, forward)
            case Close():
                await self._close(job)
            case Reveal():
                await asyncio.to_thread(self.party.reveal, job.what.channel_id, job.payment_hash)
            case Offer():
                await self._offer(job.what)
            case _:
                await self._change(job, job.what)

    def _plan_forward(self, payment_hash: bytes, forward: Forward) -> None:
        legs = {"incoming": forward.incoming, "outgoing": forward.outgoing}
        self.party.plan_payment(PaymentKind.FORWARD, payment_hash, **legs, note=forward.note)

    async def _offer(self, offer: Offer) -> None:
        """The one attempt. An offer that the peer did not take up is forgotten: it must not come back later."""
        htlc = offer.htlc
        await asyncio.to_thread(self.party.note_leg_offered, htlc.payment_hash)
        try:
            link = await self._link_of(offer.channel_id)
            await link.change(offer.channel_id, Change(add=(htlc,)))
        except (StateChannelError, DomainError) as error:
            self._reasons.setdefault(htlc.payment_hash, str(error))
            raise
        finally:
            await asyncio.shield(asyncio.to_thread(self.party.withdraw_leg, offer.channel_id, htlc.payment_hash))
            self.wake()

    async def _change(self, job: Job, what: Decision) -> None:
        channel_id, change = await asyncio.to_thread(self._change_of, job.payment_hash, what)
        if isinstance(what, Fulfil) and self._tower is not None:
            await self._arm(self._tower, channel_id)
        link = await self._link_of(channel_id)
        await link.change(channel_id, change)

    def _change_of(self, payment_hash: bytes, what: Decision) -> tuple[bytes, Change]:
        match what:
            case Fulfil():
                preimage = self.party.preimage(payment_hash)
                assert preimage is not None, "decided because it is known"
                return what.channel_id, Change(fulfil=tuple((key, preimage) for key in what.keys))
            case Fail():
                return what.channel_id, Change(fail=tuple((key, what.reason) for key in what.keys))
            case Expire():
                return what.channel_id, Change(expire=what.keys)
        raise AssertionError(f"{type(what).__name__} changes no channel")

    async def _arm(self, tower: PaymentTower, channel_id: bytes) -> None:
        """The tower gets the preimage before the peer does: if this party dies now, the tower claims."""
        try:
            await tower.exchange_preimages(channel_id)
        except StateChannelError as error:
            _log.warning("payment_delayed about=%s reason=%s", f"channel:{channel_id.hex()[:16]}", error)

    async def _close(self, job: Job) -> None:
        assert isinstance(job.what, Close)
        assert job.channel_id is not None
        if self._tower is None:
            raise PaymentFailed("a channel must go on chain, and there is no tower to publish its commitment")
        _log.warning("payment_goes_on_chain channel=%s sequence=%d", job.channel_id.hex()[:16], job.what.sequence)
        try:
            # A state that an update left half-way may not be at the tower yet, and it publishes only what it has.
            await self._tower.synchronize(job.channel_id)
        except PASSING as error:
            _log.warning("payment_delayed about=%s reason=%s", f"channel:{job.channel_id.hex()[:16]}", error)
        closed = await self._tower.close_channel_unilateral(job.channel_id.hex(), job.what.sequence)
        if closed.outcome not in ON_ITS_WAY:
            # The deadlines count on a block soon: a fee child has to pay for it, by itself or by the owner's hand.
            _log.warning("payment_delayed about=%s reason=%s", f"channel:{job.channel_id.hex()[:16]}", closed.message)

    async def _end(self, payment_hash: bytes, end: End) -> None:
        own = self._reasons.pop(payment_hash, "")
        peers = await asyncio.to_thread(self.party.take_failure, payment_hash)
        said = own if peers is None else one_line(peers, len(peers))
        reason = said if end.outcome is PaymentOutcome.FAILED and said else end.reason
        self._tell(await asyncio.to_thread(self.party.end_payment, payment_hash, end.outcome, reason))

    def _fail_waiting(self, failure: BaseException) -> None:
        waiting = [future for futures in self._waiting.values() for future in futures if not future.done()]
        self._waiting.clear()
        for future in waiting:
            future.set_exception(failure)

    def _tell(self, ended: Payment) -> None:
        for future in self._waiting.pop(ended.payment_hash, []):
            if not future.done():
                future.set_result(ended)

    # ── news ─────────────────────────────────────────────────────────────────────────────────────────────

    def _hear(self, news: HtlcNews) -> None:
        """Called by the party in whatever thread took the message."""
        self._told(news)
        if isinstance(news, HtlcAdded):
            self._notes[news.channel_id, news.condition.hash] = news.note
        if isinstance(news, HtlcRemoved) and not self.party.find_htlcs(news.channel_id, news.condition.hash):
            self._notes.pop((news.channel_id, news.condition.hash), None)
        self.wake()


def _heard(party: ChannelParty) -> dict[tuple[bytes, bytes], bytes | None]:
    """The HTLCs that are there before anybody listens; their notes are lost, so that they are not forwarded."""
    return {
        (channel.channel_id, condition.hash): None
        for channel in party.channels()
        for condition in channel.conditions
        if condition.is_htlc
    }
