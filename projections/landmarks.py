"""Signposts in the log: where each block was connected, and how late its events were recorded.

They answer "as of this block" by a look-up and "as of this time" by a look-up and a short scan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from domain.events import CHAIN_STREAM, BlockConnected, BlockDisconnected, Payload, Recorded, topics_of
from projections.tables import Change, Key, Row, Table, as_row

STRETCH = 1_024
"""Events that one row of `moments` is about; a search for a time scans so many at most."""


class LandmarkRow(msgspec.Struct, frozen=True):
    """A block (hash in internal order) that was connected; `id` is its newest `BlockConnected`, which is its position.

    `connected` is 1 while the block is on the chain that the tower follows. The other events of the block follow it.
    """

    block_hash: bytes
    height: int
    id: int
    recorded_at: int
    connected: int


class MomentRow(msgspec.Struct, frozen=True):
    """The latest `recorded_at` (Unix microseconds) of the events `stretch * STRETCH + 1` to `(stretch + 1) * STRETCH`.

    It is not the time of the last one: a clock may run back.
    """

    stretch: int
    latest: int


LANDMARKS = Table("landmarks", LandmarkRow, indexes=(("height",),))
MOMENTS = Table("moments", MomentRow)


class Landmarks:
    """Folds the chain stream."""

    name: ClassVar[str] = "landmarks"
    version: ClassVar[int] = 1
    topics: ClassVar[frozenset[str]] = topics_of(BlockConnected, BlockDisconnected)
    tables: ClassVar[tuple[Table, ...]] = (LANDMARKS,)

    def keys(self, recorded: Recorded) -> Sequence[Key]:
        """The block that moves the cursor."""
        if recorded.envelope.stream != CHAIN_STREAM:
            return ()
        match recorded.envelope.payload:
            case BlockConnected(block=block) | BlockDisconnected(block=block):
                return ((block.hash,),)
            case _:
                return ()

    def apply(self, before: Mapping[Key, Row], page: Iterable[Recorded]) -> list[Change]:
        """The blocks of the page, each as the last event about it leaves it."""
        after: dict[Key, Row] = {}
        for recorded in page:
            for key in self.keys(recorded):
                row = _evolve(after.get(key) or before.get(key), recorded)
                if row is not None:
                    after[key] = row
        return [Change(LANDMARKS.name, key, row) for key, row in after.items()]


def _evolve(row: Row | None, recorded: Recorded) -> Row | None:
    payload = recorded.envelope.payload
    if isinstance(payload, BlockConnected):
        block = payload.block
        return as_row(LandmarkRow(block.hash, block.height, recorded.id, payload.recorded_at, connected=1))
    return None if row is None else (*row[:-1], 0)


class Moments:
    """Folds every event, but only its time."""

    name: ClassVar[str] = "moments"
    version: ClassVar[int] = 1
    tables: ClassVar[tuple[Table, ...]] = (MOMENTS,)

    def keys(self, recorded: Recorded) -> Sequence[Key]:
        """The stretch of the event."""
        return (((recorded.id - 1) // STRETCH,),)

    def apply(self, before: Mapping[Key, Row], page: Iterable[Recorded]) -> list[Change]:
        """The stretches that the page touches."""
        made = self.part((recorded.id, recorded.envelope.payload) for recorded in page)
        rows = (self.merge(before.get(key, row), row) for key, row in made.items())
        return [Change(MOMENTS.name, MOMENTS.key_of(row), row) for row in rows]

    def part(self, events: Iterable[tuple[int, Payload]]) -> dict[Key, Row]:
        """The stretches that these events touch."""
        latest: dict[int, int] = {}
        for event_id, payload in events:
            stretch, at = (event_id - 1) // STRETCH, payload.recorded_at
            if stretch not in latest or at > latest[stretch]:
                latest[stretch] = at
        return {(stretch,): (stretch, at) for stretch, at in latest.items()}

    def merge(self, first: Row, second: Row) -> Row:
        """The later of two."""
        one, other = MomentRow(*first), MomentRow(*second)  # type: ignore[arg-type]
        return (one.stretch, max(one.latest, other.latest))
