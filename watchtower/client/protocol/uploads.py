"""What a party gives its own tower: the registration with the key that punishes, states, revocations.

The bodies are those of the HTTP API. An update is final only after the tower answered (rule U4).
"""

from __future__ import annotations

import msgspec

from domain.contract import keys
from domain.contract.revocation import derive_secret, index_of
from domain.contract.state import StateSignatures, sign_commit_peer
from domain.contract.uploads import KeyedRegistration, upload_hash
from domain.errors import ChannelNotReady
from domain.units import Side
from watchtower.client.protocol.channel import CompleteState
from watchtower.client.protocol.seat import Seat
from watchtower.wire.api import (
    ConditionBody,
    RegisterRequest,
    RevocationRequest,
    SideName,
    SignatureBody,
    SignaturesBody,
    StateBody,
    UpdateRequest,
)
from watchtower.wire.hexes import HeaderHex, Hex, Hex33, Hex64, ParamsHex, SecretHex, TransactionHex

NO_ENTROPY = bytes(32)
"""The same bytes at every call: to the tower another signature would be another state."""


def side_name(side: Side) -> SideName:
    """A or B."""
    return "A" if side is Side.A else "B"


def registration(
    seat: Seat, first: CompleteState, sweep_spk: bytes, funding_tx: bytes | None = None
) -> RegisterRequest:
    """Registration in mode K from state 0; `funding_tx` (unsigned or signed) while nobody has seen it yet.

    The body holds the revocation basepoint secret and the HTLC secret: it may only go to a tower of the party itself.
    """
    channel = seat.channel
    peer_points = (seat.points(0)[seat.peer], seat.points(1)[seat.peer])
    upload = KeyedRegistration(
        params=channel.params,
        watched=seat.peer,
        rev_secret=seat.secrets.rev,
        sweep_spk=sweep_spk,
        highest_revoked=-1,
        next_points=peer_points,
        buckets=(),
    ).encode()
    return RegisterRequest(
        params=ParamsHex(channel.params.encode()),
        own_side=side_name(seat.own),
        channel_index=channel.channel_index,
        own_points=(Hex33(seat.own_point(0)), Hex33(seat.own_point(1))),
        counterparty_points=(Hex33(peer_points[0]), Hex33(peer_points[1])),
        revocation_secret=SecretHex(seat.secrets.rev),
        htlc_secret=SecretHex(seat.secrets.htlc),
        sweep_spk=Hex(sweep_spk),
        upload_sig=Hex64(keys.sign_schnorr(seat.secrets.auth, upload_hash(upload), seat.entropy())),
        funding_tx=None if funding_tx is None else TransactionHex(funding_tx),
        state=state_body(seat, first),
    )


def update(seat: Seat, state: CompleteState) -> UpdateRequest:
    """A complete state and the peer's revocation of its predecessor, as far as it is known."""
    revoked = state.seq - 1
    secret = derive_secret(seat.channel.buckets, index_of(revoked)) if revoked >= 0 else None
    if secret is None:
        return UpdateRequest(state=state_body(seat, state))
    next_point = seat.points(state.seq + 1)[seat.peer]
    return UpdateRequest(state=state_body(seat, state), revoked_secret=SecretHex(secret), next_point=Hex33(next_point))


def completed(seat: Seat, state: CompleteState) -> CompleteState:
    """An own state in flight with the signature that the exchange did not come to, for the own tower alone."""
    built = seat.transactions(state.content)
    signature = sign_commit_peer(seat.channel.params, built, seat.own, seat.secrets.fund, NO_ENTROPY)
    name = "sigs_a" if seat.own is Side.A else "sigs_b"
    whole = msgspec.structs.replace(state.signatures(seat.own), commit_peer=signature)
    return msgspec.structs.replace(state, **{name: whole})


def own_release(seat: Seat, sequence: int) -> RevocationRequest:
    """The record that the own state was revoked: a number, never the secret."""
    if sequence > seat.channel.own_released:
        raise ChannelNotReady(f"own state {sequence} was not revoked")
    return RevocationRequest(
        party=side_name(seat.own), sequence=sequence, next_point=Hex33(seat.own_point(sequence + 2))
    )


def peer_release(seat: Seat, sequence: int) -> RevocationRequest:
    """The peer's revocation of a state without the state after it: all that a tower takes once the channel closes."""
    secret = derive_secret(seat.channel.buckets, index_of(sequence))
    if secret is None:
        raise ChannelNotReady(f"the peer has not revoked its state {sequence}")
    return RevocationRequest(
        party=side_name(seat.peer),
        sequence=sequence,
        secret=SecretHex(secret),
        next_point=Hex33(seat.points(sequence + 2)[seat.peer]),
    )


def state_body(seat: Seat, state: CompleteState) -> StateBody:
    """The API form of a complete state."""
    records = state.content.read_conditions()
    return StateBody(
        header=HeaderHex(state.content.header),
        conditions=tuple(ConditionBody.of(condition) for condition in records),
        state_data=Hex(state.content.state_data),
        signatures=SignaturesBody(a=_signature_body(state.sigs_a), b=_signature_body(state.sigs_b)),
        own_point=Hex33(seat.own_point(state.seq)),
    )


def _signature_body(signatures: StateSignatures) -> SignatureBody:
    return SignatureBody(
        state=Hex64(signatures.state),
        settle_a=Hex64(signatures.settle_a),
        settle_b=Hex64(signatures.settle_b),
        commit_peer=Hex64(signatures.commit_peer),
    )
