"""Comparing a tower's live read models with the same log folded again from its first event."""

from __future__ import annotations

from projections.catalog import PROJECTIONS
from projections.projector import Projector
from tests.regtest.world import World
from watchtower.models import LiveModels
from watchtower.store.rebuild import digests, rebuild
from watchtower.store.views import SqliteRows

Picture = dict[str, object]
"""What the pass thread can learn from the read models, by question."""


def live_and_replayed(world: World) -> tuple[Picture, Picture]:
    """The live picture, and that of views which are folded from position 0 for this comparison."""
    world.models.catch_up()
    path = world.directory / "replayed.db"
    rebuild(path, world.store)
    rows = SqliteRows(path)
    try:
        again = LiveModels(Projector(world.store, rows, PROJECTIONS), rows, world.channels)
        return _picture(world, world.rows, world.models), _picture(world, rows, again)
    finally:
        rows.close()


def _picture(world: World, rows: SqliteRows, models: LiveModels) -> Picture:
    funding = models.funding_outpoints(b"", 1_000)
    return {
        "position": models.position,
        "tables": digests(rows).tables,
        "contested": models.contested(),
        "pending": models.pending_funding(),
        "young": sorted(models.young_funding()),
        "watched": models.watched_count,
        "funding": {outpoint: models.streams_of(outpoint) for outpoint in funding},
        "in tip": models.streams_in_block(world.tower.follower.cursor.hash),
    }
