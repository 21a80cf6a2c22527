"""What belongs to a party: the channels that are watched for its auth key."""

from __future__ import annotations

from domain.contract.params import ChannelParams
from domain.errors import Refusal, UnknownChannel
from projections.channel_info import TABLE
from projections.channels import ChannelViews
from watchtower.channels.context import Context
from watchtower.channels.finding import find_stream
from watchtower.channels.reading import side_of
from watchtower.wire.api import RegisterRequest

WHOLE = 64
"""Digits of a whole id."""


class NotAllowed(Refusal):
    """The party's key does not permit this."""

    slug = "forbidden"


def require_owner(context: Context, name: str, key: bytes) -> None:
    """Raise `UnknownChannel` unless the channel is watched for this x-only auth key.

    A stranger's channel and one that does not exist look the same. Parties name channels by the whole id: the answer to
    a beginning would tell what else is registered here.
    """
    absent = UnknownChannel("no channel with this id is registered here for your key; name it by its whole id")
    if len(name) != WHOLE:
        raise absent
    try:
        stream = find_stream(context, name)
    except UnknownChannel:
        raise absent from None
    channel = context.channels.load(stream)
    if channel.params.keys(channel.own_side).auth != key:
        raise absent


def streams_of(context: Context, key: bytes) -> tuple[int, list[str]]:
    """The position that the view has seen, and the streams of all channels that this party had up to there."""
    position = context.views.position(ChannelViews.name)  # asked first: what is stored in between is read
    return position, [TABLE.read(row).stream for row in context.views.find(TABLE, "owner_key", key)]


def admit_registration(context: Context, request: RegisterRequest, key: bytes) -> None:
    """Raise `NotAllowed` unless this party may register this channel here.

    The key must be the auth key of the side to watch for, and the operator must have allowed it, unless the policy is
    open or the channel is watched for this key already (a repetition).
    """
    params = ChannelParams.decode(bytes(request.params))
    if params.keys(side_of(request.own_side)).auth != key:
        raise NotAllowed("sign the registration with the auth key of own_side in params")
    if context.may_register(key):
        return
    try:
        require_owner(context, params.proposal_id.hex(), key)
    except UnknownChannel:
        raise NotAllowed(
            "this tower takes registrations of known parties only; ask its operator to allow your key "
            f"(watchtower client allow {key.hex()})"
        ) from None
