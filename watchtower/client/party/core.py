"""The core of a party: its log, its keys and its lock. Everything that it does goes through `_take`.

Every message is stored before it is handed out, and every decision is made from the log, so a party that was
killed anywhere goes on where it stood. Secrets leave only as the protocol says: per-commitment secrets in
messages 3 and 4, the revocation basepoint secret in the registration at the party's own tower.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from threading import RLock

import msgspec

from domain.application import Application
from domain.contract import keys
from domain.contract.scripts import funding_output
from domain.errors import UnknownChannel
from domain.events import ChannelProposed, Envelope, PreimageLearned, StateCommitted, StateOffered, envelopes
from domain.liquidity import Liquidity
from watchtower.client.party.key_ring import SEED_NAME, KeyRing
from watchtower.client.party.liquidity import channel_liquidity
from watchtower.client.party.settings import PartySettings
from watchtower.client.protocol.channel import CompleteState, PartyChannel
from watchtower.client.protocol.consent import Consent, never_lose
from watchtower.client.protocol.fold import evolve, fold
from watchtower.client.protocol.messages import Message
from watchtower.client.protocol.news import Slips
from watchtower.client.protocol.rules import PartyRules, Resolve, no_descriptors
from watchtower.client.protocol.seat import Seat, Step
from watchtower.ports import Clock, EventStore, Failpoint, Keystore
from watchtower.wire.signed_request import UnsignedRequest

PAGE = 1000


def no_failpoint(name: str) -> None:
    """Production: passing a named point does nothing."""
    del name


class PartyCore:
    """One party and all its channels. Safe to use from several threads; calls are short and synchronous."""

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
        entropy: Callable[[], bytes] = lambda: secrets.token_bytes(32),
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        self.settings = settings
        self._rules = PartyRules(settings.state_policy, consent, tuple(applications), resolve)
        self._keys = KeyRing(keystore, settings)
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._failpoint = failpoint
        self._mutex = RLock()
        self._channels: dict[str, PartyChannel] = {}
        self._names: dict[bytes, str] = {}
        self._known: dict[bytes, bytes] = {}
        self._approved: dict[str, bytes] = {}
        self._withdrawn: dict[str, bytes] = {}
        self._approved_closes: dict[str, tuple[int, int]] = {}
        self._reported: dict[str, int] = {}
        self._slips = Slips()
        self._height: int | None = None
        self._load()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.settings.network}, {len(self._channels)} channels>"

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

    def applications_without_rules(self) -> frozenset[bytes]:
        """The app_ids of channels that take updates and whose application was not given: nobody judges their states."""
        with self._mutex:
            alive = [channel for channel in self._channels.values() if not channel.is_closing and not channel.abandoned]
            states = [channel.state for channel in alive if channel.state is not None]
        named = {state.content.read_header().app_id for state in states} - {bytes(32)}
        return frozenset(name for name in named if self._rules.application(name) is None)

    def state(self, channel_id: bytes, sequence: int) -> CompleteState:
        """Any complete state with all signatures, read from the log; `UnknownChannel` if it was never complete."""
        channel = self.channel(channel_id)
        if channel.state is not None and channel.state.seq == sequence:
            return channel.state
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

    def liquidity(self, channel_id: bytes) -> Liquidity:
        """What each side can spend and receive in the next state, from this party's log."""
        return channel_liquidity(self.channel(channel_id), self.settings.state_policy)

    def funding_spk(self, channel_id: bytes) -> bytes:
        """The script that the funding transaction must pay."""
        return funding_output(self.channel(channel_id).params).spk

    def close_transaction(self, channel_id: bytes) -> bytes | None:
        """The newest complete cooperative close, ready for broadcast."""
        closes = self.channel(channel_id).closes
        return next((close.raw for close in reversed(closes) if close.raw is not None), None)

    def sign_request(self, channel_id: bytes, request: UnsignedRequest) -> tuple[bytes, bytes]:
        """The x-only auth key of a channel and its signature over a request to the tower that watches the channel."""
        with self._mutex:
            secret = self._keys.of(self.channel(channel_id).channel_index).secrets.auth
        return keys.xonly(keys.public_key(secret)), keys.sign_schnorr(secret, request.hash, self._entropy())

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

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
            self._learn(stored)
            if any(isinstance(event, StateOffered) for event in step.events):
                self._withdrawn.pop(channel.stream, None)
            if any(isinstance(event, StateCommitted) for event in step.events):
                self._approved_closes.pop(channel.stream, None)  # it was given for the balances of that time
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
            self._rules,
            self._known,
            self._height,
            self._approved.get(channel.stream),
            self._approved_closes.get(channel.stream),
            self._reported.get(channel.stream),
        )

    def _stream_of(self, channel_id: bytes) -> str:
        stream = self._names.get(bytes(channel_id))
        if stream is None:
            raise UnknownChannel("this party has no channel with this id")
        return stream

    def _keep(self, channel: PartyChannel | None) -> PartyChannel:
        if channel is None:
            raise UnknownChannel("this party has no channel with this id")
        if _is_withdrawn(channel, self._withdrawn.get(channel.stream)):
            channel = msgspec.structs.replace(channel, pending=None)
        self._channels[channel.stream] = channel
        self._names[channel.params.proposal_id] = channel.stream
        self._names[channel.channel_id] = channel.stream
        return channel

    def _learn(self, stored: Sequence[Envelope]) -> None:
        """Preimages serve all channels: what one hop shows pays the hop before."""
        for event in stored:
            if isinstance(event.payload, PreimageLearned):
                self._known[event.payload.payment_hash] = event.payload.preimage

    def _reload(self, stream: str) -> PartyChannel:
        events = self._store.read_stream(stream)
        self._learn(events)
        return self._keep(fold(None, events))

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
            self._learn((event,))


def _is_withdrawn(channel: PartyChannel, state_hash: bytes | None) -> bool:
    """Whether the offer in flight is one that this side has forgotten; a signed one cannot be."""
    pending = channel.pending
    return pending is not None and not pending.is_bound and pending.content.state_hash == state_hash
