"""After a restore: the owner of a channel compared it, and the tower holds all that the owner has."""

from __future__ import annotations

import msgspec

from domain.channel import Channel
from domain.errors import SequenceGap, UnknownChannel
from domain.events import HoldingsConfirmed, Payload
from watchtower.channels.context import Context, store_decision
from watchtower.wire.hexes import Hex32
from watchtower.wire.restores import ConfirmationAnswer, ConfirmationRequest


class Confirmed(msgspec.Struct, frozen=True):
    """The answer; `duplicate` if nobody asked for it any more, or never did."""

    answer: ConfirmationAnswer
    duplicate: bool


def confirm(context: Context, stream: str, request: ConfirmationRequest) -> Confirmed:
    """Durable when it returns. Raises `SequenceGap` if the tower lacks something, or is in another epoch."""

    def decide(channel: Channel | None) -> list[Payload]:
        if channel is None:
            raise UnknownChannel("no such channel is registered here")
        epoch = context.rollbacks.epoch()
        if request.epoch != epoch:
            raise SequenceGap(f"the tower is in epoch {epoch}, not {request.epoch}; compare again")
        _require_all(channel, request)
        if not context.rollbacks.awaits(stream):
            return []
        now = context.clock.wall_microseconds()
        return [HoldingsConfirmed(recorded_at=now, epoch=epoch, sequence=max(0, request.sequence))]

    stored = store_decision(context, stream, decide)
    channel = context.channels.load(stream)
    answer = ConfirmationAnswer(
        channel_id=Hex32(channel.params.channel_id), epoch=request.epoch, sequence=request.sequence
    )
    return Confirmed(answer, duplicate=not stored)


def _require_all(channel: Channel, request: ConfirmationRequest) -> None:
    held = (channel.sequence, channel.highest_revoked, channel.own_released)
    told = (request.sequence, request.highest_revoked, request.own_released)
    names = ("state", "revocation of the counterparty", "own revocation")
    for name, here, there in zip(names, held, told, strict=True):
        if there > here:
            raise SequenceGap(f"the newest {name} here is {here}, not {there}; upload what is missing first")
