"""What everything that follows the chain works with."""

from __future__ import annotations

import msgspec

from watchtower.chain.conditions import Conditions
from watchtower.ports import Clock, EventStore, Failpoint, Node, ReadModels
from watchtower.repository import Channels


class Needs(msgspec.Struct, frozen=True):
    """One value for follower, mempool watch, arming, audit and rescan: they must agree about all of it."""

    node: Node
    store: EventStore
    channels: Channels
    models: ReadModels
    conditions: Conditions
    clock: Clock
    failpoint: Failpoint
