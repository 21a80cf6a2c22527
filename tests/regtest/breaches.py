"""A node whose answers a test changes, and events of breaches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.regtest.world import World
from tests.support.parties import Pair
from watchtower.node.rpc import BitcoindNode


class FaultyNode:
    """The real node with single methods replaced."""

    def __init__(self, adapter: BitcoindNode) -> None:
        self._adapter = adapter
        self.faults: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return self.faults.get(name) or getattr(self._adapter, name)


def only(world: World, pair: Pair, kind: type[Any]) -> Any:
    """The one event of this type in the channel's log."""
    (event,) = world.events(pair, kind)
    return event
