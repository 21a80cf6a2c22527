"""Store a revocation: the counterparty's secret, or the fact that the own side released one."""

from __future__ import annotations

import msgspec

from domain.channel import Channel
from domain.errors import InvalidSecret, UnknownChannel
from domain.events import Payload
from domain.updating import RevokeState, decide_revoke
from watchtower.channels.context import Context, store_decision
from watchtower.channels.info import final_sequence
from watchtower.channels.offences import note_secret
from watchtower.channels.reading import side_of
from watchtower.wire.api import RevocationAnswer, RevocationRequest
from watchtower.wire.hexes import Hex32


class Revoked(msgspec.Struct, frozen=True):
    """The answer; `duplicate` if the revocation was known."""

    answer: RevocationAnswer
    duplicate: bool


def revoke(context: Context, stream: str, request: RevocationRequest) -> Revoked:
    """Durable when it returns; taken also while the channel closes, where it can turn a close into a breach.

    Raises the refusals of `decide_revoke`.
    """
    command = RevokeState(
        now=context.clock.wall_microseconds(),
        party=side_of(request.party),
        sequence=request.sequence,
        secret=None if request.secret is None else bytes(request.secret),
        next_point=bytes(request.next_point),
    )

    def decide(channel: Channel | None) -> list[Payload]:
        if channel is None:
            raise UnknownChannel("no such channel is registered here")
        return decide_revoke(channel, command)

    try:
        stored = store_decision(context, stream, decide)
    except InvalidSecret:
        note_secret(context, stream, command.party, command.sequence, command.secret)
        raise
    channel = context.channels.load(stream)
    answer = RevocationAnswer(
        channel_id=Hex32(channel.params.channel_id),
        party=request.party,
        sequence=request.sequence,
        final_sequence=final_sequence(channel),
    )
    return Revoked(answer, duplicate=not stored)
