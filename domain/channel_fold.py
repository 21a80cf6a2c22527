"""From events to a Channel.

`evolve` is total: it accepts every event that was ever written and never validates; rules live in the deciders.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from domain.channel import (
    Channel,
    Closing,
    ContestSpend,
    StateRecord,
)
from domain.contract.conditions import decode_conditions
from domain.contract.hashes import tagged_hash
from domain.contract.params import ChannelParams
from domain.contract.revocation import Buckets, index_of, insert_secret
from domain.ending_fold import apply_claim, apply_end, apply_outcome, apply_penalty, apply_spend, soft_final_without
from domain.events import (
    ChannelAbandoned,
    ChannelFrozen,
    ChannelProposed,
    ChannelRegistered,
    CloseProposed,
    CloseSigned,
    CommitmentPublished,
    Envelope,
    EquivocationFound,
    FundingBroadcast,
    FundingConfirmed,
    FundingDisconnected,
    FundingDoubleSpent,
    Payload,
    StateRevoked,
    StateUpdated,
)
from domain.units import Side

FOLD_VERSION = 1
"""Raised with every change after which the same events give another channel; kept folds are then thrown away."""

KEPT_STATES = 2
"""Two states can be publishable at a time: between messages 2 and 4 of an update (protocol 5.3, U4)."""


def fold(channel: Channel | None, events: Iterable[Envelope]) -> Channel | None:
    """Apply events in order."""
    for event in events:
        channel = evolve(channel, event)
    return channel


def evolve(channel: Channel | None, event: Envelope) -> Channel:
    """State after one event; the first event of a channel's stream creates it."""
    payload = event.payload
    if channel is None:
        channel = _create(event.stream, payload)
    if type(payload) is StateUpdated:  # nearly all events of a long stream
        return _update(channel, payload, event.version)
    return msgspec.structs.replace(_apply(channel, payload), version=event.version)


def _create(stream: str, payload: Payload) -> Channel:
    match payload:
        case ChannelProposed():
            return Channel(stream, 0, ChannelParams.decode(payload.params), payload.own_side)
        case ChannelRegistered():
            return Channel(stream, 0, ChannelParams.decode(payload.params), Side(payload.watched).other)
        case _:
            raise AssertionError(f"stream {stream} does not begin with a proposal or a registration")


def _apply(channel: Channel, payload: Payload) -> Channel:
    for part in (_apply_opening, _apply_state, apply_spend, apply_penalty, apply_claim, apply_end, apply_outcome):
        after = part(channel, payload)
        if after is not None:
            return after
    return channel


def _apply_opening(channel: Channel, payload: Payload) -> Channel | None:
    match payload:
        case ChannelProposed():
            return msgspec.structs.replace(
                channel, initial_balances=payload.initial_balances, points=payload.counterparty_points
            )
        case ChannelRegistered():
            return msgspec.structs.replace(
                channel,
                params=ChannelParams.decode(payload.params),
                registered=True,
                registered_at=payload.tip_height,
                sweep_spk=payload.sweep_spk,
                client_key=payload.client_key,
                upload_sha256=payload.upload_sha256,
                highest_revoked=payload.highest_revoked,
                points=payload.points,
                buckets=payload.buckets,
                funding_tx=payload.funding_tx,
            )
        case FundingBroadcast():
            raw = payload.raw if payload.raw is not None else channel.funding_tx
            return msgspec.structs.replace(channel, funding_seen=True, funding_tx=raw)
        case FundingConfirmed():
            return msgspec.structs.replace(channel, funding_seen=True, funding_block=payload.block)
        case FundingDisconnected():
            void = channel.double_spend
            if void is not None and void.block == payload.block:
                return msgspec.structs.replace(
                    channel, double_spend=None, soft_final=soft_final_without(channel, void.txid)
                )
            return msgspec.structs.replace(channel, funding_block=None)
        case FundingDoubleSpent():
            conflict = ContestSpend(b"", payload.conflict, payload.block, is_penalty=False, revoked=False, value=0)
            return msgspec.structs.replace(channel, double_spend=conflict)
        case ChannelAbandoned():
            return msgspec.structs.replace(channel, abandoned=True)
    return None


def _apply_state(channel: Channel, payload: Payload) -> Channel | None:
    match payload:
        case StateRevoked():
            if payload.party is channel.own_side:
                return msgspec.structs.replace(channel, own_released=max(channel.own_released, payload.sequence))
            return _revoke(channel, payload)
        case CloseProposed():
            return _closing(channel, Closing(payload.txid, final_balances=payload.final_balances))
        case CloseSigned():
            known = channel.closing(payload.txid) or Closing(payload.txid)
            raw = payload.raw if payload.raw is not None else known.raw
            signed = _closing(channel, msgspec.structs.replace(known, raw=raw))
            return msgspec.structs.replace(signed, close_signed=True)
        case CommitmentPublished():
            return _closing(channel, Closing(payload.txid, sequence=payload.sequence))
        case EquivocationFound():
            return msgspec.structs.replace(channel, equivocations=channel.equivocations | {payload.sequence})
        case ChannelFrozen():
            return msgspec.structs.replace(channel, frozen=True)
    return None


def _closing(channel: Channel, closing: Closing) -> Channel:
    """The newest intent stands last."""
    others = tuple(c for c in channel.closings if c.txid != closing.txid)
    return msgspec.structs.replace(channel, closings=(*others, closing))


def state_record(payload: StateUpdated) -> StateRecord:
    """What the event of a state keeps for its settlement."""
    return StateRecord(
        payload.header,
        payload.conditions,
        payload.sigs_a,
        payload.sigs_b,
        payload.own_point,
        payload.descriptors,
    )


def _update(channel: Channel, payload: StateUpdated, version: int) -> Channel:
    states = (*channel.states, state_record(payload))[-KEPT_STATES:]
    balances = payload.balance_a, payload.balance_b
    highest, points, buckets = _revocations(channel, payload.sequence - 1, payload.revoked_secret, payload.next_point)
    return msgspec.structs.replace(
        channel,
        version=version,
        states=states,
        preimages=_still_used(channel.preimages, states),
        sequence=payload.sequence,
        state_hash=tagged_hash("SCT1/state", payload.header),  # the same as decoding and encoding it again
        balances=balances,
        initial_balances=balances if payload.sequence == 0 else channel.initial_balances,
        highest_revoked=highest,
        points=points,
        buckets=buckets,
    )


def _still_used(
    preimages: tuple[tuple[bytes, bytes], ...], states: tuple[StateRecord, ...]
) -> tuple[tuple[bytes, bytes], ...]:
    """Preimages of HTLCs that can still be settled; a channel would else collect those of all its payments.

    The others stay in the log and in the view of preimages.
    """
    if not preimages:
        return ()
    open_hashes = {c.hash for state in states for c in decode_conditions(state.conditions)}
    return tuple(pair for pair in preimages if pair[0] in open_hashes)


def _revoke(channel: Channel, payload: StateRevoked) -> Channel:
    highest, points, buckets = _revocations(channel, payload.sequence, payload.secret, payload.next_point)
    return msgspec.structs.replace(channel, highest_revoked=highest, points=points, buckets=buckets)


def _revocations(
    channel: Channel, sequence: int, secret: bytes | None, next_point: bytes | None
) -> tuple[int, tuple[bytes, bytes] | None, Buckets]:
    """Highest revoked state, points and buckets with one more revocation; as they are if it isn't the next one."""
    if secret is None or next_point is None or sequence != channel.highest_revoked + 1 or channel.points is None:
        return channel.highest_revoked, channel.points, channel.buckets
    return sequence, (channel.points[1], next_point), insert_secret(channel.buckets, secret, index_of(sequence))
