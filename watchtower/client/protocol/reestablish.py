"""After a reconnection or restart: who lacks what (protocol 5.3, timeouts and reconnection).

The proposer drives: it repeats its last message, the acceptor answers repetitions with its stored answer. So
an exchange that was cut anywhere, on either side, ends in the same state with the same bytes.
"""

from __future__ import annotations

import secrets

import msgspec

from domain.errors import ChannelNotReady, InvalidSecret
from domain.events import ChannelUnfrozen
from domain.units import Side
from watchtower.client.protocol import freezing
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.protocol.messages import Message, Reestablish
from watchtower.client.protocol.opening import fixed_message
from watchtower.client.protocol.resend import (
    commit_message,
    offer_messages,
    propose_message,
    reestablish_message,
    revoke_message,
    yield_message,
)
from watchtower.client.protocol.seat import Seat, Step


def on_reestablish(seat: Seat, message: Reestablish) -> Step:
    """What to send again. Freezes the channel if the peer proves that this side has lost data."""
    lost = _lost_data(seat, message)
    if lost is not None:
        return lost
    if seat.channel.old_copy:
        return _thawed(seat, message)
    if _is_unsure(seat, message):
        return Step(messages=(*_first_again(seat), reestablish_message(seat)))
    again = _complete_again(seat, message)
    if seat.channel.frozen is None:
        return Step(messages=(*again, *_yield_again(seat), *_pending_again(seat, message)))
    return Step(messages=again)  # what is complete was signed and released before; nothing newer leaves


def _thawed(seat: Seat, message: Reestablish) -> Step:
    """Silence of an old copy, or all that it kept back once the peer stands exactly where its log does."""
    step = freezing.thaw_by_peer(seat, message)
    if not any(isinstance(event, ChannelUnfrozen) for event in step.events):
        return step
    thawed = msgspec.structs.replace(seat.channel, frozen=None, old_copy=False)
    sure = msgspec.structs.replace(seat, channel=thawed)
    again = (*_complete_again(sure, message), *_yield_again(sure), *_pending_again(sure, message))
    return Step(step.events, (reestablish_message(sure), *again))


def _is_unsure(seat: Seat, message: Reestablish) -> bool:
    """Whether the peer does not say where it stands, though state 0 is complete here: its log is an old copy."""
    return seat.channel.state is not None and message.current_seq is None


def _first_again(seat: Seat) -> tuple[Message, ...]:
    """Message 3 of state 0, which revokes nothing: an acceptor that never got it does not know any state either."""
    state = seat.channel.state
    if state is None or state.seq > 0 or state.by is not seat.own:
        return ()
    return (commit_message(seat, 0, state.signatures(seat.own).commit_peer),)


def _lost_data(seat: Seat, message: Reestablish) -> Step | None:
    """A genuine own secret that is missing in the own log means that this log is not the newest one."""
    sequence, secret = message.last_peer_secret_seq, message.last_peer_secret
    if sequence is None or secret is None:
        return None
    if not secrets.compare_digest(seat.own_secret(sequence), secret):
        raise InvalidSecret(f"the peer shows a secret of state {sequence} that is not ours; nothing is concluded")
    if sequence <= seat.channel.own_released:
        return None
    refusal = ChannelNotReady(
        f"the peer knows the revocation of own state {sequence}, this store does not: it is an old copy; "
        "no own commitment may be published, ask the peer to close"
    )
    return Step(freezing.proven_loss(seat, sequence), refusal=refusal)


def _complete_again(seat: Seat, message: Reestablish) -> tuple[Message, ...]:
    """Messages 3 or 4 of the newest complete state, if the peer lacks them."""
    state = seat.channel.state
    if state is None:
        return ()
    if state.by is seat.own:
        behind = message.current_seq is None or message.current_seq < state.seq
        return (commit_message(seat, state.seq, state.signatures(seat.own).commit_peer),) if behind else ()
    known = -1 if message.last_peer_secret_seq is None else message.last_peer_secret_seq
    return (revoke_message(seat, state.seq),) if known < seat.channel.own_released else ()


def _yield_again(seat: Seat) -> tuple[Message, ...]:
    """The turn, if this side gave it away: both must know whose it is, or each waits for the other."""
    following = seat.channel.sequence + 1
    given = seat.channel.was_handed_over(following) and seat.channel.turn(following) is seat.peer
    return (yield_message(seat, following),) if given else ()


def is_forgotten(channel: PartyChannel, message: Reestablish) -> bool:
    """Whether the peer no longer makes the offer that this side has agreed to."""
    pending = channel.pending
    if pending is None or pending.is_bound or pending.by is channel.own_side:
        return False
    return message.pending_state_hash != pending.content.state_hash


def _pending_again(seat: Seat, message: Reestablish) -> tuple[Message, ...]:
    """The last message of an unfinished update that this side proposed."""
    pending = seat.channel.pending
    if pending is None or pending.by is not seat.own or pending.acceptance is not None:
        return ()
    if seat.channel.is_closing:
        return ()  # U6: neither signatures nor preimages for a state that must not come any more
    opening = (fixed_message(seat),) if pending.content.seq == 0 and seat.own is Side.A else ()
    if pending.proposal is not None and message.pending_state_hash == pending.content.state_hash:
        return (propose_message(seat, pending.content, pending.proposal),)
    return (*opening, *offer_messages(seat, pending.content))
