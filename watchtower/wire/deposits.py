"""The bytes of an upload that a receipt names, from its API form; the client and the tower build the same ones."""

from __future__ import annotations

from hashlib import sha256

from domain.contract.params import ChannelParams
from domain.contract.receipts import state_upload_sha256
from domain.contract.uploads import KeyedRegistration
from domain.units import Side
from watchtower.wire.api import RegisterRequest, SignatureBody, UpdateRequest


def registration_upload(request: RegisterRequest) -> bytes:
    """The `KRG1` bytes that the owner signed; `MalformedInput` for constants that cannot be read. Holds a secret."""
    return KeyedRegistration(
        params=ChannelParams.decode(bytes(request.params)),
        watched=Side.B if request.own_side == "A" else Side.A,
        rev_secret=bytes(request.revocation_secret),
        sweep_spk=bytes(request.sweep_spk),
        highest_revoked=-1,
        next_points=(bytes(request.counterparty_points[0]), bytes(request.counterparty_points[1])),
        buckets=(),
    ).encode()


def sha256_of_registration(request: RegisterRequest) -> bytes:
    """What the receipt of a registration names as its upload, 32 bytes."""
    return sha256(registration_upload(request)).digest()


def sha256_of_update(request: UpdateRequest) -> bytes:
    """What the receipt of a state names as its upload, 32 bytes; with the revocation if the upload carries one."""
    state = request.state
    return state_upload_sha256(
        bytes(state.header),
        _signatures(state.signatures.a),
        _signatures(state.signatures.b),
        bytes(state.own_point),
        None if request.revoked_secret is None else bytes(request.revoked_secret),
        None if request.next_point is None else bytes(request.next_point),
    )


def _signatures(body: SignatureBody) -> bytes:
    return bytes(body.state) + bytes(body.settle_a) + bytes(body.settle_b) + bytes(body.commit_peer)
