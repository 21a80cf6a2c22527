"""Questions about the past: their parameters, and what an answer says about the point that was meant."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from domain.as_of import MAX_POINT, AsOf, one_point
from watchtower.wire.hexes import BlockHashHex, Hex32, TxidHex
from watchtower.wire.queries import ChannelsQuery, Query, TimelineQuery

Position = Annotated[int, Meta(ge=0, le=MAX_POINT, description="As of the first so many events of the log.")] | None
EventId = Annotated[int, Meta(ge=0, le=MAX_POINT, description="As of all events with at most this id.")] | None
Time = (
    Annotated[
        str,
        Meta(
            max_length=40,
            description="As of a time in UTC (RFC 3339, as in 2026-01-31T12:00:00Z): before the first event that was "
            "recorded later.",
        ),
    ]
    | None
)
Height = (
    Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_POINT,
            description="As of the last connected block of this height that is still connected, with all that the "
            "tower stored because of it.",
        ),
    ]
    | None
)
Block = (
    Annotated[
        str,
        Meta(
            pattern="^[0-9a-f]{64}$",
            description="The same for the block with this hash, also if it was disconnected later.",
        ),
    ]
    | None
)

LISTED_BREACHES = 100
"""Open breaches that an answer names, the most urgent first."""


class AsOfQuery(Query, frozen=True, kw_only=True):
    """Of addresses without other parameters. At most one of the five is given."""

    position: Position = None
    id: EventId = None
    at: Time = None
    height: Height = None
    block: Block = None


class PastChannelsQuery(ChannelsQuery, frozen=True, kw_only=True):
    """`GET /v1/channels`."""

    position: Position = None
    id: EventId = None
    at: Time = None
    height: Height = None
    block: Block = None


class PastTimelineQuery(TimelineQuery, frozen=True, kw_only=True):
    """`GET /v1/channels/{id}/timeline`."""

    position: Position = None
    id: EventId = None
    at: Time = None
    height: Height = None
    block: Block = None


def as_of(query: AsOfQuery | PastChannelsQuery | PastTimelineQuery) -> AsOf | None:
    """The point that a query names; `MalformedInput` if it names two."""
    return one_point(position=query.position, id=query.id, at=query.at, height=query.height, block=query.block)


class PointBody(msgspec.Struct, frozen=True, kw_only=True):
    """The point of the log that an answer is about: its first `position` events.

    `recorded_at` (Unix seconds) is the time of the last of them, `height` and `tip_hash` are those of the tower's
    cursor; null if there was none yet.
    """

    position: int
    recorded_at: int | None
    height: int | None
    tip_hash: BlockHashHex | None


class OpenBreachBody(msgspec.Struct, frozen=True, kw_only=True):
    """A revoked commitment that was published and whose end was not final. `value` in satoshi.

    `height` and `deadline` are null while it was in no block. `penalty_txid` is that of the confirmed penalty, else of
    the last one that was signed.
    """

    channel_id: Hex32
    commit_txid: TxidHex
    sequence: int | None
    value: int
    height: int | None
    deadline: int | None
    penalty_txid: TxidHex | None
    penalty_height: int | None


class TowerPastBody(msgspec.Struct, frozen=True, kw_only=True):
    """The tower as of a point. `channels` and `capacity` (satoshi) are per status; ACTIVE begins with one confirmation.

    `open_breaches` is the number of all, `breaches` names the most urgent ones. `alerts` counts channels with each kind
    of open alert, `clients` the keys for which a channel was watched.
    """

    point: PointBody
    channels: dict[str, int]
    capacity: dict[str, int]
    open_breaches: int
    breaches: tuple[OpenBreachBody, ...]
    alerts: dict[str, int]
    clients: int
