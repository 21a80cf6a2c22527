"""Store a complete state and, if it is known, the counterparty's revocation of the one before."""

from __future__ import annotations

import msgspec

from domain.channel import Channel
from domain.contract.receipts import SignedReceipt
from domain.errors import Equivocation, InvalidSecret, UnknownChannel
from domain.events import Payload, StateUpdated
from domain.updating import UpdateState, decide_update
from watchtower.channels.context import Context, store_decision
from watchtower.channels.judging import judge
from watchtower.channels.offences import note_equivocation, note_secret
from watchtower.channels.reading import content_of
from watchtower.channels.receipts import Revocation, is_stored, sign_known, sign_new
from watchtower.wire.api import UpdateAnswer, UpdateRequest
from watchtower.wire.hexes import Hex32
from watchtower.wire.receipts import body_of


class Accepted(msgspec.Struct, frozen=True):
    """The answer; `duplicate` if exactly these bytes were stored before."""

    answer: UpdateAnswer
    duplicate: bool


def accept_state(context: Context, stream: str, request: UpdateRequest) -> Accepted:
    """Durable when it returns. An identical repetition gets the identical answer and receipt, and stores nothing.

    Raises the refusals of `decide_update`, and `ApplicationRefused` if the channel's application is known here and
    does not accept the state.
    """
    command = _command(context, request)
    content = command.state
    made: list[Payload] = []

    def decide(channel: Channel | None) -> list[Payload]:
        if channel is None:
            raise UnknownChannel("no such channel is registered here")
        with context.lanes:
            made[:] = decide_update(channel, command, context.verify)
        judge(context, channel, content, made)
        return made

    try:
        stored = store_decision(context, stream, decide, point="state_commit")
    except Equivocation:
        if not is_stored(context, context.channels.load(stream), content, _revocation(command)):
            note_equivocation(context, stream, content)
            raise
        stored = 0
    except InvalidSecret:
        channel = context.channels.load(stream)
        note_secret(context, stream, channel.counterparty, content.header.seq - 1, command.revoked_secret)
        raise
    channel = context.channels.load(stream)
    receipt = _receipt(context, channel, command, made, stored)
    context.failpoint("receipt_send:before")
    answer = UpdateAnswer(
        channel_id=Hex32(channel.params.channel_id),
        sequence=content.header.seq,
        state_hash=Hex32(content.header.state_hash),
        final_sequence=_final_by(command),
        receipt=body_of(receipt),
    )
    context.failpoint("receipt_send:after")
    return Accepted(answer, duplicate=not stored)


def _command(context: Context, request: UpdateRequest) -> UpdateState:
    return UpdateState(
        now=context.clock.wall_microseconds(),
        state=content_of(request.state),
        revoked_secret=None if request.revoked_secret is None else bytes(request.revoked_secret),
        next_point=None if request.next_point is None else bytes(request.next_point),
        tip_height=context.tip_height(),
        confirmations_wanted=context.policy.confirmations,
        policy=context.policy.state,
    )


def _final_by(command: UpdateState) -> int:
    """The highest final state by this upload alone, so that its repetition gets the same bytes whatever came since."""
    number = command.state.header.seq
    return number if command.revoked_secret is not None else max(number - 1, 0)


def _receipt(
    context: Context, channel: Channel, command: UpdateState, made: list[Payload], last_id: int
) -> SignedReceipt | None:
    """What was stored just now needs no search in the stream."""
    if last_id and isinstance(made[0], StateUpdated) and len(made) == 1:
        with context.lanes:
            return sign_new(context, channel, made[0], last_id)
    return sign_known(context, channel, command.state.header.seq, _revocation(command))


def _revocation(command: UpdateState) -> Revocation | None:
    if command.revoked_secret is None or command.next_point is None:
        return None
    return Revocation(command.revoked_secret, command.next_point)
