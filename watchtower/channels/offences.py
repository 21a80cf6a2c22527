"""Keeps what a refused upload proves against the counterparty. The refusal itself stays what it is."""

from __future__ import annotations

from domain.channel import Channel
from domain.contract.header import StateHeader
from domain.events import Payload
from domain.evidence import equivocation_found, inconsistent_secret
from domain.opening import StateContent
from domain.units import Side
from watchtower.channels.context import Context, store_decision


def note_equivocation(context: Context, stream: str, content: StateContent) -> None:
    """Another header for a stored state that carries the counterparty's signature is evidence, once per state."""
    stored = _stored_header(context, stream, content.header.seq)
    if stored is None:
        return

    def decide(channel: Channel | None) -> list[Payload]:
        if channel is None:
            return []
        signed = (content.sigs_a if channel.counterparty is Side.A else content.sigs_b).state
        now = context.clock.wall_microseconds()
        return equivocation_found(channel, stored, content.header, signed, context.tip_height(), now)

    store_decision(context, stream, decide)


def note_secret(context: Context, stream: str, party: Side, sequence: int, secret: bytes | None) -> None:
    """A secret that fits its announced point and contradicts the earlier secrets is a reason to alert, once."""
    if secret is None:
        return

    def decide(channel: Channel | None) -> list[Payload]:
        if channel is None:
            return []
        now = context.clock.wall_microseconds()
        return inconsistent_secret(channel, party, sequence, secret, context.tip_height(), now)

    store_decision(context, stream, decide)


def _stored_header(context: Context, stream: str, sequence: int) -> StateHeader | None:
    """From the fold, or from the stream for a state that was replaced long ago; only a refused upload asks for it."""
    channel = context.channels.find(stream)
    if channel is None:
        return None
    record = channel.state(sequence)
    if record is not None:
        return record.read_header()
    stored = context.channels.stored_state(channel, sequence)
    return None if stored is None else StateHeader.decode(stored.header)
