"""Two parties in one process: messages go through their JSON form, as they would over a wire.

`run` carries messages to and fro until nobody has anything to say. The other functions are the life of a
channel in single calls: open, update, reconnect, close.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from domain.contract.conditions import Condition
from domain.errors import ChannelNotReady
from domain.units import Side
from watchtower.client.party.party import ChannelParty
from watchtower.client.protocol.htlcs import Change
from watchtower.client.protocol.messages import AnyMessage, Message, decode_message, encode_message
from watchtower.client.protocol.opening import NO_APP, Terms

MESSAGE_LIMIT = 1000
"""Messages of one `run`; an update has six or seven. More means that two programs talk in a circle."""

Carry = Callable[[ChannelParty, Message], Sequence[AnyMessage]]
"""What arrives when a party sends a message: normally this message, in tests also none, two or another one."""

Fund = Callable[[bytes, int], tuple[bytes, int]]
"""Makes a funding transaction for a script and a value, without broadcast; returns (txid, output number)."""


def deliver(sender: ChannelParty, message: Message) -> Sequence[AnyMessage]:
    """The faithful wire."""
    del sender
    return (decode_message(encode_message(message)),)


def run(
    sender: ChannelParty, receiver: ChannelParty, messages: Sequence[Message], carry: Carry = deliver
) -> list[AnyMessage]:
    """Deliver messages and all answers in order; returns what was delivered. Refusals of either side come out."""
    waiting = deque((sender, receiver, message) for message in messages)
    delivered: list[AnyMessage] = []
    while waiting:
        source, target, message = waiting.popleft()
        for arrived in carry(source, message):
            delivered.append(arrived)
            if len(delivered) > MESSAGE_LIMIT:
                raise ChannelNotReady(f"the parties do not come to an end after {MESSAGE_LIMIT} messages")
            waiting.extend((target, source, answer) for answer in target.receive(arrived))
    return delivered


def open_channel(
    opener: ChannelParty,
    peer: ChannelParty,
    terms: Terms,
    fund: Fund,
    *,
    state_data: bytes = b"",
    app_id: bytes = NO_APP,
    carry: Carry = deliver,
) -> bytes:
    """Steps (i) to (iii) of an opening; returns the channel id.

    Afterwards both have a complete state 0: register the towers, then sign and broadcast the funding
    transaction.
    """
    before = {channel.params.proposal_id for channel in opener.channels()}
    run(opener, peer, [opener.open(terms)], carry)
    proposal = next(c for c in opener.channels() if c.params.proposal_id not in before)
    txid, vout = fund(opener.funding_spk(proposal.channel_id), terms.capacity)
    run(opener, peer, opener.fix_funding(proposal.channel_id, txid, vout, state_data, app_id), carry)
    return opener.channel(proposal.params.proposal_id).channel_id


def update(
    first: ChannelParty,
    second: ChannelParty,
    channel_id: bytes,
    balances: tuple[int, int],
    conditions: Sequence[Condition] = (),
    state_data: bytes = b"",
    carry: Carry = deliver,
    by: Side | None = None,
) -> int:
    """One whole update to which both owners agree; returns the new state number.

    Proposed by the side whose turn it is (U3) or by `by`, to whom the other side then hands over. Whoever calls
    this speaks for both parties: the content is approved at the one that does not propose it.
    """
    channel = first.channel(channel_id)
    proposing = channel.turn(channel.sequence + 1) if by is None else by
    proposer, acceptor = (first, second) if channel.own_side is proposing else (second, first)
    offer = proposer.offer(channel_id, balances, conditions, state_data)
    acceptor.approve(channel_id, balances, conditions, state_data)
    run(proposer, acceptor, offer, carry)
    return first.channel(channel_id).sequence


def change(changer: ChannelParty, peer: ChannelParty, channel_id: bytes, wanted: Change, carry: Carry = deliver) -> int:
    """One update with changes that the peer agrees to by its own rules; returns the new state number."""
    run(changer, peer, changer.change(channel_id, wanted), carry)
    return changer.channel(channel_id).sequence


def reconnect(first: ChannelParty, second: ChannelParty, channel_id: bytes, carry: Carry = deliver) -> None:
    """Both sides say where they stand; an unfinished exchange goes on from there."""
    # The proposal id is known to both sides also while one of them has not heard of the outpoint.
    name = first.channel(channel_id).params.proposal_id
    run(first, second, first.reconnect(name), carry)
    run(second, first, second.reconnect(name), carry)


def close(
    closer: ChannelParty,
    peer: ChannelParty,
    channel_id: bytes,
    final_balances: tuple[int, int],
    fee: int,
    *,
    lock_time: int = 0,
    musig: bool = False,
    carry: Carry = deliver,
) -> bytes:
    """A cooperative close; returns the complete transaction. The closer pays the fee (satoshi)."""
    propose = closer.propose_close_musig if musig else closer.propose_close
    try:
        run(closer, peer, propose(channel_id, final_balances, fee, lock_time), carry)
    except BaseException:
        closer.forget_close(channel_id)
        raise
    raw = closer.close_transaction(channel_id)
    if raw is None:
        raise ChannelNotReady("the peer did not answer the close")
    return raw


def side_of(party: ChannelParty, channel_id: bytes) -> Side:
    """The role of a party in a channel."""
    return party.channel(channel_id).own_side
