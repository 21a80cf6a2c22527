"""Bodies of event streams."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from domain.units import MAX_SEQUENCE
from watchtower.wire.hexes import Hex32, TxidHex
from watchtower.wire.queries import Query


class EventBody(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a channel in plain words. `id` is its place in the tower's log, `version` that in the channel."""

    id: int
    channel_id: Hex32
    version: int
    recorded_at: int
    height: int | None
    kind: str
    text: str
    txid: TxidHex | None = None


class EventsQuery(Query, frozen=True, kw_only=True):
    """`GET /v1/events` and `GET /v1/channels/{id}/events`."""

    after: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=MAX_SEQUENCE,
                description="Begin behind this id; 0 is the beginning of the log. The header Last-Event-ID wins. "
                "Default: what happens from now on.",
            ),
        ]
        | None
    ) = None
