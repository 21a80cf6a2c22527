"""Store a complete state and, if it is known, the counterparty's revocation of the one before."""

from __future__ import annotations

import msgspec

from domain.channel import Channel
from domain.errors import Equivocation, InvalidSecret, UnknownChannel
from domain.events import Payload
from domain.updating import UpdateState, decide_update
from watchtower.channels.context import Context, store_decision
from watchtower.channels.judging import judge
from watchtower.channels.offences import note_equivocation, note_secret
from watchtower.channels.reading import content_of
from watchtower.wire.api import UpdateAnswer, UpdateRequest
from watchtower.wire.hexes import Hex32


class Accepted(msgspec.Struct, frozen=True):
    """The answer; `duplicate` if exactly these bytes were stored before."""

    answer: UpdateAnswer
    duplicate: bool


def accept_state(context: Context, stream: str, request: UpdateRequest) -> Accepted:
    """Durable when it returns. An identical repetition gets the identical answer and stores nothing.

    Raises the refusals of `decide_update`, and `ApplicationRefused` if the channel's application is known here and
    does not accept the state.
    """
    content = content_of(request.state)
    command = UpdateState(
        now=context.clock.wall_microseconds(),
        state=content,
        revoked_secret=None if request.revoked_secret is None else bytes(request.revoked_secret),
        next_point=None if request.next_point is None else bytes(request.next_point),
        tip_height=context.tip_height(),
        confirmations_wanted=context.policy.confirmations,
        policy=context.policy.state,
    )

    def decide(channel: Channel | None) -> list[Payload]:
        if channel is None:
            raise UnknownChannel("no such channel is registered here")
        events = decide_update(channel, command)
        judge(context, channel, content, events)
        return events

    try:
        stored = store_decision(context, stream, decide, point="state_commit")
    except Equivocation:
        note_equivocation(context, stream, content)
        raise
    except InvalidSecret:
        channel = context.channels.load(stream)
        note_secret(context, stream, channel.counterparty, content.header.seq - 1, command.revoked_secret)
        raise
    channel = context.channels.load(stream)
    answer = UpdateAnswer(
        channel_id=Hex32(channel.params.channel_id),
        sequence=content.header.seq,
        state_hash=Hex32(content.header.state_hash),
        final_sequence=min(content.header.seq, channel.highest_revoked + 1),
    )
    return Accepted(answer, duplicate=not stored)
