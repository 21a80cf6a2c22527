"""The acceptor's half of the update exchange (protocol 5.2).

    ── update_offer ────────────▶ on_offer      a refused offer has no effect
    ◀─ update_offer_ok / reject ─
    ── update_propose ──────────▶ on_propose    rule U5 binds; U1: both settlement signatures are checked
    ◀─ update_accept ────────────
    ── update_commit ───────────▶ on_commit     rule U2: state n+1 is complete here, state n revoked
    ◀─ update_revoke ────────────

Every function is a decision: nothing is stored or sent here.
"""

from __future__ import annotations

from domain.contract.state import StateSignatures, sign_commit_peer, verify_commit_signature
from domain.errors import DomainError, Equivocation, SequenceGap
from domain.events import (
    ChannelFrozen,
    EquivocationFound,
    FreezeReason,
    StateAccepted,
    StateCommitted,
    StateProposed,
)
from domain.units import Side
from watchtower.client.contents import content_of, offered, sign_proposal
from watchtower.client.messages import UpdateCommit, UpdateOffer, UpdatePropose, UpdateReject
from watchtower.client.party_channel import Content
from watchtower.client.resend import accept_message, name_of, offer_ok_message, revoke_message
from watchtower.client.revoking import release, revoked_by_peer
from watchtower.client.seat import Seat, Step, proposer_of, require_open, verify_first_three


def on_offer(seat: Seat, message: UpdateOffer) -> Step:
    """Message 0a, then 0b. A refused offer is answered with the reason.

    A second content for a number that is bound or complete is equivocation: evidence is stored, the channel
    freezes, `Equivocation` is raised.
    """
    content = content_of(message)
    signed = _signed_content(seat, content.seq)
    if signed is not None and signed != content:
        return _equivocation(seat, signed, content)
    try:
        require_open(seat.channel)
        if signed is None:
            _require_turn(seat, content.seq, seat.peer)
            seat.check_content(content)
    except DomainError as refusal:
        answer = UpdateReject(channel_id=name_of(seat), seq=content.seq, reason=str(refusal)[:400])
        return Step(messages=(answer,))
    known = signed is not None or (seat.channel.pending is not None and seat.channel.pending.content == content)
    events = () if known else (offered(seat, content, seat.peer),)
    return Step(events, (offer_ok_message(seat, content),))


def on_propose(seat: Seat, message: UpdatePropose) -> Step:
    """Message 1, then message 2: the settlement signatures are checked before anything is signed (U1)."""
    state, pending = seat.channel.state, seat.channel.pending
    if state is not None and state.by is seat.peer and state.content.state_hash == message.state_hash:
        return Step(messages=(accept_message(seat, state.content, state.signatures(seat.own)),))
    require_open(seat.channel)
    _require_turn(seat, message.seq, seat.peer)
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


def _signed_content(seat: Seat, sequence: int) -> Content | None:
    """The content that rule U5 fixes for a number: of the newest state, or of a proposal in flight."""
    state, pending = seat.channel.state, seat.channel.pending
    if pending is not None and pending.is_bound and pending.content.seq == sequence:
        return pending.content
    return state.content if state is not None and state.seq == sequence else None


def _equivocation(seat: Seat, signed: Content, second: Content) -> Step:
    evidence = EquivocationFound(
        recorded_at=seat.now,
        sequence=signed.seq,
        stored_state_hash=signed.state_hash,
        offered_header=second.header,
        offered_sig=None,
    )
    frozen = ChannelFrozen(recorded_at=seat.now, reason=FreezeReason.EQUIVOCATION, evidence=second.state_hash)
    refusal = Equivocation(
        f"the peer offers a second content for state {signed.seq}; nothing is signed and the channel is frozen"
    )
    return Step((evidence, frozen), refusal=refusal)


def _require_turn(seat: Seat, sequence: int, side: Side) -> None:
    expected = seat.channel.sequence + 1
    if sequence != expected:
        raise SequenceGap(f"state {expected} comes next, got {sequence}")
    if proposer_of(sequence) is not side:
        raise SequenceGap(f"state {sequence} is proposed by {side.other.name} (rule U3)")
