"""The readable history of a channel: one entry per event, made from the stream itself when somebody asks.

A table of it would repeat the log in words: it was half of the views, and a third of the time of a rebuild.
"""

from __future__ import annotations

import msgspec

from domain.events import Payload, Recorded
from projections.sentences import sentence


class TimelineRow(msgspec.Struct, frozen=True):
    """One event. `kind` is its name, `height` that of its block or of the tip when it was recorded, if it has one."""

    stream: str
    version: int
    id: int
    recorded_at: int
    height: int | None
    kind: str
    txid: bytes | None
    line: str


def row_of(recorded: Recorded) -> TimelineRow:
    """The entry of an event."""
    envelope = recorded.envelope
    payload = envelope.payload
    return TimelineRow(
        stream=envelope.stream,
        version=envelope.version,
        id=recorded.id,
        recorded_at=payload.recorded_at,
        height=_height(payload),
        kind=type(payload).__name__,
        txid=getattr(payload, "txid", None),
        line=sentence(payload),
    )


def _height(payload: Payload) -> int | None:
    block = getattr(payload, "block", None)
    if block is not None:
        return int(block.height)
    height = getattr(payload, "height", getattr(payload, "tip_height", None))
    return None if height is None else int(height)
