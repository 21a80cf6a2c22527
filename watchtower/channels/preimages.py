"""Preimages of a channel's payments: taken from clients, handed out to them.

A preimage belongs to a payment, not to a channel: what any channel of this tower revealed serves all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from domain.channel import Channel, StateRecord
from domain.conditional import KnownPreimage, decide_preimage, entitled
from domain.contract.hashes import sha256
from domain.errors import UnknownChannel
from domain.events import ClaimPath, Payload
from projections.preimages import TABLE, PreimageRow
from watchtower.channels.context import Context, store_decision
from watchtower.channels.finding import find_stream
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


def get_preimages(context: Context, stream: str, *, to_party: bool = False) -> PreimagesBody:
    """Known preimages of the HTLCs in the states that may be settled, in order of their payment hashes.

    A party is told what is public and what this channel knows: a payment hash is no secret, and who puts a stranger's
    into a channel of its own must not get the preimage that was handed over for another one.
    """
    channel = context.channels.load(stream)
    pending = [c for record in _records(context, channel) for c in record.read_conditions() if c.is_htlc]
    hashes = sorted({condition.hash for condition in pending})
    found = {payment_hash: _find(context, channel, payment_hash, to_party) for payment_hash in hashes}
    incoming = {c.hash for c in pending if entitled(c, ClaimPath.SUCCESS) is channel.own_side}
    return PreimagesBody(
        channel_id=Hex32(channel.params.channel_id),
        preimages=tuple(body for body in found.values() if body is not None),
        missing=tuple(Hex32(h) for h, body in found.items() if body is None and h in incoming),
    )


def _find(context: Context, channel: Channel, payment_hash: bytes, to_party: bool) -> PreimageBody | None:
    row, own = _row(context, payment_hash), dict(channel.preimages).get(payment_hash)
    # The view may be a moment behind the log.
    preimage = own if row is None or (to_party and not row.public) else row.preimage
    if preimage is None:
        return None
    public = row is not None and row.public == 1
    return PreimageBody(payment_hash=Hex32(payment_hash), preimage=SecretHex(preimage), public=public)


def _records(context: Context, channel: Channel) -> list[StateRecord]:
    """The publishable states, and an older one whose settlement is on the chain."""
    closing = context.channels.closing_state(channel)
    return [*channel.states, *([] if closing is None or closing in channel.states else [closing])]


def _row(context: Context, payment_hash: bytes) -> PreimageRow | None:
    rows = context.views.find(TABLE, "payment_hash", payment_hash)
    return TABLE.read(rows[0]) if rows else None


def _lookup(context: Context) -> KnownPreimage:
    """Finds public preimages. One that only another channel knows is stored again for the one that it is given for."""

    def known(payment_hash: bytes) -> bytes | None:
        row = _row(context, payment_hash)
        return row.preimage if row is not None and row.public else None

    return known


class Preimages(msgspec.Struct, frozen=True):
    """The use cases of this module as plain callables for the edges; the first argument names the channel.

    `get` takes as second argument whether a party asks, and not the operator.
    """

    add: Callable[[str, PreimageRequest], PreimageAdded]
    get: Callable[[str, bool], PreimagesBody]


def bind_preimages(context: Context) -> Preimages:
    """The use cases of one tower."""
    return Preimages(
        add=lambda name, request: add_preimage(context, find_stream(context, name), request),
        get=lambda name, to_party: get_preimages(context, find_stream(context, name), to_party=to_party),
    )
