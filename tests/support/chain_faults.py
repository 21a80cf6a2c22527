"""A small world whose node does what a test wants, and what must hold in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from domain.events import (
    BlockConnected,
    BlockDisconnected,
)
from tests.simulation.node import ModelNode
from tests.support.small_world import SWEEP, SmallWorld


class Overridden:
    """The model node with single methods replaced."""

    def __init__(self, node: ModelNode) -> None:
        self.node = node
        self.faults: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return self.faults.get(name) or getattr(self.node, name)


def faults(world: SmallWorld) -> dict[str, Callable[..., Any]]:
    """The replaced methods."""
    port: Any = world.port
    return port.faults  # type: ignore[no-any-return]


def opened(**options: Any) -> SmallWorld:
    """A world with an open channel, states 0 to 3 revoked."""
    world = SmallWorld(wrap=Overridden, **options)
    world.open()
    return world


def is_walk(world: SmallWorld) -> bool:
    """Each connect builds on the tip before it, each disconnect takes that tip off (oracle O4)."""
    events = [e.payload for e in world.store.read_stream("chain")]
    tip: bytes = events[0].block.hash  # type: ignore[union-attr]
    for event in events[1:]:
        if isinstance(event, BlockConnected):
            if event.prev != tip:
                return False
            tip = event.block.hash
        elif isinstance(event, BlockDisconnected):
            if event.block.hash != tip:
                return False
            tip = event.parent.hash
    return tip == world.chain.tip.hash


def passes(world: SmallWorld, count: int) -> list[Exception | None]:
    """Errors of so many passes."""
    return [world.tower.run_pass(SWEEP).error for _ in range(count)]
