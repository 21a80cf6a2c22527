"""What one side of a channel decides with, and what a decision is.

A decision is a pure function of a `Seat` and a message. It returns a `Step`: the events to store first, then
the messages to send. A step can also carry a refusal whose evidence is stored before it is raised.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from domain.contract import keys
from domain.contract.conditions import Condition
from domain.contract.derivation import ChannelSecrets
from domain.contract.revocation import commitment_point, commitment_secret, derive_secret, index_of
from domain.contract.state import (
    DEFAULT_STATE_POLICY,
    PreviousState,
    StatePolicy,
    StateTransactions,
    check_state,
    state_transactions,
    verify_header_signature,
    verify_settle_signature,
)
from domain.errors import ChannelClosed, ChannelNotReady, DomainError, InvalidState, MalformedInput
from domain.events import Payload
from domain.units import Side
from watchtower.client.messages import Message
from watchtower.client.party_channel import Content, PartyChannel


class Step(msgspec.Struct, frozen=True):
    """Store `events` in one job, then send `messages`; or store them, then raise `refusal`."""

    events: tuple[Payload, ...] = ()
    messages: tuple[Message, ...] = ()
    refusal: DomainError | None = None


NOTHING = Step()


class Seat(msgspec.Struct, frozen=True):
    """One side of one channel: what it knows, its secrets, the time (microseconds) and fresh random bytes."""

    channel: PartyChannel
    secrets: ChannelSecrets
    now: int
    entropy: Callable[[], bytes]
    policy: StatePolicy = DEFAULT_STATE_POLICY

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
        """Rules 1 to 5 of protocol 5.1 for the successor of the newest complete state, or for state 0."""
        state = self.channel.state
        if state is None and content.read_header().balances != self.channel.initial_balances:
            raise InvalidState("state 0 must have the balances that were agreed at the opening")
        previous = PreviousState.of(state.content.read_header()) if state else None
        conditions = content.read_conditions()
        refuse_descriptors(conditions)
        check_state(self.channel.params, content.read_header(), conditions, content.state_data, previous, self.policy)
        self.transactions(content)


def proposer_of(sequence: int) -> Side:
    """Whose turn it is to propose a state: A for even numbers, B for odd ones (rule U3)."""
    return Side.A if sequence % 2 == 0 else Side.B


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


def refuse_descriptors(conditions: tuple[Condition, ...]) -> None:
    """Descriptor outputs need a descriptor engine, which this program does not have yet (protocol 3.5)."""
    if any(not condition.is_htlc for condition in conditions):
        raise InvalidState("descriptor conditions (type 2) are not supported here; use HTLCs (types 0 and 1)")


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
