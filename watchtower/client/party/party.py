"""The channel party: holds the seed, signs, and keeps its own append-only log.

`ChannelParty` joins the rooms of a party: its core (`core`), HTLCs, the chain, the own tower, and here the
messages that open, update and close a channel.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from domain.application import Application
from domain.chain import chain_hash
from domain.contract.conditions import Condition
from domain.contract.params import KeyBlock
from domain.errors import ChannelNotReady, MalformedInput, UnknownChannel
from domain.events import FundingBroadcast, Source, envelopes
from domain.transaction import Transaction
from domain.units import Side
from watchtower.client.party.core import no_failpoint
from watchtower.client.party.exposure import check_opening, check_total
from watchtower.client.party.fees import PartyFees
from watchtower.client.party.htlcs import PartyHtlcs
from watchtower.client.party.opening import PartyOpening
from watchtower.client.party.payments import PartyPayments
from watchtower.client.party.settings import PartySettings
from watchtower.client.party.tower import PartyTower
from watchtower.client.protocol import closing, news, opening, proposer
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.protocol.consent import Consent, never_lose
from watchtower.client.protocol.contents import next_content
from watchtower.client.protocol.deciding import decide
from watchtower.client.protocol.fold import evolve
from watchtower.client.protocol.htlcs import Change, NewHtlc
from watchtower.client.protocol.messages import (
    AcceptChannel,
    AnyMessage,
    CloseAcceptMusig,
    HtlcFail,
    HtlcNote,
    Message,
    OpenChannel,
    Reestablish,
    UpdateAccept,
    UpdateReject,
)
from watchtower.client.protocol.news import HtlcNews, Listener
from watchtower.client.protocol.opening import NO_APP, OwnKeys, Terms
from watchtower.client.protocol.reestablish import is_forgotten
from watchtower.client.protocol.resend import reestablish_message
from watchtower.client.protocol.rules import Resolve, no_descriptors
from watchtower.client.protocol.seat import Seat, Step
from watchtower.ports import Clock, EventStore, Failpoint, Keystore

__all__ = ["Change", "ChannelParty", "NewHtlc", "PartySettings"]


class ChannelParty(PartyOpening, PartyHtlcs, PartyPayments, PartyFees, PartyTower):
    """One party and all its channels. Safe to use from several threads; calls are short and synchronous.

    `consent` decides about offers of the peer, `applications` hold the rules of `state_data` by app_id, `resolve`
    gives scripts of descriptors (none: descriptor outputs are refused), `listener` hears about HTLCs.
    """

    def __init__(
        self,
        store: EventStore,
        keystore: Keystore,
        clock: Clock,
        settings: PartySettings,
        *,
        consent: Consent = never_lose,
        applications: Sequence[Application] = (),
        resolve: Resolve = no_descriptors,
        listener: Listener = news.silence,
        entropy: Callable[[], bytes] = lambda: secrets.token_bytes(32),
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        super().__init__(
            store,
            keystore,
            clock,
            settings,
            consent=consent,
            applications=applications,
            resolve=resolve,
            entropy=entropy,
            failpoint=failpoint,
        )
        self.listener = listener
        self._openings: dict[bytes, tuple[OpenChannel, OwnKeys]] = {}
        self._attempts: dict[str, closing.CloseAttempt] = {}

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────

    def open(self, terms: Terms) -> OpenChannel:
        """Start an opening as A. Keys are fresh and never used again, also if the opening is given up."""
        with self._mutex:
            check_total(self.settings, self._channels.values(), terms.capacity)
            own = self._keys.fresh()
            name = self._entropy()
            message = opening.open_message(name, terms, chain_hash(self.settings.network), own)
            self._openings[name] = (message, own)
            return message

    def fix_funding(
        self, channel_id: bytes, txid: bytes, vout: int, state_data: bytes = b"", app_id: bytes = NO_APP
    ) -> list[Message]:
        """Fix the funding outpoint (txid in internal order) and offer state 0. The transaction is not signed yet."""
        with self._mutex:
            channel = self.channel(channel_id)
            fixed = opening.fix_funding(self._seat(channel), txid, vout)
            named = channel
            for event in envelopes(channel.stream, channel.version, fixed.events):
                named = evolve(named, event)
            first = opening.offer_first(self._seat(named), state_data, app_id)
            return self._take(channel, Step((*fixed.events, *first.events), first.messages))

    def note_funding_sent(self, channel_id: bytes, raw: bytes) -> None:
        """Record the signed funding transaction; allowed only once state 0 is complete."""
        with self._mutex:
            channel = self.channel(channel_id)
            if channel.state is None:
                raise ChannelNotReady("state 0 is not complete; the funding transaction must not be signed yet")
            if channel.abandoned:
                raise ChannelNotReady("the opening was given up and its coins are free; do not send this transaction")
            if Transaction.parse(raw).txid != channel.params.funding_txid:
                raise MalformedInput("this transaction is not the funding transaction of the channel")
            event = FundingBroadcast(
                recorded_at=self._clock.wall_microseconds(),
                outpoint=channel.params.funding_outpoint,
                channel_id=channel.params.channel_id,
                source=Source.CLIENT,
                raw=raw,
            )
            self._take(channel, Step((event,)))

    # ── updates and closes ───────────────────────────────────────────────────────────────────────────────

    def offer(
        self,
        channel_id: bytes,
        balances: tuple[int, int],
        conditions: Sequence[Condition] = (),
        state_data: bytes = b"",
    ) -> list[Message]:
        """Offer the next state; balances of A and B in satoshi. See `proposer.offer` for refusals.

        Out of turn this asks the peer to hand over (rule U3); it does so if it agrees to the content.
        """
        with self._mutex:
            channel = self.channel(channel_id)
            return self._take(channel, proposer.offer(self._seat(channel), balances, conditions, state_data))

    def approve(
        self,
        channel_id: bytes,
        balances: tuple[int, int],
        conditions: Sequence[Condition] = (),
        state_data: bytes = b"",
    ) -> bytes:
        """Agree beforehand to exactly this content of the next state, if the peer offers it; returns its hash.

        One approval per channel, kept in memory: a new one replaces it. It goes before the rule of consent, not
        before the rules of the protocol or of the application.
        """
        with self._mutex:
            channel = self.channel(channel_id)
            if channel.state is None:
                raise ChannelNotReady("state 0 is not complete; there is nothing to approve")
            content = next_content(self._seat(channel), balances, conditions, state_data)
            self._approved[channel.stream] = content.state_hash
            return content.state_hash

    def approve_close(self, channel_id: bytes, final_balances: tuple[int, int]) -> None:
        """Agree beforehand to a cooperative close with these balances, though it gives less or the log is frozen.

        Kept in memory until the next state is complete; final balances of A and B in satoshi. The peer pays the fee of
        a close that it proposes.
        """
        with self._mutex:
            channel = self.channel(channel_id)
            self._approved_closes[channel.stream] = final_balances

    def withdraw(self, channel_id: bytes) -> bool:
        """Forget an offer in flight, an own one or one of the peer that never went on; False if there is none.

        Only an offer: once somebody signed for a number, rule U5 leaves no way back. The log keeps the offer; after
        a restart it is made again.
        """
        with self._mutex:
            channel = self.channel(channel_id)
            if channel.pending is None or channel.pending.is_bound:
                return False
            self._withdrawn[channel.stream] = channel.pending.content.state_hash
            self._keep(channel)
            return True

    def propose_close(
        self, channel_id: bytes, final_balances: tuple[int, int], fee: int, lock_time: int = 0
    ) -> list[Message]:
        """Sign a cooperative close by leaf; this side pays the fee (satoshi)."""
        with self._mutex:
            channel = self.channel(channel_id)
            return self._take(channel, closing.propose_close(self._seat(channel), final_balances, fee, lock_time))

    def propose_close_musig(
        self, channel_id: bytes, final_balances: tuple[int, int], fee: int, lock_time: int = 0
    ) -> list[Message]:
        """Start a cooperative close by key path; this side pays the fee (satoshi)."""
        with self._mutex:
            channel = self.channel(channel_id)
            step, attempt = closing.propose_close_musig(self._seat(channel), final_balances, fee, lock_time)
            self._attempts[channel.stream] = attempt
            return self._take(channel, step)

    def forget_close(self, channel_id: bytes) -> None:
        """Give up a close by key path that the peer did not answer; a later answer to it is refused."""
        self._attempts.pop(self.channel(channel_id).stream, None)

    def reconnect(self, channel_id: bytes) -> list[Message]:
        """The message that both sides send after a reconnection or restart."""
        with self._mutex:
            return [reestablish_message(self._seat(self.channel(channel_id)))]

    def receive(self, message: AnyMessage) -> list[Message]:
        """Take a message of the peer; returns the messages to send back.

        Raises the refusals of `domain.errors`; evidence and alerts are stored before they are raised. After a
        refusal the channel stands where it stood.
        """
        sent, heard = self._receive(message)
        for each in heard:
            news.tell(self.listener, each)
        return sent

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    def _receive(self, message: AnyMessage) -> tuple[list[Message], list[HtlcNews]]:
        with self._mutex:
            if isinstance(message, OpenChannel):
                return self._answer_opening(message), []
            if isinstance(message, AcceptChannel):
                return self._take_acceptance(message), []
            channel = self.channel(message.channel_id)
            sent = self._take(channel, self._decide(channel, message))
            if isinstance(message, UpdateAccept | Reestablish):
                current = self._channels[channel.stream]
                sent += self._take(current, proposer.finish(self._seat(current)))
            after = self._channels[channel.stream]
            return sent, news.changes(channel, after, self._known, self._slips)

    def _decide(self, channel: PartyChannel, message: AnyMessage) -> Step:
        seat = self._seat(channel)
        if isinstance(message, CloseAcceptMusig):
            return self._join_musig(seat, message)
        if isinstance(message, UpdateReject) and proposer.is_refused(channel, message):
            self.withdraw(channel.channel_id)
        if isinstance(message, Reestablish) and is_forgotten(channel, message):
            self.withdraw(channel.channel_id)
        step = decide(seat, message)
        if isinstance(message, HtlcNote):
            self._slips.note(channel.stream, message)
        if isinstance(message, HtlcFail):
            self._slips.reason(channel.stream, message)
        return step

    def _join_musig(self, seat: Seat, message: CloseAcceptMusig) -> Step:
        attempt = self._attempts.pop(seat.channel.stream, None)
        if attempt is None:
            raise ChannelNotReady("no signing attempt is open for this close; start a new one")
        return closing.on_close_accept_musig(seat, message, attempt)

    def _answer_opening(self, message: OpenChannel) -> list[Message]:
        check_total(self.settings, self._channels.values(), sum(message.balances))
        check_opening(self.settings, message)
        own = self._keys.upcoming()
        params = opening.agreed_params(message, own.block, self.settings.params_policy)
        now = self._clock.wall_microseconds()
        event = opening.proposed(params, Side.B, own, message.points, message.balances, now)
        self._keys.fresh()  # an opening that is refused uses no index up
        self._create(params.proposal_id, event)
        return [opening.accept_message(message, own)]

    def _take_acceptance(self, message: AcceptChannel) -> list[Message]:
        request, own = self._openings.pop(bytes(message.channel_id), (None, None))
        if request is None or own is None:
            raise UnknownChannel("no opening waits for this answer; it was given up")
        block_b = KeyBlock.decode(message.key_block)
        params = opening.agreed_params(request, block_b, self.settings.params_policy)
        now = self._clock.wall_microseconds()
        event = opening.proposed(params, Side.A, own, message.points, request.balances, now)
        self._create(params.proposal_id, event)
        return []
