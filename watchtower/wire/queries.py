"""Query parameters of the HTTP API: one struct per set of parameters.

The struct is the documentation: bounds and meaning go into the OpenAPI document, and what breaks them is refused. Whole
numbers are written with decimal digits only; a parameter stands at most once.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from domain.units import MAX_SEQUENCE

MAX_PAGE = 1000

StatusName = Literal[
    "PROPOSED",
    "FUNDING_BROADCAST",
    "ACTIVE",
    "FROZEN",
    "COOP_CLOSING",
    "UNILATERAL",
    "SETTLED",
    "PUNISHED",
    "LOST",
    "DOUBLE_SPENT",
    "UNKNOWN_SPEND",
    "RESOLVED",
]
"""`ChannelStatus` as a type for readers of the API; a test compares the two."""

CURSOR = "^c[A-Za-z0-9_-]{22}$"
"""Where a list of channels goes on: the name of the last stream. What has another form is refused, for the page behind
it would look like the end."""

Limit = Annotated[int, Meta(ge=1, le=MAX_PAGE, description="At most this many entries.")]


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base, and the query of an endpoint without parameters."""


class ChannelsQuery(Query, frozen=True, kw_only=True):
    """`GET /v1/channels`."""

    after: Annotated[str, Meta(pattern=CURSOR, description="`next` of the page before.")] | None = None
    limit: Limit = 100
    status: Annotated[StatusName, Meta(description="Only channels with this status.")] | None = None


class TimelineQuery(Query, frozen=True, kw_only=True):
    """`GET /v1/channels/{id}/timeline`."""

    after: Annotated[int, Meta(ge=0, le=MAX_SEQUENCE, description="`next` of the page before.")] = 0
    limit: Limit = 100
