"""The channel party: holds the seed, signs, and keeps its own append-only log.

Every message is stored before it is handed out, and every decision is made from the log, so a party that was
killed anywhere goes on where it stood. Secrets leave only as the protocol says: per-commitment secrets in
messages 3 and 4, the revocation basepoint secret in the registration at the party's own tower.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from threading import RLock

from domain.chain import chain_hash
from domain.contract.conditions import Condition, ConditionKey
from domain.contract.keys import MusigSession
from domain.contract.params import KeyBlock
from domain.contract.scripts import funding_output
from domain.errors import ChannelNotReady, MalformedInput, UnknownChannel
from domain.events import (
    ChannelFrozen,
    ChannelProposed,
    Envelope,
    FreezeReason,
    FundingBroadcast,
    Source,
    SpendKind,
    SpendSeen,
    StateCommitted,
    TowerAcknowledged,
    envelopes,
)
from domain.transaction import Transaction
from domain.units import Side
from watchtower.client import closing, opening, proposer, publishing, uploads
from watchtower.client.deciding import decide
from watchtower.client.key_ring import SEED_NAME, KeyRing
from watchtower.client.messages import (
    AcceptChannel,
    AnyMessage,
    CloseAcceptMusig,
    Message,
    OpenChannel,
    Reestablish,
    UpdateAccept,
)
from watchtower.client.opening import NO_APP, OwnKeys, Terms
from watchtower.client.party_channel import CompleteState, PartyChannel, evolve, fold
from watchtower.client.party_settings import PartySettings
from watchtower.client.resend import reestablish_message
from watchtower.client.seat import Seat, Step
from watchtower.ports import Clock, EventStore, Failpoint, Keystore
from watchtower.wire.api import RegisterRequest, RevocationRequest, UpdateRequest

__all__ = ["ChannelParty", "PartySettings"]

PAGE = 1000


def no_failpoint(name: str) -> None:
    """Production: passing a named point does nothing."""
    del name


class ChannelParty:
    """One party and all its channels. Safe to use from several threads; calls are short and synchronous."""

    def __init__(
        self,
        store: EventStore,
        keystore: Keystore,
        clock: Clock,
        settings: PartySettings,
        *,
        entropy: Callable[[], bytes] = lambda: secrets.token_bytes(32),
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        self.settings = settings
        self._keys = KeyRing(keystore, settings)
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._failpoint = failpoint
        self._mutex = RLock()
        self._channels: dict[str, PartyChannel] = {}
        self._names: dict[bytes, str] = {}
        self._openings: dict[bytes, tuple[OpenChannel, OwnKeys]] = {}
        self._sessions: dict[str, tuple[MusigSession, bytes]] = {}
        self._load()

    def __repr__(self) -> str:
        return f"<ChannelParty {self.settings.network}, {len(self._channels)} channels>"

    @staticmethod
    def create_seed(keystore: Keystore, seed: bytes | None = None) -> None:
        """Put a seed (default: 32 fresh random bytes) into an empty keystore."""
        keystore.put(SEED_NAME, secrets.token_bytes(32) if seed is None else seed)

    # ── what is known ────────────────────────────────────────────────────────────────────────────────────

    def channels(self) -> tuple[PartyChannel, ...]:
        """All channels of this party."""
        with self._mutex:
            return tuple(self._channels.values())

    def channel(self, channel_id: bytes) -> PartyChannel:
        """A channel by channel id or proposal id; `UnknownChannel` if there is none."""
        with self._mutex:
            stream = self._stream_of(channel_id)
            return self._channels[stream]

    def state(self, channel_id: bytes, sequence: int) -> CompleteState:
        """Any complete state with all signatures, read from the log; `UnknownChannel` if it was never complete."""
        channel = self.channel(channel_id)
        for state in self.history(channel.channel_id):
            if state.seq == sequence:
                return state
        raise UnknownChannel(f"state {sequence} was never complete; the newest one is {channel.sequence}")

    def history(self, channel_id: bytes) -> Iterator[CompleteState]:
        """All complete states, oldest first, read from the log."""
        seen: PartyChannel | None = None
        for event in self._store.read_stream(self.channel(channel_id).stream):
            seen = evolve(seen, event)
            if isinstance(event.payload, StateCommitted) and seen.state is not None:
                yield seen.state

    def funding_spk(self, channel_id: bytes) -> bytes:
        """The script that the funding transaction must pay."""
        return funding_output(self.channel(channel_id).params).spk

    def close_transaction(self, channel_id: bytes) -> bytes | None:
        """The newest complete cooperative close, ready for broadcast."""
        closes = self.channel(channel_id).closes
        return next((close.raw for close in reversed(closes) if close.raw is not None), None)

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────

    def open(self, terms: Terms) -> OpenChannel:
        """Start an opening as A. Keys are fresh and never used again, also if the opening is given up."""
        with self._mutex:
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
        """Offer the next state; balances of A and B in satoshi. See `proposer.offer` for refusals."""
        with self._mutex:
            channel = self.channel(channel_id)
            return self._take(channel, proposer.offer(self._seat(channel), balances, conditions, state_data))

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
            seat = self._seat(channel)
            step, session = closing.propose_close_musig(seat, final_balances, fee, lock_time)
            sent = self._take(channel, step)
            newest = next(
                close
                for close in self._channels[channel.stream].closes
                if (close.by, close.fee, close.lock_time) == (seat.own, fee, lock_time)
            )
            self._sessions[channel.stream] = (session, newest.txid)
            return sent

    def reconnect(self, channel_id: bytes) -> list[Message]:
        """The message that both sides send after a reconnection or restart."""
        with self._mutex:
            return [reestablish_message(self._seat(self.channel(channel_id)))]

    def receive(self, message: AnyMessage) -> list[Message]:
        """Take a message of the peer; returns the messages to send back.

        Raises the refusals of `domain.errors`; evidence and alerts are stored before they are raised. After a
        refusal the channel stands where it stood.
        """
        with self._mutex:
            if isinstance(message, OpenChannel):
                return self._answer_opening(message)
            if isinstance(message, AcceptChannel):
                return self._take_acceptance(message)
            channel = self.channel(message.channel_id)
            sent = self._take(channel, self._decide(channel, message))
            if isinstance(message, UpdateAccept | Reestablish):
                current = self._channels[channel.stream]
                sent += self._take(current, proposer.finish(self._seat(current)))
            return sent

    # ── on chain ─────────────────────────────────────────────────────────────────────────────────────────

    def sign_commitment(self, channel_id: bytes, sequence: int) -> bytes:
        """The own commitment of a state, complete for broadcast; the release log is read anew before signing.

        Raises `SelfBreach` for a revoked state. From here no update is possible (U6).
        """
        with self._mutex:
            channel = self._reload(self.channel(channel_id).stream)
            step, raw = publishing.sign_commitment(self._seat(channel), sequence)
            self._take(channel, step)
            return raw

    def settlement(self, channel_id: bytes, sequence: int, side: Side) -> bytes:
        """The complete settlement of the commitment of `side`; valid in block h_c + T."""
        with self._mutex:
            state = self.state(channel_id, sequence)
            return publishing.settlement(self._seat(self.channel(channel_id)), state, side).serialize()

    def claim_success(
        self, channel_id: bytes, sequence: int, side: Side, key: ConditionKey, preimage: bytes, fee: int
    ) -> bytes:
        """Claim of an incoming HTLC to the own payout script, from the settlement of the commitment of `side`."""
        with self._mutex:
            seat, content = self._seat(self.channel(channel_id)), self.state(channel_id, sequence).content
            payout = seat.channel.params.keys(seat.own).payout
            return publishing.claim_success(seat, content, side, key, preimage, fee, payout)

    def claim_timeout(self, channel_id: bytes, sequence: int, side: Side, key: ConditionKey, fee: int) -> bytes:
        """Refund of an outgoing HTLC to the own payout script, valid above its expiry height."""
        with self._mutex:
            seat, content = self._seat(self.channel(channel_id)), self.state(channel_id, sequence).content
            return publishing.claim_timeout(seat, content, side, key, fee, seat.channel.params.keys(seat.own).payout)

    def note_spend(self, channel_id: bytes, raw: bytes, height: int) -> None:
        """Record that a spend of the funding output was seen; no updates from here, whatever becomes of it (U6)."""
        with self._mutex:
            channel = self.channel(channel_id)
            event = SpendSeen(
                recorded_at=self._clock.wall_microseconds(),
                kind=SpendKind.UNKNOWN,
                txid=Transaction.parse(raw).txid,
                side=None,
                sequence=None,
                raw=raw,
                source=Source.CLIENT,
                height=height,
            )
            self._take(channel, Step((event,)))

    # ── the own tower ────────────────────────────────────────────────────────────────────────────────────

    def registration(self, channel_id: bytes, funding_tx: bytes | None = None) -> RegisterRequest:
        """The body that registers the channel at the party's own tower. Holds a secret: never log it."""
        with self._mutex:
            channel = self.channel(channel_id)
            raw = funding_tx if funding_tx is not None else channel.funding_tx
            first = self.state(channel_id, 0)
            return uploads.registration(self._seat(channel), first, self._keys.of(channel.channel_index).sweep_spk, raw)

    def update_body(self, channel_id: bytes, sequence: int | None = None) -> UpdateRequest:
        """The upload of a state (default: the newest) with the peer's revocation of its predecessor."""
        with self._mutex:
            channel = self.channel(channel_id)
            newest = channel.state if sequence in (None, channel.sequence) else None
            state = newest or self.state(channel_id, channel.sequence if sequence is None else sequence)
            return uploads.update(self._seat(channel), state)

    def release_body(self, channel_id: bytes, sequence: int) -> RevocationRequest:
        """The record for the tower that an own state was revoked; carries no secret."""
        with self._mutex:
            return uploads.own_release(self._seat(self.channel(channel_id)), sequence)

    def peer_release_body(self, channel_id: bytes, sequence: int) -> RevocationRequest:
        """The peer's revocation of a state by itself, for a tower that takes no more states. Holds a secret."""
        with self._mutex:
            return uploads.peer_release(self._seat(self.channel(channel_id)), sequence)

    def acknowledge(self, channel_id: bytes, tower_id: bytes, sequence: int, upload_sha256: bytes) -> None:
        """Record that a tower holds a state durably: with the peer's revocation it is final now (U4)."""
        with self._mutex:
            channel = self.channel(channel_id)
            if dict(channel.acknowledged).get(tower_id, -1) >= sequence:
                return
            event = TowerAcknowledged(
                recorded_at=self._clock.wall_microseconds(),
                tower_id=tower_id,
                sequence=sequence,
                upload_sha256=upload_sha256,
                receipt=b"",
                receipt_sig=b"",
            )
            self._take(channel, Step((event,)))

    def note_data_loss(self, channel_id: bytes, sequence: int) -> None:
        """Somebody trustworthy knows state `sequence`, this log does not: freeze and raise `ChannelNotReady`."""
        with self._mutex:
            channel = self.channel(channel_id)
            event = ChannelFrozen(
                recorded_at=self._clock.wall_microseconds(),
                reason=FreezeReason.DATA_LOSS,
                evidence=sequence.to_bytes(8, "little"),
            )
            refusal = ChannelNotReady(
                f"state {sequence} exists, this store knows {channel.sequence}: it is an old copy; "
                "no own commitment may be published"
            )
            self._take(channel, Step((event,), refusal=refusal))

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    def _decide(self, channel: PartyChannel, message: AnyMessage) -> Step:
        seat = self._seat(channel)
        return self._join_musig(seat, message) if isinstance(message, CloseAcceptMusig) else decide(seat, message)

    def _join_musig(self, seat: Seat, message: CloseAcceptMusig) -> Step:
        attempt = self._sessions.pop(seat.channel.stream, None)
        if attempt is None:
            raise ChannelNotReady("no signing attempt is open for this close; start a new one")
        session, txid = attempt
        close = next(known for known in seat.channel.closes if known.txid == txid)
        return closing.on_close_accept_musig(seat, message, session, close)

    def _answer_opening(self, message: OpenChannel) -> list[Message]:
        own = self._keys.fresh()
        params = opening.agreed_params(message, own.block, self.settings.params_policy)
        now = self._clock.wall_microseconds()
        event = opening.proposed(params, Side.B, own, message.points, message.balances, now)
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

    def _create(self, proposal_id: bytes, event: ChannelProposed) -> None:
        stream = self._store.stream_id("c", proposal_id)
        stored = envelopes(stream, 0, (event,))
        self._append(stored)
        self._keep(fold(None, stored))

    def _take(self, channel: PartyChannel, step: Step) -> list[Message]:
        """Store, then hand out. After a failed store nothing was sent and memory is read anew."""
        if step.events:
            stored = envelopes(channel.stream, channel.version, step.events)
            try:
                self._append(stored)
            except Exception:
                self._reload(channel.stream)
                raise
            self._keep(fold(channel, stored))
        if step.refusal is not None:
            raise step.refusal
        if step.messages:
            self._failpoint("send:before")
        return list(step.messages)

    def _append(self, stored: Sequence[Envelope]) -> None:
        self._failpoint("store:before")
        self._store.append(stored)
        self._failpoint("store:after")

    def _seat(self, channel: PartyChannel) -> Seat:
        return Seat(
            channel,
            self._keys.of(channel.channel_index).secrets,
            self._clock.wall_microseconds(),
            self._entropy,
            self.settings.state_policy,
        )

    def _stream_of(self, channel_id: bytes) -> str:
        stream = self._names.get(bytes(channel_id))
        if stream is None:
            raise UnknownChannel("this party has no channel with this id")
        return stream

    def _keep(self, channel: PartyChannel | None) -> PartyChannel:
        if channel is None:
            raise UnknownChannel("this party has no channel with this id")
        self._channels[channel.stream] = channel
        self._names[channel.params.proposal_id] = channel.stream
        self._names[channel.channel_id] = channel.stream
        return channel

    def _reload(self, stream: str) -> PartyChannel:
        return self._keep(fold(None, self._store.read_stream(stream)))

    def _load(self) -> None:
        """Fold the whole log once."""
        position = 0
        while page := self._store.read_log(position, PAGE):
            for recorded in page:
                self._apply(recorded.envelope)
            position = page[-1].id
        for channel in tuple(self._channels.values()):
            self._keep(channel)

    def _apply(self, event: Envelope) -> None:
        known = self._channels.get(event.stream)
        if known is not None or isinstance(event.payload, ChannelProposed):
            self._channels[event.stream] = evolve(known, event)
