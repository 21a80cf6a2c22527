"""A status page over a tower without node and process, for tests that look at what it draws."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from msgspec.structs import replace
from starlette.applications import Starlette

from projections.catalog import PROJECTIONS
from tests.support.towers import TIP, TOWER_ID, Bench
from watchtower.config.sections import AdminSettings, ApiSettings
from watchtower.config.settings import Settings
from watchtower.http.traffic import Traffic
from watchtower.store.summary import summary
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import ReadinessBoard
from watchtower.web.admin import facts_of, open_admin, quotas_of
from watchtower.web.sources import Sources

START = 1_000.0


class PageBench:
    """`bench` has the channels; `board` and `metrics` are what the page reads beside them."""

    def __init__(self, directory: Path, **admin: Any) -> None:
        """`admin` are settings of the admin listener."""
        self.bench = Bench(directory)
        self.metrics = Metrics(build=("1.2.3", "0", "regtest", "sqlite"), start=START)
        self.board = ReadinessBoard(self.metrics)
        self.settings = Settings(
            network="regtest",
            data_dir=str(directory),
            admin=AdminSettings(**admin),
            api=ApiSettings(public_address="tower.example:9815"),
        )
        self.tip, self.lag = TIP, 0
        self.traffic = Traffic()
        facts = facts_of(
            self.settings,
            listening=("127.0.0.1", 9815),
            topics=("sequence", "rawtx"),
            started=START,
            build=("1.2.3", "0123456789", TOWER_ID.hex(), "sqlite"),
        )
        self.sources = Sources(
            facts=facts,
            quotas=lambda: quotas_of(self.settings),
            known_until=lambda: min(self.bench.rows.position(each.name) for each in PROJECTIONS),
            readiness=self.board.snapshot,
            tip=lambda: self.tip,
            lag=lambda: self.lag,
            stream_of=self.bench.context.channels.stream_of,
            store=self.bench.store,
            rows=self.bench.rows,
            sums=lambda: summary(self.bench.rows),
            metrics=self.metrics,
            access=self.bench.access,
            clock=self.bench.clock,
        )

    def watching(self) -> None:
        """The tower has proof that it watches."""
        self.board.loaded()
        self.board.progress(caught_up=True)

    def changed(self, **facts: Any) -> None:
        """Other facts; before the application is asked for."""
        self.sources = replace(self.sources, facts=replace(self.sources.facts, **facts))

    @property
    def app(self) -> Starlette:
        """The admin application; a new one with sessions of its own at each call."""
        return open_admin(
            self.settings,
            self.sources,
            render=self.metrics.render,
            gate=self.bench.gate,
            board=self.board,
            channels=self.bench.context.channels,
            standing=lambda: self.bench.standing,
            traffic=self.traffic,
        )

    def visitor(self, host: str = "localhost:9816", headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
        """A browser that follows no redirects by itself."""
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url=f"http://{host}", headers=dict(headers or {})
        )
