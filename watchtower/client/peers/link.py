"""A party's link to one peer: messages in, answers out, and calls that end when the peer has answered.

    async with PeerLink(party, transport, book) as link:
        channel_id = await link.open_channel(Terms(balances=(500_000, 500_000)), fund)
        await link.update(channel_id, (490_000, 510_000))
        raw = await link.close_channel(channel_id, (490_000, 510_000), fee=1_000)

The party decides and stores, in a worker thread, so that the event loop never waits for a disk. One piece of
work at a time: the order in which the party decided is the order in which the peer hears it. A link lives as
long as its connection; on the next one both sides say where they stand, and what was cut goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from domain.contract.conditions import Condition
from domain.contract.params import TAPROOT
from domain.errors import DomainError, MalformedInput
from watchtower.client.errors import TowerUnreachable
from watchtower.client.party.exchange import Fund
from watchtower.client.party.party import ChannelParty
from watchtower.client.party.peer_book import PeerBook
from watchtower.client.peer_errors import Overtaken, PeerRefused, PeerSilent, TransportClosed
from watchtower.client.peers.allowance import AllowanceExceeded, PeerAllowance
from watchtower.client.peers.calls import Call, Calls, Greetings, Reached
from watchtower.client.peers.messages import AnyLinkMessage, Refused, decode, encode, kind_of, refused
from watchtower.client.peers.work import Done, LinkWork
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.protocol.htlcs import Change
from watchtower.client.protocol.messages import Message, Reestablish, UpdateOffer, UpdateReject
from watchtower.client.protocol.opening import NO_APP, Terms
from watchtower.client.tower.finality import Finality
from watchtower.client.transport.port import Transport
from watchtower.ports import WatchtowerError

TIMEOUT_MS = 30_000
REFUSAL_LIMIT = 100
"""Messages that the own party refused; after so many the peer is broken or hostile and the connection ends."""

_log = logging.getLogger(__name__)


class PeerLink:
    """See the module. `finality` brings complete states to the own tower before an update counts (rule U4).

    `timeout_ms` is that of a call from its beginning to its end, whatever it waits for: other calls of the channel, the
    peer's greeting and answer, the own disk, the tower. A call that was given a `deadline` (seconds of the event loop's
    clock) has that one instead. What was begun goes on when a call ends too late.

    `allowance` limits what the peer may have stored for nothing; who makes links anew passes the one of the peer.
    """

    def __init__(
        self,
        party: ChannelParty,
        transport: Transport,
        book: PeerBook,
        *,
        timeout_ms: int = TIMEOUT_MS,
        finality: Finality | None = None,
        allowance: PeerAllowance | None = None,
    ) -> None:
        self.party = party
        self._transport = transport
        self._work = LinkWork(party, book, transport.peer, allowance or PeerAllowance())
        self._seconds = timeout_ms / 1000
        self._finality = finality
        self._calls = Calls()
        self._greetings = Greetings()
        self._order = asyncio.Lock()
        self._refusals = 0
        self._tasks: set[asyncio.Task[Done]] = set()
        self._running: asyncio.Task[None] | None = None
        self._begun = False
        self._over = asyncio.Event()

    def __repr__(self) -> str:
        return f"<PeerLink to {self.peer.hex()[:8]}>"

    @property
    def peer(self) -> bytes:
        """The peer's identity, 32 bytes."""
        return self._transport.peer

    @property
    def is_over(self) -> bool:
        """Whether the connection ended; every call fails then."""
        return self._calls.is_over

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def start(self) -> None:
        """Run in a task of its own; `stop` ends it."""
        if self._running is None:
            self._running = asyncio.create_task(self._run_quietly(), name=f"link {self.peer.hex()[:8]}")

    async def stop(self) -> None:
        """Close the connection and wait until nothing of it is in hand. Harmless if it ended already.

        Afterwards no message of this connection reaches the party any more: those of the next one come behind it.
        """
        await self._transport.close()
        if self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)
        elif self._begun:
            await self._over.wait()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def run(self) -> None:
        """Say where all channels stand, then take messages until the connection ends (`TransportClosed`).

        Raises `MalformedInput` for what no party sends, `AllowanceExceeded` for a peer that fills the disk with offers
        that come to nothing, and the errors of the store.
        """
        self._begun = True
        try:
            with self._finality.telling(self._look_again) if self._finality else contextlib.nullcontext():
                await self.reconnect()
                while True:
                    await self._take(decode(await self._transport.receive()))
        except BaseException as error:
            ended = error if isinstance(error, TransportClosed) else TransportClosed("the link was stopped")
            self._calls.end(ended)
            self._greetings.end()
            await self._transport.close()
            raise
        finally:
            self._over.set()

    # ── calls ────────────────────────────────────────────────────────────────────────────────────────────

    async def open_channel(self, terms: Terms, fund: Fund, *, state_data: bytes = b"", app_id: bytes = NO_APP) -> bytes:
        """Agree on constants, fix the outpoint that `fund(spk, value)` returns, complete state 0; the channel id.

        `fund` runs in a worker thread and must not sign or send anything that spends: state 0 is not complete.
        """
        proposal_id = await self.propose_channel(terms)
        spk = await asyncio.to_thread(self.party.funding_spk, proposal_id)
        txid, vout = await asyncio.to_thread(fund, spk, terms.capacity)
        return await self.fix_channel(proposal_id, txid, vout, state_data=state_data, app_id=app_id)

    async def propose_channel(self, terms: Terms, *, deadline: float | None = None) -> bytes:
        """First half of an opening: both sides know all constants. Returns the proposal id."""
        wanted = self._call(deadline)
        name = await asyncio.to_thread(self._work.open, terms)
        try:
            async with self._calls.begin(name, wanted) as call:
                async with call.until(call.deadline):
                    await self._perform(lambda: self._work.ask(name))
                return (await call.wait(_exists)).params.proposal_id
        finally:
            self._work.give_up(name)

    async def fix_channel(
        self,
        proposal_id: bytes,
        txid: bytes,
        vout: int,
        *,
        state_data: bytes = b"",
        app_id: bytes = NO_APP,
        deadline: float | None = None,
    ) -> bytes:
        """Second half: fix the outpoint (txid in internal order) and complete state 0. May be repeated."""
        async with self._calls.begin(proposal_id, self._call(deadline)) as call:
            await self._greetings.heard(proposal_id, call)
            async with call.until(call.deadline, signing=True):
                await self._act(
                    proposal_id, lambda: self.party.fix_funding(proposal_id, txid, vout, state_data, app_id)
                )
            return (await call.wait(lambda channel: channel.sequence >= 0)).channel_id

    async def update(
        self,
        channel_id: bytes,
        balances: tuple[int, int],
        conditions: Sequence[Condition] = (),
        state_data: bytes = b"",
    ) -> int:
        """Make the next state; balances of A and B in satoshi. Returns its number; see `advance`."""
        return await self.advance(channel_id, lambda: self.party.offer(channel_id, balances, conditions, state_data))

    async def change(self, channel_id: bytes, wanted: Change) -> int:
        """Make the next state by adding and removing HTLCs. Returns its number; see `advance`."""
        return await self.advance(channel_id, lambda: self.party.change(channel_id, wanted))

    async def advance(
        self, channel_id: bytes, offer: Callable[[], Iterable[Message]], *, deadline: float | None = None
    ) -> int:
        """Run an exchange that begins with any offer of the party; returns the state's number once it is final.

        Out of turn the offer asks the peer for the turn. Raises `PeerRefused`, `PeerSilent`, `Overtaken`, the
        refusals of the own party, and what the tower's client raises, or `TowerUnreachable` at the deadline: then the
        state is complete, not final, and goes on to the tower without a further call.
        """
        wanted = self._call(deadline)
        async with self._settled(channel_id, wanted) as call:
            async with call.until(call.deadline, signing=True):
                done = await self._act(channel_id, offer)
            header = next(bytes(each.header) for each in done.messages if isinstance(each, UpdateOffer))
            sequence = int.from_bytes(header[40:48], "little")
            await call.wait(lambda channel: _revoked_before(channel, sequence))
            made = await asyncio.to_thread(self.party.state, channel_id, sequence)
            if made.content.header != header:
                raise Overtaken(f"the peer completed state {sequence} with other content; look and decide again")
        await self._settle(channel_id, sequence, wanted.deadline)
        return sequence

    async def close_channel(
        self,
        channel_id: bytes,
        final_balances: tuple[int, int],
        fee: int,
        *,
        lock_time: int = 0,
        musig: bool | None = None,
        deadline: float | None = None,
    ) -> bytes:
        """A cooperative close that pays `fee` (satoshi) from the own side; the complete transaction, not sent.

        With one joined signature where the channel can (Taproot), or as `musig` says.
        """
        async with self._settled(channel_id, self._call(deadline)) as call:
            joined = (await self._profile_of(channel_id) == TAPROOT) if musig is None else musig
            propose = self.party.propose_close_musig if joined else self.party.propose_close
            try:
                async with call.until(call.deadline):
                    await self._act(channel_id, lambda: propose(channel_id, final_balances, fee, lock_time))
                reached = await call.wait(lambda channel: _close_of(channel, fee, lock_time) is not None)
            except BaseException:
                self.party.forget_close(channel_id)
                raise
        raw = _close_of(reached, fee, lock_time)
        assert raw is not None, "this is what was waited for"
        return raw

    async def reconnect(self) -> None:
        """Say where every channel with this peer stands; the peer sends what this side lacks."""
        alive = await asyncio.to_thread(self._work.alive)
        self._greetings.expect(alive)
        for proposal_id in alive:
            await self._reconnect(proposal_id)

    async def send(self, message: Message) -> None:
        """Send one message that the party has stored already, in the order of the other work."""
        await self._perform(lambda: Done((message,)))

    async def wait_for(self, channel_id: bytes, reached: Reached, timeout_ms: int | None = None) -> PartyChannel:
        """The channel once `reached` holds, by whoever's doing; `PeerSilent` after the time."""
        wanted = self._call(None, None if timeout_ms is None else timeout_ms / 1000)
        with self._calls.watch(await self._proposal_of(channel_id), wanted) as call:
            call.note(await asyncio.to_thread(self.party.channel, channel_id))
            return await call.wait(reached)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    async def _take(self, message: AnyLinkMessage) -> None:
        """One message of the peer."""
        if isinstance(message, Refused):
            self._calls.refuse(message.channel_id, message.reason, message.slug)
            return
        try:
            await self._perform(lambda: self._work.receive(message))
        except AllowanceExceeded as error:
            _log.warning("peer_over_allowance peer=%s reason=%s", self.peer.hex()[:16], error)
            await self._transport.send(encode(refused(message, error)))
            raise
        except DomainError as error:
            await self._refuse(message, error)
        finally:
            if isinstance(message, Reestablish):
                self._greetings.note(self._calls.key(message.channel_id))

    async def _refuse(self, message: AnyLinkMessage, error: DomainError) -> None:
        """Tell the peer and the waiting call; end a connection on which this happens too often."""
        if isinstance(message, UpdateReject):
            self._calls.fail(message.channel_id, PeerRefused(message.reason))
            return
        _log.warning("message_refused peer=%s message=%s slug=%s", self.peer.hex()[:16], kind_of(message), error.slug)
        self._calls.fail(message.channel_id, error)
        self._refusals += 1
        if self._refusals > REFUSAL_LIMIT:
            raise MalformedInput(f"the peer sent {self._refusals} messages that break the protocol")
        await self._transport.send(encode(refused(message, error)))

    async def _look_again(self, channel_id: bytes) -> None:
        """The tower has taken a channel: who waits for finality may be done."""
        self._calls.note(await asyncio.to_thread(self.party.channel, channel_id))

    async def _reconnect(self, proposal_id: bytes) -> None:
        await self._act(proposal_id, lambda: self.party.reconnect(proposal_id))

    async def _act(self, channel_id: bytes, act: Callable[[], Iterable[Message]]) -> Done:
        return await self._perform(lambda: self._work.act(channel_id, act))

    async def _perform(self, work: Callable[[], Done]) -> Done:
        """Run work of the party in a thread and send what it says; a caller that gives up does not stop it."""
        task = asyncio.create_task(self._in_order(work))
        self._tasks.add(task)
        task.add_done_callback(self._done_with)
        return await asyncio.shield(task)

    async def _in_order(self, work: Callable[[], Done]) -> Done:
        async with self._order:
            done = await asyncio.to_thread(work)
            if done.channel is not None and done.opened is not None:
                self._calls.rename(done.opened, done.channel.params.proposal_id)
            if done.channel is not None:
                self._calls.note(done.channel)
            for message in done.messages:
                await self._transport.send(encode(message))
        if self._finality is not None and done.channel is not None:
            self._finality.touch(done.channel)
        return done

    def _done_with(self, task: asyncio.Task[Done]) -> None:
        """Forget finished work; an error whose caller has given up is said here, elsewhere nobody would hear it."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("link_work_failed peer=%s error=%s", self.peer.hex()[:16], type(error).__name__)

    async def _run_quietly(self) -> None:
        """The task of `start`: the end of a connection is said once, in the log."""
        try:
            await self.run()
        except TransportClosed as error:
            _log.info("link_ended peer=%s reason=%s", self.peer.hex()[:16], error)
        except (DomainError, WatchtowerError) as error:
            _log.error("link_failed peer=%s slug=%s reason=%s", self.peer.hex()[:16], error.slug, error)

    def _call(self, deadline: float | None, seconds: float | None = None) -> Call:
        """A call that begins now."""
        now, length = asyncio.get_running_loop().time(), self._seconds if seconds is None else seconds
        return Call(now + length if deadline is None else deadline, length)

    @asynccontextmanager
    async def _settled(self, channel_id: bytes, wanted: Call) -> AsyncIterator[Call]:
        """The channel's turn to be moved: the peer has said where it stands, and what was in flight is done.

        What does not get done in half of the time is left to the party, which says why it cannot go on, or goes on.
        """
        channel = await asyncio.to_thread(self.party.channel, channel_id)
        wanted.note(channel)  # an earlier call may have left a signed proposal: too late is not the same then
        name = channel.params.proposal_id
        async with self._calls.begin(name, wanted) as call:
            await self._greetings.heard(name, call)
            call.note(await asyncio.to_thread(self.party.channel, channel_id))
            with contextlib.suppress(PeerSilent):
                await call.wait(_rests, share=0.5)
            yield call

    async def _settle(self, channel_id: bytes, sequence: int, deadline: float) -> None:
        """Wait for the tower."""
        if self._finality is None:
            return
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                await self._finality.settle(channel_id)
        except TimeoutError:
            if not limit.expired():
                raise
            raise TowerUnreachable(
                f"state {sequence} is signed and complete, but the tower did not take it in time; it is brought there "
                "without a further call, and the same call may be repeated"
            ) from None

    async def _profile_of(self, channel_id: bytes) -> int:
        return (await asyncio.to_thread(self.party.channel, channel_id)).params.profile

    async def _proposal_of(self, channel_id: bytes) -> bytes:
        channel = await asyncio.to_thread(self.party.channel, channel_id)
        return channel.params.proposal_id


def _exists(channel: PartyChannel) -> bool:
    """Whether an opening has become a channel: its keys are all known."""
    return channel.version > 0


def _rests(channel: PartyChannel) -> bool:
    """Whether the next state may be offered: the newest one is finished, and the peer is not making one."""
    busy = channel.pending is not None and channel.pending.by is channel.peer
    return channel.state is None or channel.is_closing or (channel.firm is not None and not busy)


def _revoked_before(channel: PartyChannel, sequence: int) -> bool:
    """Whether a state is complete and the peer has revoked the one before it: rule U4 (i)."""
    return channel.sequence >= sequence and channel.peer_revoked >= sequence - 1


def _close_of(channel: PartyChannel, fee: int, lock_time: int) -> bytes | None:
    """The complete close that this side proposed with these terms."""
    for close in reversed(channel.closes):
        if (close.by, close.fee, close.lock_time) == (channel.own_side, fee, lock_time):
            return close.raw
    return None
