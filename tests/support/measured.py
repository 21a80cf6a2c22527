"""A small world that is measured as a real tower is: its log followed by a reporter, its views in a real file.

scene = Measured(tmp_path)            # an open channel, states 0 to 3 revoked
scene.world.cheat(2)
scene.look()
scene.of("breaches_open", "broadcast")
"""

from __future__ import annotations

from pathlib import Path

from projections.catalog import PROJECTIONS
from projections.projector import Projector
from tests.support.small_world import SmallWorld
from tests.unit.test_metrics import samples
from watchtower.access import AccessFile
from watchtower.gauges.scrape import open_gauges
from watchtower.http.traffic import Traffic
from watchtower.models import LiveModels
from watchtower.repository import Channels
from watchtower.store.views import SqliteRows, new_views_file
from watchtower.telemetry.contests import Contests
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.reporter import Reporter


class Measured:
    """`views` are those that the gauges read; `restart` begins a new process on the same log and the same views."""

    def __init__(self, directory: Path, world: SmallWorld | None = None) -> None:
        self.directory = directory
        self.world = SmallWorld() if world is None else world
        self.views(directory).close()
        self.deferred: set[str] = set()
        self.restart()
        self.world.open()
        self.follow()

    @staticmethod
    def views(directory: Path) -> SqliteRows:
        """An empty file of views."""
        return new_views_file(directory / "views.db", bytes(16), PROJECTIONS)

    def restart(self) -> None:
        """New counters and new read models; the log and the file of the views are those of before."""
        self.metrics = Metrics(build=("0", "0", "regtest", "sqlite"))
        self.rows = SqliteRows(self.directory / "views.db")
        self.models = LiveModels(Projector(self.world.store, self.rows, PROJECTIONS), self.rows, self._channels())
        self.reporter = Reporter(
            self.world.store,
            self.metrics,
            contests=Contests(self.metrics, self.models.contested_facts()),
            known_until=self.models.position,
        )
        self.gauges = open_gauges(
            metrics=self.metrics,
            models=self.models,
            rows=self.rows,
            access=AccessFile(self.directory / "access.json"),
            tip=lambda: self.world.tower.follower.cursor.height,
            deferred=lambda: self.deferred,
            waiting=lambda: (0, 0),
            traffic=Traffic(),
            event_log=self.directory / "events.db",
        )

    def _channels(self) -> Channels:
        return Channels(self.world.store)

    def look(self) -> None:
        """A pass of the tower, and what follows it."""
        self.world.look()
        self.follow()

    def mine(self, count: int) -> None:
        """So many blocks with what the mempool holds, and a pass after each."""
        for _ in range(count):
            self.world.chain.mine()
            self.look()

    def follow(self) -> None:
        """Read models and reporter come to the end of the log."""
        self.models.catch_up()
        self.reporter.catch_up()

    @property
    def found(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """All samples, as a scraper reads them now."""
        self.gauges.forget()
        self.gauges.render()
        return samples(self.metrics)

    def of(self, name: str, *labels: str) -> float | None:
        """One sample, None if there is no such series."""
        return self.found.get((f"watchtower_{name}", labels))
