"""What one side of a channel decides with, and what a decision is.

A decision is a pure function of a `Seat` and a message. It returns a `Step`: the events to store first, then
the messages to send. A step can also carry a refusal whose evidence is stored before it is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from domain.application import application_state
from domain.contract import keys
from domain.contract.derivation import ChannelSecrets
from domain.contract.revocation import commitment_point, commitment_secret, derive_secret, index_of
from domain.contract.settlement import overhead, settlement_fee
from domain.contract.state import (
    PreviousState,
    StateTransactions,
    check_state,
    onchain_state_hash,
    state_transactions,
    verify_header_signature,
    verify_settle_signature,
)
from domain.errors import ChannelClosed, ChannelNotReady, DomainError, InvalidState, MalformedInput
from domain.events import Payload
from domain.units import Side
from watchtower.client.protocol.channel import Content, PartyChannel, proposer_of
from watchtower.client.protocol.consent import ConsentRefused, Deal, objection_to
from watchtower.client.protocol.messages import Message
from watchtower.client.protocol.rules import PartyRules
from watchtower.client.protocol.verdicts import require_verdict

__all__ = [
    "NOTHING",
    "Seat",
    "Step",
    "proposer_of",
    "require_open",
    "require_point",
    "verify_first_three",
]


class Step(msgspec.Struct, frozen=True):
    """Store `events` in one job, then send `messages`; or store them, then raise `refusal`."""

    events: tuple[Payload, ...] = ()
    messages: tuple[Message, ...] = ()
    refusal: DomainError | None = None


NOTHING = Step()


class Seat(msgspec.Struct, frozen=True):
    """One side of one channel: what it knows, its secrets, the time (microseconds) and fresh random bytes.

    `known` maps payment hashes to the preimages that the party holds, `height` is the chain's as far as it was
    told, `approved` the hash of a state that the application agreed to beforehand, `approved_close` final balances
    likewise, `reported` the highest state that the own tower says it holds.
    """

    channel: PartyChannel
    secrets: ChannelSecrets
    now: int
    entropy: Callable[[], bytes]
    rules: PartyRules
    known: Mapping[bytes, bytes]
    height: int | None = None
    approved: bytes | None = None
    approved_close: tuple[int, int] | None = None
    reported: int | None = None

    def __repr__(self) -> str:
        return f"<Seat {self.own.name} at state {self.channel.sequence}>"  # preimages and secrets stay inside

    @property
    def own(self) -> Side:
        """This side."""
        return self.channel.own_side

    @property
    def peer(self) -> Side:
        """The other side."""
        return self.channel.peer

    def own_point(self, sequence: int) -> bytes:
        """Own per-commitment point of a state."""
        return commitment_point(self.secrets.seed, sequence)

    def own_secret(self, sequence: int) -> bytes:
        """Own per-commitment secret. Rule U2 says when it may leave."""
        return commitment_secret(self.secrets.seed, sequence)

    def points(self, sequence: int) -> tuple[bytes, bytes]:
        """Points of A and B for a state."""
        theirs = self.channel.peer_point(sequence)
        if theirs is None and sequence <= self.channel.peer_revoked:
            secret = derive_secret(self.channel.buckets, index_of(sequence))
            theirs = keys.public_key(secret) if secret is not None else None
        if theirs is None:
            raise ChannelNotReady(f"the counterparty's point of state {sequence} is not known here")
        own = self.own_point(sequence)
        return (own, theirs) if self.own is Side.A else (theirs, own)

    def transactions(self, content: Content) -> StateTransactions:
        """The four transactions of a state, rebuilt and compared with its header."""
        header = content.read_header()
        return state_transactions(self.channel.params, header, content.read_conditions(), self.points(header.seq))

    def check_content(self, content: Content) -> None:
        """Rules 1 to 5 of protocol 5.1 for the successor of the newest complete state, or for state 0.

        The application's rules come last: it sees valid states only. Raises `ApplicationRefused` for it.
        """
        state = self.channel.state
        if state is None and content.read_header().balances != self.channel.initial_balances:
            raise InvalidState("state 0 must have the balances that were agreed at the opening")
        previous = PreviousState.of(state.content.read_header()) if state else None
        conditions = content.read_conditions()
        policy = self.rules.state_policy
        check_state(self.channel.params, content.read_header(), conditions, content.state_data, previous, policy)
        self.transactions(content)
        self._ask_application(content)

    def require_consent(self, content: Content) -> None:
        """Raise `ConsentRefused` unless this side wants the state that the peer offers (`consent.never_lose`)."""
        state = self.channel.state
        if state is None or content.state_hash == self.approved:
            return  # state 0 is fixed by the opening, to which this side agreed
        deal = Deal(
            channel_id=self.channel.channel_id,
            own=self.own,
            sequence=content.seq,
            state_hash=content.state_hash,
            balances_before=state.content.balances,
            balances=content.balances,
            conditions_before=state.content.read_conditions(),
            conditions=content.read_conditions(),
            state_data=content.state_data,
            known=self.known.keys(),
            shown=self.channel.shown,
            height=self.height,
            overhead_before=self._overhead(state.content),
            overhead=self._overhead(content),
        )
        objection = objection_to(deal, self.rules.consent)
        if objection is not None:
            raise ConsentRefused(objection)

    def _overhead(self, content: Content) -> int:
        """What this side pays beside its balance when a state is settled: A everything, B nothing (satoshi)."""
        if self.own is Side.B:
            return 0
        params, header = self.channel.params, content.read_header()
        onchain = onchain_state_hash(header) if params.has_onchain_state else None
        return overhead(params, settlement_fee(params, *header.balances, content.read_conditions(), onchain))

    def _ask_application(self, content: Content) -> None:
        header = content.read_header()
        application = self.rules.application(header.app_id)
        if application is None:
            return
        state = self.channel.state
        before = None
        if state is not None:
            old = state.content
            before = application_state(old.read_header(), old.read_conditions(), old.state_data)
        after = application_state(header, content.read_conditions(), content.state_data)
        require_verdict(application, before, after)


def require_open(channel: PartyChannel) -> None:
    """Refuse any update while frozen (6.1) or closing (U6)."""
    if channel.frozen is not None:
        raise ChannelNotReady(
            f"the channel is frozen ({channel.frozen.name.lower()}); close cooperatively or let the peer close"
        )
    if channel.is_closing:
        raise ChannelClosed("a close was signed or the funding output was spent; no more updates (rule U6)")
    if channel.abandoned:
        raise ChannelClosed("the opening was given up; start again with fresh keys")


def require_point(point: bytes | None) -> bytes:
    """A valid next point."""
    if point is None or not keys.is_public_key(point):
        raise MalformedInput("the next point is missing or not a compressed point of the curve")
    return point


def verify_first_three(
    seat: Seat, content: Content, built: StateTransactions, state_sig: bytes, settle_a: bytes, settle_b: bytes
) -> None:
    """The peer's signatures on the header and on both settlements; `InvalidSignature` names the one that fails."""
    params = seat.channel.params
    verify_header_signature(params, content.read_header(), seat.peer, state_sig)
    verify_settle_signature(params, built, seat.peer, Side.A, settle_a)
    verify_settle_signature(params, built, seat.peer, Side.B, settle_b)
