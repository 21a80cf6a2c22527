"""Messages made from stored facts, so that a repetition has identical bytes.

Signatures come from the log; per-commitment secrets and points are derived from the seed again.
"""

from __future__ import annotations

from domain.contract.conditions import Condition
from domain.contract.revocation import derive_secret, index_of
from domain.contract.state import StateHeader, StateSignatures
from watchtower.client.protocol.channel import Content, Proposal
from watchtower.client.protocol.messages import (
    HtlcFulfil,
    Message,
    Reestablish,
    UpdateAccept,
    UpdateCommit,
    UpdateOffer,
    UpdateOfferOk,
    UpdatePropose,
    UpdateReject,
    UpdateRevoke,
    UpdateYield,
)
from watchtower.client.protocol.seat import Seat
from watchtower.wire.api import ConditionBody
from watchtower.wire.hexes import HeaderHex, Hex, Hex32, Hex33, Hex64, SecretHex


def name_of(seat: Seat) -> Hex32:
    """The channel's name in messages."""
    return Hex32(seat.channel.channel_id)


def offer_message(seat: Seat, content: Content) -> UpdateOffer:
    """Message 0a."""
    return UpdateOffer(
        channel_id=name_of(seat),
        header=HeaderHex(content.header),
        conditions=tuple(ConditionBody.of(condition) for condition in content.read_conditions()),
        state_data=Hex(content.state_data),
    )


def offer_messages(seat: Seat, content: Content) -> tuple[Message, ...]:
    """Message 0a behind the preimages of the HTLCs that it pays to this side: without them the peer cannot agree."""
    return (*(fulfil_message(seat, condition) for condition in _paid(seat, content)), offer_message(seat, content))


def fulfil_message(seat: Seat, condition: Condition) -> HtlcFulfil:
    """The preimage of an incoming HTLC; it must be in the log before this is sent."""
    return HtlcFulfil(
        channel_id=name_of(seat),
        condition_type=condition.type,
        id=condition.id,
        preimage=SecretHex(seat.known[condition.hash]),
    )


def reject_message(seat: Seat, header: StateHeader, reason: str) -> UpdateReject:
    """Message 0b, negative."""
    return UpdateReject(
        channel_id=name_of(seat), seq=header.seq, reason=reason[:400], state_hash=Hex32(header.state_hash)
    )


def yield_message(seat: Seat, seq: int) -> UpdateYield:
    """The turn of a state; the event must be in the log before this is sent."""
    return UpdateYield(channel_id=name_of(seat), seq=seq)


def offer_ok_message(seat: Seat, content: Content) -> UpdateOfferOk:
    """Message 0b."""
    return UpdateOfferOk(channel_id=name_of(seat), state_hash=Hex32(content.state_hash))


def propose_message(seat: Seat, content: Content, signed: Proposal) -> UpdatePropose:
    """Message 1."""
    return UpdatePropose(
        channel_id=name_of(seat),
        seq=content.seq,
        state_hash=Hex32(content.state_hash),
        settle_a=Hex64(signed.settle_a),
        settle_b=Hex64(signed.settle_b),
        state_sig=Hex64(signed.state),
    )


def accept_message(seat: Seat, content: Content, signed: StateSignatures) -> UpdateAccept:
    """Message 2."""
    return UpdateAccept(
        channel_id=name_of(seat),
        seq=content.seq,
        state_hash=Hex32(content.state_hash),
        settle_a=Hex64(signed.settle_a),
        settle_b=Hex64(signed.settle_b),
        commit_peer=Hex64(signed.commit_peer),
        state_sig=Hex64(signed.state),
    )


def commit_message(seat: Seat, seq: int, signature: bytes) -> UpdateCommit:
    """Message 3. The release of the secret must be in the log before this is sent (U2)."""
    secret, next_point = _revocation(seat, seq)
    return UpdateCommit(
        channel_id=name_of(seat), seq=seq, commit_peer=Hex64(signature), secret=secret, next_point=next_point
    )


def revoke_message(seat: Seat, seq: int) -> UpdateRevoke:
    """Message 4. The release of the secret must be in the log before this is sent (U2)."""
    secret, next_point = _revocation(seat, seq)
    return UpdateRevoke(channel_id=name_of(seat), seq=seq, secret=secret, next_point=next_point)


def reestablish_message(seat: Seat) -> Reestablish:
    """Where this side stands. Until state 0 is complete the proposal id names the channel on both sides.

    An old copy of a log does not say where it stands: a hostile peer would say the same and so thaw the channel.
    """
    channel, pending = seat.channel, seat.channel.pending
    if channel.old_copy:
        name = channel.channel_id if channel.state else channel.params.proposal_id
        return Reestablish(
            channel_id=Hex32(name),
            current_seq=None,
            pending_seq=None,
            pending_state_hash=None,
            last_peer_secret_seq=None,
            last_peer_secret=None,
        )
    revoked = channel.peer_revoked
    secret = derive_secret(channel.buckets, index_of(revoked)) if revoked >= 0 else None
    name = channel.channel_id if channel.state else channel.params.proposal_id
    return Reestablish(
        channel_id=Hex32(name),
        current_seq=channel.state.seq if channel.state else None,
        pending_seq=pending.content.seq if pending else None,
        pending_state_hash=Hex32(pending.content.state_hash) if pending else None,
        last_peer_secret_seq=revoked if secret is not None else None,
        last_peer_secret=SecretHex(secret) if secret is not None else None,
    )


def _paid(seat: Seat, content: Content) -> tuple[Condition, ...]:
    """Incoming HTLCs whose preimage is known here and which the content drops."""
    kept = set(content.read_conditions())
    return tuple(
        condition
        for condition in seat.channel.conditions
        if condition.is_htlc
        and condition.offerer is seat.peer
        and condition.hash in seat.known
        and condition not in kept
    )


def _revocation(seat: Seat, seq: int) -> tuple[SecretHex | None, Hex33 | None]:
    """Secret of the state before `seq` and the point after it; state 0 revokes nothing."""
    if seq == 0:
        return None, None
    return SecretHex(seat.own_secret(seq - 1)), Hex33(seat.own_point(seq + 1))
