"""Registering a channel: the constants, state 0 and what the tower needs to punish.

The revocation basepoint secret is not part of any event: the caller puts it into the keystore first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from domain.chain import display
from domain.channel import Channel
from domain.contract.conditions import Condition, encode_conditions
from domain.contract.keys import is_public_key, verify_schnorr
from domain.contract.params import ChannelParams, ParamsPolicy, check_params, check_payout_script
from domain.contract.scripts import funding_output
from domain.contract.state import (
    StateHeader,
    StateSignatures,
    check_state,
    verify_complete_state,
)
from domain.contract.state_rules import DEFAULT_STATE_POLICY, StatePolicy
from domain.errors import ChannelExists, FundingMismatch, InvalidParams, InvalidSignature, MalformedInput
from domain.events import (
    MAX_RAW_TRANSACTION,
    ChannelProposed,
    ChannelRegistered,
    Mode,
    Payload,
    SignatureSet,
    StateUpdated,
)
from domain.transaction import Transaction
from domain.units import Side


class StateContent(msgspec.Struct, frozen=True):
    """A complete state as a party hands it over; `own_point` is the owner's per-commitment point of it."""

    header: StateHeader
    conditions: tuple[Condition, ...]
    state_data: bytes
    sigs_a: StateSignatures
    sigs_b: StateSignatures
    own_point: bytes


class RegisterChannel(msgspec.Struct, frozen=True):
    """Command: watch this channel for `own_side`. `upload_sig` is the owner's auth signature of the upload."""

    now: int
    params: ChannelParams
    own_side: Side
    channel_index: int
    own_points: tuple[bytes, bytes]
    counterparty_points: tuple[bytes, bytes]
    sweep_spk: bytes
    upload_sha256: bytes
    upload_message: bytes
    upload_sig: bytes
    state: StateContent
    funding_tx: bytes | None
    tip_height: int
    params_policy: ParamsPolicy
    state_policy: StatePolicy = DEFAULT_STATE_POLICY


def decide_register(channel: Channel | None, command: RegisterChannel) -> list[Payload]:
    """Events of a registration; nothing if exactly this registration was stored before.

    Raises `InvalidParams`, `InvalidState`, `InvalidSignature`, `FundingMismatch`, `ChannelExists`.
    """
    params = command.params
    if channel is not None:
        return _same_again(channel, command)
    check_params(params, command.params_policy)
    if not params.is_funding_known:
        raise InvalidParams("the funding outpoint must be known before a tower can watch it")
    check_payout_script(command.sweep_spk)
    _check_points(command)
    own_keys = params.keys(command.own_side)
    if not verify_schnorr(own_keys.auth, command.upload_message, command.upload_sig):
        raise InvalidSignature("upload_sig does not verify under the owner's auth key for this registration")
    if command.funding_tx is not None:
        check_funding_transaction(params, command.funding_tx)
    check_state(
        params,
        command.state.header,
        command.state.conditions,
        command.state.state_data,
        None,
        command.state_policy,
    )
    verify_content(params, command.own_side, command.state, command.counterparty_points[0])
    first = state_updated(command.state, None, None, command.now, command.tip_height)
    return [_proposed(command), _registered(command), first]


def _same_again(channel: Channel, command: RegisterChannel) -> list[Payload]:
    if channel.upload_sha256 == command.upload_sha256 and channel.params == command.params:
        return []
    raise ChannelExists("this channel was registered before with other content; the first registration stands")


def _check_points(command: RegisterChannel) -> None:
    for point in (*command.own_points, *command.counterparty_points):
        if not is_public_key(point):
            raise MalformedInput("a per-commitment point is a 33-byte compressed point on the curve")
    if command.state.own_point != command.own_points[0]:
        raise MalformedInput("own_point of state 0 must be the first of own_points")


def verify_content(
    params: ChannelParams, own_side: Side, state: StateContent, peer_point: bytes, publisher: Side | None = None
) -> None:
    """All eight signatures against the transactions rebuilt from the header's own amounts.

    Of a `publisher`, who has this state on chain already, its signature on the other commitment may be missing.
    """
    points = (state.own_point, peer_point) if own_side is Side.A else (peer_point, state.own_point)
    verify_complete_state(params, state.header, state.conditions, (state.sigs_a, state.sigs_b), points, publisher)


Verify = Callable[[ChannelParams, Side, StateContent, bytes, Side | None], None]
"""What `verify_content` does, wherever."""


def check_funding_transaction(params: ChannelParams, raw: bytes) -> None:
    """The funding transaction creates exactly the agreed output; raises `FundingMismatch`, `MalformedInput`."""
    if len(raw) > MAX_RAW_TRANSACTION:
        raise MalformedInput(f"funding_tx has {len(raw)} bytes, at most {MAX_RAW_TRANSACTION} are kept; leave it out")
    tx = Transaction.parse(raw)
    if tx.txid != params.funding_txid:
        raise FundingMismatch(
            f"funding_tx has txid {display(tx.txid)}, the channel names {display(params.funding_txid)}"
        )
    if params.funding_vout >= len(tx.outputs):
        raise FundingMismatch(f"funding_tx has no output {params.funding_vout}")
    output = tx.outputs[params.funding_vout]
    check_funding_output(params, output.value, output.spk)


def check_funding_output(params: ChannelParams, value: int, spk: bytes) -> None:
    """Script and value of the funding output are those of the channel; raises `FundingMismatch`."""
    expected = funding_output(params).spk
    if spk != expected:
        raise FundingMismatch(f"the funding output pays script {spk.hex()}, the channel's keys give {expected.hex()}")
    if value != params.capacity:
        raise FundingMismatch(f"the funding output holds {value} sat, the channel's capacity is {params.capacity}")


def _proposed(command: RegisterChannel) -> ChannelProposed:
    blank = command.params.with_funding(bytes(32), 0xFFFFFFFF)
    return ChannelProposed(
        recorded_at=command.now,
        params=blank.encode(),
        own_side=command.own_side,
        channel_index=command.channel_index,
        own_points=command.own_points,
        counterparty_points=command.counterparty_points,
        initial_balances=command.state.header.balances,
    )


def _registered(command: RegisterChannel) -> ChannelRegistered:
    return ChannelRegistered(
        recorded_at=command.now,
        mode=Mode.KEYED,
        params=command.params.encode(),
        watched=command.own_side.other,
        sweep_spk=command.sweep_spk,
        client_key=command.params.keys(command.own_side).auth,
        highest_revoked=-1,
        points=command.counterparty_points,
        buckets=(),
        policy=b"",
        upload_sha256=command.upload_sha256,
        upload_sig=command.upload_sig,
        tip_height=command.tip_height,
        funding_tx=command.funding_tx,
    )


def state_updated(
    state: StateContent, revoked_secret: bytes | None, next_point: bytes | None, now: int, tip_height: int
) -> StateUpdated:
    """The event of a verified state."""
    return StateUpdated(
        recorded_at=now,
        sequence=state.header.seq,
        header=state.header.encode(),
        balance_a=state.header.balance_a,
        balance_b=state.header.balance_b,
        conditions=encode_conditions(state.conditions),
        state_data=state.state_data,
        sigs_a=signature_set(state.sigs_a),
        sigs_b=signature_set(state.sigs_b),
        revoked_secret=revoked_secret,
        next_point=next_point,
        tip_height=tip_height,
        own_point=state.own_point,
        descriptors=descriptor_facts(state.conditions),
    )


def signature_set(signatures: StateSignatures) -> SignatureSet:
    """The event's form of one party's four signatures."""
    return SignatureSet(signatures.state, signatures.settle_a, signatures.settle_b, signatures.commit_peer)


def descriptor_facts(conditions: Sequence[Condition]) -> tuple[tuple[int, str, bytes], ...]:
    """What a descriptor record only hashes: its text and script."""
    return tuple(
        (c.id, c.descriptor, c.spk)
        for c in conditions
        if not c.is_htlc and c.descriptor is not None and c.spk is not None
    )
