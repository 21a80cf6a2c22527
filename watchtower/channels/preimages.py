"""Preimages of a channel's payments: taken from clients, handed out to them.

A preimage belongs to a payment, not to a channel: what any channel of this tower revealed serves all of them.
"""

from __future__ import annotations

import msgspec

from domain.channel import Channel, StateRecord
from domain.conditional import KnownPreimage, decide_preimage, preimage_in
from domain.contract.hashes import sha256
from domain.errors import UnknownChannel
from domain.events import Payload
from projections.preimages import TABLE, PreimageRow
from watchtower.channels.context import Context, store_decision
from watchtower.wire.conditions import PreimageAnswer, PreimageBody, PreimageRequest, PreimagesBody
from watchtower.wire.hexes import Hex32, SecretHex


class PreimageAdded(msgspec.Struct, frozen=True):
    """The answer; `duplicate` if the preimage was known."""

    answer: PreimageAnswer
    duplicate: bool


def add_preimage(context: Context, stream: str, request: PreimageRequest) -> PreimageAdded:
    """Durable when it returns; a claim that waits for it goes out in the next pass, in whatever channel.

    Raises `InvalidSecret` if the preimage opens no HTLC of a stored state of this channel.
    """
    preimage = bytes(request.preimage)

    def decide(channel: Channel | None) -> list[Payload]:
        if channel is None:
            raise UnknownChannel("no such channel is registered here")
        known, now = _lookup(context), context.clock.wall_microseconds()
        return decide_preimage(channel, _records(context, channel), preimage, known, now)

    stored = store_decision(context, stream, decide)
    channel_id = Hex32(context.channels.load(stream).params.channel_id)
    answer = PreimageAnswer(channel_id=channel_id, payment_hash=Hex32(sha256(preimage)))
    return PreimageAdded(answer, duplicate=not stored)


def get_preimages(context: Context, stream: str) -> PreimagesBody:
    """Known preimages of the HTLCs in the states that may be settled, in order of their payment hashes."""
    channel, known = context.channels.load(stream), _lookup(context)
    hashes = {c.hash for record in _records(context, channel) for c in record.read_conditions() if c.is_htlc}
    found = {payment_hash: preimage_in(channel, payment_hash, known) for payment_hash in sorted(hashes)}
    bodies = tuple(
        PreimageBody(payment_hash=Hex32(payment_hash), preimage=SecretHex(preimage))
        for payment_hash, preimage in found.items()
        if preimage is not None
    )
    return PreimagesBody(channel_id=Hex32(channel.params.channel_id), preimages=bodies)


def _records(context: Context, channel: Channel) -> list[StateRecord]:
    """The publishable states, and an older one whose settlement is on the chain."""
    closing = context.channels.closing_state(channel)
    return [*channel.states, *([] if closing is None or closing in channel.states else [closing])]


def _lookup(context: Context) -> KnownPreimage:
    """Finds preimages in the view of all channels."""

    def known(payment_hash: bytes) -> bytes | None:
        rows = context.views.find(TABLE, "payment_hash", payment_hash)
        row: PreimageRow | None = TABLE.read(rows[0]) if rows else None
        return None if row is None else row.preimage

    return known
