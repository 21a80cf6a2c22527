"""Bodies about a tower whose log was restored from an older copy."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from domain.units import MAX_SEQUENCE
from watchtower.wire.hexes import Hex32

Highest = Annotated[int, Meta(ge=-1, le=MAX_SEQUENCE)]
"""A state number; -1 is none."""


class BehindBody(msgspec.Struct, frozen=True, kw_only=True):
    """The log went on behind position `since`, although `high_water` had been reached: what lies between is missing.

    `channels` have not been compared by their owners yet (a party is told of its own). Until `accepted` the operator
    has not decided, and no receipts are signed; states are stored all the same.
    """

    since: int
    high_water: int
    channels: int
    accepted: bool


class ConfirmationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/channels/{id}/confirmations`: the owner has nothing that the tower lacks.

    The newest complete state, the highest state that the counterparty revoked, and the highest that the owner did.
    """

    epoch: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    sequence: Highest
    highest_revoked: Highest
    own_released: Highest


class ConfirmationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The tower holds all of it."""

    channel_id: Hex32
    epoch: int
    sequence: int
