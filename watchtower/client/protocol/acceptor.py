"""The acceptor's half of the update exchange (protocol 5.2).

    ── update_offer ────────────▶ on_offer      a refused offer has no effect
    ◀─ update_yield ─────────────               only if it was this side's turn (rule U3)
    ◀─ update_offer_ok / reject ─
    ── update_propose ──────────▶ on_propose    rule U5 binds; U1: both settlement signatures are checked
    ◀─ update_accept ────────────
    ── update_commit ───────────▶ on_commit     rule U2: state n+1 is complete here, state n revoked
    ◀─ update_revoke ────────────

Every function is a decision: nothing is stored or sent here.
"""

from __future__ import annotations

from domain.contract.state import StateHeader, StateSignatures, sign_commit_peer, verify_commit_signature
from domain.errors import ChannelNotReady, DomainError, Equivocation, InvalidState, SequenceGap
from domain.events import (
    ChannelFrozen,
    EquivocationFound,
    FreezeReason,
    Payload,
    StateAccepted,
    StateCommitted,
    StateProposed,
    TurnYielded,
)
from watchtower.client.protocol.channel import Content
from watchtower.client.protocol.contents import content_of, offered, sign_proposal
from watchtower.client.protocol.messages import Message, UpdateCommit, UpdateOffer, UpdatePropose
from watchtower.client.protocol.resend import (
    accept_message,
    offer_messages,
    offer_ok_message,
    propose_message,
    reject_message,
    revoke_message,
    yield_message,
)
from watchtower.client.protocol.revoking import release, revoked_by_peer
from watchtower.client.protocol.seat import Seat, Step, require_open, verify_first_three


def on_offer(seat: Seat, message: UpdateOffer) -> Step:
    """Message 0a, then 0b. A refused offer is answered with the reason; one out of turn with the turn, too (U3).

    A second content for a number for which the peer has signed or proposed one is equivocation: evidence is
    stored, the channel freezes, `Equivocation` is raised.
    """
    try:
        content = content_of(message, seat.rules.resolve)
    except InvalidState as refusal:  # a descriptor that must not be used; what cannot be read at all is no offer
        return Step(messages=(reject_message(seat, StateHeader.decode(message.header), str(refusal)),))
    signed = _content_of_peer(seat, content.seq)
    if signed is not None and signed != content:
        return _equivocation(seat, signed, content)
    try:
        require_open(seat.channel)
        if signed is None:
            _require_next(seat, content.seq)
            _require_free(seat, content.seq)
            seat.check_content(content)
            seat.require_consent(content)
    except DomainError as refusal:
        return Step(
            messages=(reject_message(seat, content.read_header(), str(refusal)), *_own_proposal(seat, content.seq))
        )
    if signed is not None:
        return Step(messages=(offer_ok_message(seat, content),))
    return _agree(seat, content)


def on_propose(seat: Seat, message: UpdatePropose) -> Step:
    """Message 1, then message 2: the settlement signatures are checked before anything is signed (U1)."""
    state, pending = seat.channel.state, seat.channel.pending
    if state is not None and state.by is seat.peer and state.content.state_hash == message.state_hash:
        return Step(messages=(accept_message(seat, state.content, state.signatures(seat.own)),))
    require_open(seat.channel)
    _require_next(seat, message.seq)
    if seat.channel.turn(message.seq) is not seat.peer:
        raise SequenceGap(f"state {message.seq} is proposed by {seat.own.name}, which did not hand over (rule U3)")
    if pending is None or pending.content.seq != message.seq or pending.by is not seat.peer:
        raise SequenceGap(f"state {message.seq} was not offered; send its content first")
    if pending.content.state_hash != message.state_hash:
        raise Equivocation(f"the proposal names another content for state {message.seq} than was offered")
    if pending.acceptance is not None:
        return Step(messages=(accept_message(seat, pending.content, pending.acceptance),))
    return _accept(seat, pending.content, message)


def on_commit(seat: Seat, message: UpdateCommit) -> Step:
    """Message 3, then message 4: all eight signatures are complete; the peer's secret is kept, ours released."""
    state, pending = seat.channel.state, seat.channel.pending
    if state is not None and state.by is seat.peer and state.seq == message.seq:
        return Step(messages=(revoke_message(seat, message.seq),))
    require_open(seat.channel)
    expected = pending is not None and pending.by is seat.peer and pending.acceptance is not None
    if pending is None or not expected or pending.content.seq != message.seq:
        raise SequenceGap(f"a commitment signature for state {message.seq} is not expected now")
    built = seat.transactions(pending.content)
    verify_commit_signature(seat.channel.params, built, seat.peer, message.commit_peer)
    committed = StateCommitted(
        recorded_at=seat.now, sequence=message.seq, by=seat.peer, commit_peer=bytes(message.commit_peer)
    )
    reply = (revoke_message(seat, message.seq),)
    if message.seq == 0:
        return Step((committed,), reply)
    revoked = revoked_by_peer(seat, message.seq - 1, message.secret, message.next_point)
    if revoked.refusal is not None:
        return revoked
    return Step((committed, *revoked.events, *release(seat, message.seq)), reply)


def _accept(seat: Seat, content: Content, message: UpdatePropose) -> Step:
    built = seat.transactions(content)
    verify_first_three(seat, content, built, message.state_sig, message.settle_a, message.settle_b)
    proposed = StateProposed(
        recorded_at=seat.now,
        sequence=content.seq,
        by=seat.peer,
        state_hash=content.state_hash,
        state_sig=bytes(message.state_sig),
        settle_a=bytes(message.settle_a),
        settle_b=bytes(message.settle_b),
    )
    own = sign_proposal(seat, content, built)
    commit_peer = sign_commit_peer(seat.channel.params, built, seat.own, seat.secrets.fund, seat.entropy())
    accepted = StateAccepted(
        recorded_at=seat.now,
        sequence=content.seq,
        by=seat.own,
        state_sig=own.state_sig,
        settle_a=own.settle_a,
        settle_b=own.settle_b,
        commit_peer=commit_peer,
    )
    signed = StateSignatures(own.state_sig, own.settle_a, own.settle_b, commit_peer)
    return Step((proposed, accepted), (accept_message(seat, content, signed),))


def _agree(seat: Seat, content: Content) -> Step:
    """Message 0b. Before it the turn, if this side has it; a yield that may be lost is repeated with every answer."""
    channel, seq = seat.channel, content.seq
    events: tuple[Payload, ...] = ()
    if channel.turn(seq) is seat.own:
        events = (TurnYielded(recorded_at=seat.now, sequence=seq, by=seat.own),)
    yielded = (yield_message(seat, seq),) if events or channel.was_handed_over(seq) else ()
    pending = channel.pending
    if pending is None or pending.by is not seat.peer or pending.content != content:
        events = (*events, offered(seat, content, seat.peer))
    return Step(events, (*yielded, offer_ok_message(seat, content)))


def _require_free(seat: Seat, sequence: int) -> None:
    """An own signature for this number, or an own offer in turn, goes before any offer of the peer."""
    pending = seat.channel.pending
    if pending is None or pending.by is seat.peer:
        return
    if pending.is_bound:
        raise ChannelNotReady(f"{seat.own.name} has signed a proposal for state {sequence}; finish that one (rule U5)")
    if seat.channel.turn(sequence) is seat.own:
        raise ChannelNotReady(
            f"both sides have offered state {sequence}; {seat.own.name}, whose turn it is, goes first (rule U3)"
        )


def _own_proposal(seat: Seat, sequence: int) -> tuple[Message, ...]:
    """An own proposal that the peer seems to have forgotten: nothing else can become of this number (U5)."""
    pending = seat.channel.pending
    if pending is None or pending.by is seat.peer or pending.proposal is None or pending.acceptance is not None:
        return ()
    if pending.content.seq != sequence:
        return ()
    return (*offer_messages(seat, pending.content), propose_message(seat, pending.content, pending.proposal))


def _content_of_peer(seat: Seat, sequence: int) -> Content | None:
    """The content to which rule U5 binds the peer: it proposed it in flight, or as the newest state.

    A peer that asked to hand over and lost is not bound: its late offer is refused like any other old one.
    """
    state, pending = seat.channel.state, seat.channel.pending
    if pending is not None and pending.content.seq == sequence:
        return pending.content if pending.is_bound and pending.by is seat.peer else None
    return state.content if state is not None and state.seq == sequence and state.by is seat.peer else None


def _equivocation(seat: Seat, signed: Content, second: Content) -> Step:
    refusal = Equivocation(
        f"the peer offers a second content for state {signed.seq}; nothing is signed and the channel is frozen"
    )
    if seat.channel.frozen is FreezeReason.EQUIVOCATION:
        return Step(refusal=refusal)  # one piece of evidence is enough
    evidence = EquivocationFound(
        recorded_at=seat.now,
        sequence=signed.seq,
        stored_state_hash=signed.state_hash,
        offered_header=second.header,
        offered_sig=None,
    )
    frozen = ChannelFrozen(recorded_at=seat.now, reason=FreezeReason.EQUIVOCATION, evidence=second.state_hash)
    return Step((evidence, frozen), refusal=refusal)


def _require_next(seat: Seat, sequence: int) -> None:
    expected = seat.channel.sequence + 1
    if sequence != expected:
        raise SequenceGap(f"state {expected} comes next, got {sequence}")
