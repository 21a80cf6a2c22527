"""`ChannelInfo` of one channel from its fold: always as new as the log (read your own writes)."""

from __future__ import annotations

from domain.channel import Channel
from domain.contract.params import WARN_BELOW_CAPACITY
from domain.status import ChannelStatus
from domain.units import Side
from watchtower.channels.claims import claim_bodies
from watchtower.channels.context import ChannelPolicy
from watchtower.wire.api import ChannelBody, ParticipantBody, SideName
from watchtower.wire.hexes import Hex32, Hex33, TxidHex


def side_name(side: Side) -> SideName:
    """A or B."""
    return "A" if side is Side.A else "B"


def final_sequence(channel: Channel) -> int:
    """Highest state that is final (U4): stored here, and the counterparty revoked its predecessor."""
    return min(channel.sequence, channel.highest_revoked + 1)


def status(channel: Channel, policy: ChannelPolicy, tip_height: int) -> ChannelStatus:
    """Status of protocol 6.1: a channel is ACTIVE only once its funding is as deep as configured."""
    known = channel.status
    if known is ChannelStatus.ACTIVE and channel.funding_depth(tip_height) < policy.confirmations:
        return ChannelStatus.FUNDING_BROADCAST
    return known


def warnings(channel: Channel, policy: ChannelPolicy) -> tuple[str, ...]:
    """What an owner should know about the constants of an accepted channel."""
    found = []
    if channel.params.capacity < WARN_BELOW_CAPACITY:
        found.append(
            f"capacity {channel.params.capacity} sat is below {WARN_BELOW_CAPACITY} sat: "
            "at high feerates a penalty can cost more than the channel holds"
        )
    if channel.params.challenge_period < policy.warn_below_challenge_period:
        found.append(
            f"challenge period {channel.params.challenge_period} is below "
            f"{policy.warn_below_challenge_period} blocks: little time to answer a breach"
        )
    return tuple(found)


def channel_body(channel: Channel, policy: ChannelPolicy, tip_height: int) -> ChannelBody:
    """The API form."""
    params = channel.params
    known = params.is_funding_known
    return ChannelBody(
        channel_id=Hex32(params.channel_id if known else params.proposal_id),
        status=str(status(channel, policy, tip_height)),
        participants=(
            ParticipantBody(pubkey=Hex33(params.keys_a.fund), initial_balance=channel.initial_balances[0]),
            ParticipantBody(pubkey=Hex33(params.keys_b.fund), initial_balance=channel.initial_balances[1]),
        ),
        current_sequence=channel.sequence,
        final_sequence=final_sequence(channel),
        balances=channel.balances,
        funding_txid=TxidHex(params.funding_txid) if known else None,
        challenge_period=params.challenge_period,
        proposal_id=Hex32(params.proposal_id),
        own_side=side_name(channel.own_side),
        capacity=params.capacity,
        funding_vout=params.funding_vout if known else None,
        funding_height=channel.funding_block.height if channel.funding_block else None,
        highest_revoked=channel.highest_revoked,
        warnings=warnings(channel, policy),
        claims=claim_bodies(channel),
    )
