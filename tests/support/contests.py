"""Contests that several tests of the domain begin with."""

from __future__ import annotations

from domain.events import (
    Payload,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.support.scenes import Scene

T = 144


def kinds(events: list[Payload]) -> list[type[Payload]]:
    """The types of some events."""
    return [type(event) for event in events]


def two_contests(scene: Scene) -> tuple[Transaction, Transaction]:
    """B's stale commitments of states 1 and 2."""
    return scene.commitment(Side.B, 1), scene.commitment(Side.B, 2)
