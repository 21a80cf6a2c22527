"""What a link lets its party do, in a worker thread: a peer may speak for its own channels and for no others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from domain.contract.params import KeyBlock, ParamsPolicy
from domain.errors import ChannelNotReady, UnknownChannel
from domain.units import Side
from watchtower.client.party.exposure import check_peer, counts
from watchtower.client.party.party import ChannelParty
from watchtower.client.party.peer_book import PeerBook
from watchtower.client.peers.allowance import PeerAllowance
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.protocol.messages import (
    AcceptChannel,
    AnyMessage,
    Message,
    OpenChannel,
    UpdateOffer,
    UpdateYield,
    encode_message,
)
from watchtower.client.protocol.opening import Terms, agreed_params

OPENING_LIMIT = 20
"""Channels without a complete state 0 that one peer may leave behind: each costs keys and lines in the log."""

UNHELD_LIMIT = 100
"""Channels that one peer has opened and no tower of this party holds, complete or not: their funding was never seen.

State 0 costs the opener nothing, and neither do more states, so only the chain shows that it means it. No honest peer
comes near the limit; a party without a tower takes no more channels than this from one peer."""


class Done(msgspec.Struct, frozen=True):
    """Messages to send, the channel as it stands afterwards, and the name of an opening that became this channel."""

    messages: Sequence[Message] = ()
    channel: PartyChannel | None = None
    opened: bytes | None = None


class LinkWork:
    """One party and one peer. Every method may wait for the disk."""

    def __init__(self, party: ChannelParty, book: PeerBook, peer: bytes, allowance: PeerAllowance) -> None:
        self._party = party
        self._allowance = allowance
        self._book = book
        self._peer = peer
        self._openings: dict[bytes, OpenChannel] = {}

    def open(self, terms: Terms) -> bytes:
        """Begin an opening; the name that this side drew for it. `ExposureExceeded` if this party limits itself."""
        check_peer(self._party.settings, self.channels(), terms.capacity)
        request = self._party.open(terms)
        self._openings[bytes(request.channel_id)] = request
        return bytes(request.channel_id)

    def ask(self, name: bytes) -> Done:
        """The first message of an opening."""
        return Done((self._openings[name],))

    def give_up(self, name: bytes) -> None:
        """An answer that comes after this is refused."""
        self._openings.pop(name, None)

    def act(self, channel_id: bytes, act: Callable[[], Iterable[Message]]) -> Done:
        """Let the party act in a channel of this peer."""
        self._book.require(self._party.channel(channel_id), self._peer)
        messages = tuple(act())
        return Done(messages, self._party.channel(channel_id))

    def receive(self, message: AnyMessage) -> Done:
        """Let the party take a message; `UnknownChannel` for a channel of somebody else.

        `AllowanceExceeded` for offers of a peer that has filled its share of the disk with such that came to nothing.
        """
        if isinstance(message, OpenChannel):
            return self._answer_opening(message)
        if isinstance(message, AcceptChannel):
            return self._take_acceptance(message)
        if isinstance(message, UpdateOffer | UpdateYield):
            self._allowance.require()
        before = self._party.channel(message.channel_id)
        done = self.act(message.channel_id, lambda: self._party.receive(message))
        self._account(message, before)
        return done

    def channels(self) -> list[PartyChannel]:
        """All channels with this peer."""
        return [channel for channel in self._party.channels() if self._book.peer_of(channel) == self._peer]

    def alive(self) -> list[bytes]:
        """Proposal ids of the channels about which there is something to say."""
        return [each.params.proposal_id for each in self.channels() if not (each.abandoned or each.spend_seen)]

    def _account(self, message: AnyMessage, before: PartyChannel) -> None:
        """Only what may be replaced is charged; everything else is bounded by the state that it belongs to."""
        after = self._party.channel(message.channel_id)
        name = after.params.proposal_id
        if after.sequence > before.sequence:
            self._allowance.refund(name)
        elif isinstance(message, UpdateOffer | UpdateYield) and after.version > before.version:
            self._allowance.charge(name, len(encode_message(message)), replaces=isinstance(message, UpdateOffer))

    def _answer_opening(self, message: OpenChannel) -> Done:
        channels = self.channels()
        unfinished = sum(1 for channel in channels if channel.state is None and not channel.abandoned)
        if unfinished >= OPENING_LIMIT:
            raise ChannelNotReady(f"{unfinished} openings of this peer are unfinished; finish or give up one first")
        unheld = sum(1 for channel in channels if counts(channel) and _is_unheld(channel))
        if unheld >= UNHELD_LIMIT:
            raise ChannelNotReady(
                f"{unheld} channels of this peer have no funding that the tower here has seen; fund one first"
            )
        check_peer(self._party.settings, channels, sum(message.balances))
        answers = self._party.receive(message)
        (accept,) = (each for each in answers if isinstance(each, AcceptChannel))
        proposal_id = proposal_id_of(message, accept, self._party.settings.params_policy)
        self._book.bind(proposal_id, self._peer)
        return Done(answers, self._party.channel(proposal_id))

    def _take_acceptance(self, message: AcceptChannel) -> Done:
        """Bound before it exists: a channel of nobody could not be finished."""
        name = bytes(message.channel_id)
        request = self._openings.pop(name, None)
        if request is None:
            raise UnknownChannel("no opening waits for this answer; it was given up")
        proposal_id = proposal_id_of(request, message, self._party.settings.params_policy)
        self._book.bind(proposal_id, self._peer)
        answers = self._party.receive(message)
        return Done(answers, self._party.channel(proposal_id), name)


def _is_unheld(channel: PartyChannel) -> bool:
    """Whether the peer has opened it and no tower has acknowledged it, which one does only once it sees the funding."""
    return channel.own_side is Side.B and not channel.acknowledged


def proposal_id_of(request: OpenChannel, accept: AcceptChannel, policy: ParamsPolicy) -> bytes:
    """The name under which both sides of an opening know it; `InvalidParams` as `agreed_params`."""
    return agreed_params(request, KeyBlock.decode(accept.key_block), policy).proposal_id
