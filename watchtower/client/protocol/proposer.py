"""The proposer's half of the update exchange (protocol 5.2).

    offer            ── update_offer ────────────▶
    on_yield         ◀─ update_yield ─────────────   only if it was the other side's turn (rule U3)
    on_offer_ok      ◀─ update_offer_ok / reject ─
                     ── update_propose ──────────▶   rule U5 binds from here
    on_accept        ◀─ update_accept ────────────
    finish           ── update_commit ───────────▶   rule U2: state n+1 is complete here, state n revoked
    on_revoke        ◀─ update_revoke ────────────

Every function is a decision: nothing is stored or sent here.
"""

from __future__ import annotations

from collections.abc import Sequence

from domain.contract.conditions import Condition
from domain.contract.state import sign_commit_peer, verify_commit_signature
from domain.errors import ChannelNotReady, Equivocation, SequenceGap
from domain.events import StateAccepted, StateCommitted, TurnYielded
from domain.foreign_text import one_line
from watchtower.client.protocol.channel import PartyChannel, Pending, Proposal
from watchtower.client.protocol.contents import next_content, offered, sign_proposal
from watchtower.client.protocol.messages import UpdateAccept, UpdateOfferOk, UpdateReject, UpdateRevoke, UpdateYield
from watchtower.client.protocol.resend import commit_message, offer_messages, propose_message
from watchtower.client.protocol.revoking import release, revoked_by_peer
from watchtower.client.protocol.seat import NOTHING, Seat, Step, require_open, verify_first_three


def offer(seat: Seat, balances: tuple[int, int], conditions: Sequence[Condition], state_data: bytes) -> Step:
    """Message 0a for the next state; balances of A and B in satoshi. Out of turn it asks the peer to hand over (U3).

    Raises `ChannelNotReady` while an update is in flight, `Equivocation` if another content was signed for this
    number (U5), `InvalidState` for content against protocol 5.1, `ApplicationRefused` for one against its rules.
    """
    require_ready(seat)
    content = next_content(seat, balances, conditions, state_data)
    pending = seat.channel.pending
    if pending is not None and pending.by is seat.own and pending.content == content:
        return Step(messages=offer_messages(seat, content))
    if pending is not None and pending.is_bound:
        raise Equivocation(f"another content was signed for state {content.seq}; finish it or close (rule U5)")
    if pending is not None and pending.by is seat.peer:
        raise ChannelNotReady(f"the peer's offer for state {content.seq} was agreed to; let it finish first")
    seat.check_content(content)
    return Step((offered(seat, content, seat.own),), offer_messages(seat, content))


def require_ready(seat: Seat) -> None:
    """Raise unless the channel can take its next state: open, with a finished newest one."""
    require_open(seat.channel)
    state = seat.channel.state
    if state is None:
        raise ChannelNotReady("state 0 is not complete; finish the opening first")
    if seat.channel.firm is None:
        raise ChannelNotReady(f"the peer did not revoke state {state.seq - 1} yet; finish that update first")


def on_yield(seat: Seat, message: UpdateYield) -> Step:
    """The peer hands over the turn; a repetition, also of an older one, changes nothing."""
    following = seat.channel.sequence + 1
    if message.seq > following:
        raise SequenceGap(f"state {following} comes next, the peer hands over {message.seq}")
    if message.seq < following or seat.channel.turn(following) is seat.own:
        return NOTHING
    require_open(seat.channel)
    pending = seat.channel.pending
    if pending is not None and pending.by is seat.peer and pending.is_bound:
        raise ChannelNotReady(f"the peer has signed a proposal for state {following}; it cannot hand over (rule U3)")
    return Step((TurnYielded(recorded_at=seat.now, sequence=following, by=seat.peer),))


def on_offer_ok(seat: Seat, message: UpdateOfferOk) -> Step:
    """Message 0b, then message 1; an answer to an offer that was replaced or finished is ignored."""
    pending = seat.channel.pending
    if pending is None or pending.by is not seat.own or pending.content.state_hash != message.state_hash:
        return NOTHING
    require_open(seat.channel)
    if seat.channel.turn(pending.content.seq) is not seat.own:
        raise ChannelNotReady(f"the peer agrees to state {pending.content.seq} but keeps its turn (rule U3)")
    return propose(seat, pending)


def on_reject(seat: Seat, message: UpdateReject) -> Step:
    """Message 0b, negative: raises the peer's reason. The offer has no effect; the party withdraws it.

    A refusal of an offer that is no longer this side's newest one is ignored: after crossing offers the one of the
    peer may have taken its place already.
    """
    if not is_refused(seat.channel, message):
        return NOTHING
    raise ChannelNotReady(f"the peer refuses state {message.seq}: {one_line(message.reason, len(message.reason))}")


def is_refused(channel: PartyChannel, message: UpdateReject) -> bool:
    """Whether this refuses the newest own offer, which no signature binds yet."""
    pending = channel.pending
    if pending is None or pending.by is not channel.own_side or pending.is_bound:
        return False
    same = message.state_hash is None or message.state_hash == pending.content.state_hash
    return same and pending.content.seq == message.seq


def propose(seat: Seat, pending: Pending) -> Step:
    """Message 1 for a state that this side offered; stored signatures are sent again as they are."""
    if pending.proposal is not None:
        return Step(messages=(propose_message(seat, pending.content, pending.proposal),))
    event = sign_proposal(seat, pending.content, seat.transactions(pending.content))
    signed = Proposal(event.state_sig, event.settle_a, event.settle_b)
    return Step((event,), (propose_message(seat, pending.content, signed),))


def on_accept(seat: Seat, message: UpdateAccept) -> Step:
    """Message 2: check and keep all four signatures of the acceptor; `finish` sends the answer."""
    state, pending = seat.channel.state, seat.channel.pending
    if state is not None and state.by is seat.own and state.content.state_hash == message.state_hash:
        return NOTHING  # a repetition; if the peer lacks message 3, `reestablish` sends it again
    require_open(seat.channel)
    if pending is None or pending.by is not seat.own or not pending.is_bound:
        raise SequenceGap(f"an acceptance of state {message.seq} is not expected now")
    if pending.content.state_hash != message.state_hash:
        raise Equivocation(f"the acceptance names another content for state {message.seq} than was proposed")
    if pending.acceptance is not None:
        return NOTHING
    built = seat.transactions(pending.content)
    verify_first_three(seat, pending.content, built, message.state_sig, message.settle_a, message.settle_b)
    verify_commit_signature(seat.channel.params, built, seat.peer, message.commit_peer)
    accepted = StateAccepted(
        recorded_at=seat.now,
        sequence=pending.content.seq,
        by=seat.peer,
        state_sig=bytes(message.state_sig),
        settle_a=bytes(message.settle_a),
        settle_b=bytes(message.settle_b),
        commit_peer=bytes(message.commit_peer),
    )
    return Step((accepted,))


def finish(seat: Seat) -> Step:
    """Message 3, once message 2 is stored: the commitment signature and the secret of the state before.

    U1 and U2 hold because the peer's settlement signatures and its signature on the own commitment are in the
    log already, and the release is stored in the same step as the signature.
    """
    pending = seat.channel.pending
    if pending is None or pending.acceptance is None or pending.by is not seat.own:
        return NOTHING
    if seat.channel.frozen is not None or seat.channel.is_closing:
        return NOTHING  # U6: the accepted state stays publishable, but its predecessor is not revoked any more
    seq, built = pending.content.seq, seat.transactions(pending.content)
    signature = sign_commit_peer(seat.channel.params, built, seat.own, seat.secrets.fund, seat.entropy())
    committed = StateCommitted(recorded_at=seat.now, sequence=seq, by=seat.own, commit_peer=signature)
    return Step((committed, *release(seat, seq)), (commit_message(seat, seq, signature),))


def on_revoke(seat: Seat, message: UpdateRevoke) -> Step:
    """Message 4: the peer's secret of the state before. Taken at any time, also while closing."""
    state, revoked = seat.channel.state, message.seq - 1
    if revoked <= seat.channel.peer_revoked:
        return NOTHING  # state 0 revokes nothing, or a repetition
    if state is None or state.seq != message.seq or state.by is not seat.own:
        raise SequenceGap(f"a revocation of state {revoked} is not expected now")
    return revoked_by_peer(seat, revoked, message.secret, message.next_point)
