"""Messages between the two parties (protocol 5.2): one JSON object each, named by `type`.

`channel_id` is a name that the opener draws until both sides know all keys, then the proposal id until the
funding outpoint is fixed, then the channel id. Amounts are satoshi; signatures and secrets are hexadecimal.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from domain.errors import MalformedInput
from watchtower.wire.api import Amount, ConditionBody, Number
from watchtower.wire.hexes import (
    HeaderHex,
    Hex,
    Hex32,
    Hex33,
    Hex64,
    KeyBlockHex,
    NonceHex,
    SecretHex,
    TxidHex,
    decoder,
    readable,
    to_json,
)

Reason = Annotated[str, Meta(max_length=400)]

HtlcType = Annotated[int, Meta(ge=0, le=1)]
ConditionNumber = Annotated[int, Meta(ge=0, le=0xFFFF)]

MAX_MESSAGE = 400_000
"""Bytes of one message: 65,536 bytes of state data in hexadecimal and 200 conditions with descriptors."""


class NoteHex(Hex):
    """Routing information of an HTLC."""

    LIMIT = 4096


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    """Base of all messages."""

    channel_id: Hex32


class OpenChannel(Message, frozen=True, kw_only=True, tag="open_channel"):
    """The opener's constants, keys, first two points, and the balances of state 0; the rest of it is offered."""

    chain_hash: Hex32
    capacity: Amount
    challenge_period: Annotated[int, Meta(ge=1, le=65_535)]
    static_feerate: Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
    reserve_sat: Amount
    flags: Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
    key_block: KeyBlockHex
    points: tuple[Hex33, Hex33]
    balances: tuple[Amount, Amount]
    profile: Annotated[int, Meta(ge=0, le=255)] = 0


class AcceptChannel(Message, frozen=True, kw_only=True, tag="accept_channel"):
    """The acceptor's keys and first two points."""

    key_block: KeyBlockHex
    points: tuple[Hex33, Hex33]


class FundingFixed(Message, frozen=True, kw_only=True, tag="funding_fixed"):
    """The opener knows the funding outpoint; `channel_id` is still the proposal id."""

    funding_txid: TxidHex
    funding_vout: Annotated[int, Meta(ge=0, le=0xFFFFFFFE)]


class UpdateOffer(Message, frozen=True, kw_only=True, tag="update_offer"):
    """Message 0a: content of the next state. Binds nobody."""

    header: HeaderHex
    conditions: Annotated[tuple[ConditionBody, ...], Meta(max_length=1000)]
    state_data: Hex


class UpdateOfferOk(Message, frozen=True, kw_only=True, tag="update_offer_ok"):
    """Message 0b: the content is acceptable."""

    state_hash: Hex32


class UpdateReject(Message, frozen=True, kw_only=True, tag="update_reject"):
    """Message 0b: the content (by its hash, if the sender could read it) is not acceptable; nothing happened."""

    seq: Number
    reason: Reason
    state_hash: Hex32 | None = None


class UpdateYield(Message, frozen=True, kw_only=True, tag="update_yield"):
    """The sender hands over the proposal of this state; it has sent nothing but offers for it (rule U3)."""

    seq: Number


class HtlcFulfil(Message, frozen=True, kw_only=True, tag="htlc_fulfil"):
    """The receiver of an HTLC shows its preimage; the offer that pays it follows."""

    condition_type: HtlcType
    id: ConditionNumber
    preimage: SecretHex


class HtlcFail(Message, frozen=True, kw_only=True, tag="htlc_fail"):
    """The receiver of an HTLC gives it up and says why; the offer that drops it follows."""

    condition_type: HtlcType
    id: ConditionNumber
    reason: Reason


class HtlcNote(Message, frozen=True, kw_only=True, tag="htlc_note"):
    """What the receiver of the next HTLC with this hash should know, such as the next hop. Opaque here."""

    payment_hash: Hex32
    payload: NoteHex


class UpdatePropose(Message, frozen=True, kw_only=True, tag="update_propose"):
    """Message 1: the proposer's settlement and state signatures. From here rule U5 binds."""

    seq: Number
    state_hash: Hex32
    settle_a: Hex64
    settle_b: Hex64
    state_sig: Hex64


class UpdateAccept(Message, frozen=True, kw_only=True, tag="update_accept"):
    """Message 2: all signatures of the acceptor."""

    seq: Number
    state_hash: Hex32
    settle_a: Hex64
    settle_b: Hex64
    commit_peer: Hex64
    state_sig: Hex64


class UpdateCommit(Message, frozen=True, kw_only=True, tag="update_commit"):
    """Message 3: the proposer's commitment signature and its revocation of the state before.

    Secret and next point are absent for state 0 only.
    """

    seq: Number
    commit_peer: Hex64
    secret: SecretHex | None
    next_point: Hex33 | None


class UpdateRevoke(Message, frozen=True, kw_only=True, tag="update_revoke"):
    """Message 4: the acceptor's revocation of the state before `seq`; without secret for state 0."""

    seq: Number
    secret: SecretHex | None
    next_point: Hex33 | None


class Reestablish(Message, frozen=True, kw_only=True, tag="reestablish"):
    """Where the sender stands, after a reconnection or restart."""

    current_seq: Number | None
    pending_seq: Number | None
    pending_state_hash: Hex32 | None
    last_peer_secret_seq: Number | None
    last_peer_secret: SecretHex | None


class ClosePropose(Message, frozen=True, kw_only=True, tag="close_propose"):
    """A cooperative close with the closer's signature by leaf; the sender pays the fee."""

    final_balances: tuple[Amount, Amount]
    fee: Amount
    lock_time: Annotated[int, Meta(ge=0, le=499_999_999)]
    signature: Hex64


class CloseAccept(Message, frozen=True, kw_only=True, tag="close_accept"):
    """The other leaf signature: the close is complete."""

    signature: Hex64


class CloseProposeMusig(Message, frozen=True, kw_only=True, tag="close_propose_musig"):
    """A cooperative close by key path: the closer's fresh public nonce."""

    final_balances: tuple[Amount, Amount]
    fee: Amount
    lock_time: Annotated[int, Meta(ge=0, le=499_999_999)]
    nonce: NonceHex


class CloseAcceptMusig(Message, frozen=True, kw_only=True, tag="close_accept_musig"):
    """The acceptor's fresh public nonce and its partial signature."""

    nonce: NonceHex
    partial: Hex32


class CloseSignedMusig(Message, frozen=True, kw_only=True, tag="close_signed_musig"):
    """The joined signature: the close is complete on both sides."""

    signature: Hex64


class RescuePropose(Message, frozen=True, kw_only=True, tag="rescue_propose"):
    """A joint settlement of a confirmed commitment with the sender's signature; amounts of A and B in satoshi."""

    commit_txid: TxidHex
    amounts: tuple[Amount, Amount]
    signature: Hex64


class RescueAccept(Message, frozen=True, kw_only=True, tag="rescue_accept"):
    """The other signature: the joint settlement is complete."""

    signature: Hex64


AnyMessage = (
    OpenChannel
    | AcceptChannel
    | FundingFixed
    | UpdateOffer
    | UpdateOfferOk
    | UpdateReject
    | UpdateYield
    | HtlcFulfil
    | HtlcFail
    | HtlcNote
    | UpdatePropose
    | UpdateAccept
    | UpdateCommit
    | UpdateRevoke
    | Reestablish
    | ClosePropose
    | CloseAccept
    | CloseProposeMusig
    | CloseAcceptMusig
    | CloseSignedMusig
    | RescuePropose
    | RescueAccept
)

_decoder = decoder(AnyMessage)


def encode_message(message: Message) -> bytes:
    """The JSON bytes of a message."""
    return to_json(message)


def decode_message(raw: bytes) -> AnyMessage:
    """Read a message; `MalformedInput` if it is too long, unknown or has a wrong field."""
    if len(raw) > MAX_MESSAGE:
        raise MalformedInput(f"a message has at most {MAX_MESSAGE} bytes, got {len(raw)}")
    try:
        message: AnyMessage = _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedInput(readable(error)) from None
    return message
