"""How long the status page takes with many channels: front page, list, search, one channel. Everything is asked over
HTTP of the application itself, one request after the other; `fresh_sums` takes the sums over all channels each time,
which a tower does once a second however many pages are open.

`status_page_ratio` is how much longer the front page of the large tower takes than that of a tower with a hundredth of
the channels: read models answer, so it must not be a hundred.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import httpx
from starlette.applications import Starlette
from starlette.types import ASGIApp

from projections.channel_info import TABLE, ChannelInfoRow
from tests.bench.bulk_log import write_rows
from tests.bench.scale import Scale
from tests.bench.scale_log import channel_log
from tests.support.clocks import FixedClock
from watchtower.access import AccessFile
from watchtower.config.settings import Settings
from watchtower.http.auth import Gate
from watchtower.http.feed import Feed
from watchtower.http.traffic import Traffic
from watchtower.repository import Channels
from watchtower.store.create import open_reader
from watchtower.store.reader import LogReader
from watchtower.store.rebuild import rebuild
from watchtower.store.summary import summary
from watchtower.store.views import SqliteRows
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import Readiness
from watchtower.web import home_view
from watchtower.web.admin import facts_of, quotas_of
from watchtower.web.guard import Visitors
from watchtower.web.routes import StatusPage
from watchtower.web.sessions import Sessions
from watchtower.web.sources import Sources

NAMES = (
    "status_page_ms",
    "status_page_cpu_ms",
    "status_page_fresh_sums_ms",
    "status_page_fresh_sums_cpu_ms",
    "status_page_list_ms",
    "status_page_search_ms",
    "status_page_channel_ms",
    "status_page_ratio",
)
RUNS = 30
EVENTS_EACH = 6


class Taken(NamedTuple):
    """Milliseconds of a request: on the clock, and of the processor."""

    wall: float
    cpu: float


def measure(scale: Scale, directory: Path) -> dict[str, float]:
    """All figures of this part. Medians."""
    for name in ("few", "many"):
        (directory / name).mkdir()
    few = asyncio.run(_ask(directory / "few", max(20, scale.watched_many // 100)))
    many = asyncio.run(_ask(directory / "many", scale.watched_many))
    found = (
        many["kept"].wall,
        many["kept"].cpu,
        many["fresh"].wall,
        many["fresh"].cpu,
        many["list"].wall,
        many["search"].wall,
        many["channel"].wall,
        many["kept"].wall / few["kept"].wall,
    )
    return {name: round(value, 2) for name, value in zip(NAMES, found, strict=True)}


async def _ask(directory: Path, channels: int) -> dict[str, Taken]:
    path = write_rows(directory, channel_log(channels, EVENTS_EACH * channels), per_commit=100)
    with open_reader(path) as log:
        rebuild(directory / "views.db", log)
        rows = SqliteRows(directory / "views.db")
        try:
            last: ChannelInfoRow = TABLE.read(rows.page(TABLE, None, channels)[-1])
            name = last.channel_id.hex()
            places = {"kept": "/", "list": "/channels", "search": f"/channels?search={name[:10]}"}
            places["channel"] = f"/channels/{name}"
            sources = _sources(directory, log, rows)
            found = {kind: await _timed(_page(sources), url) for kind, url in places.items()}
            with mock.patch.multiple(home_view, SUMS_SECONDS=0.0, OWNERS_SECONDS=0.0):
                return found | {"fresh": await _timed(_page(sources), "/")}
        finally:
            rows.close()


def _sources(directory: Path, log: LogReader, rows: SqliteRows) -> Sources:
    metrics = Metrics(build=("0", "0", "regtest", "sqlite"))
    settings = Settings(network="regtest", data_dir=str(directory))
    facts = facts_of(
        settings, listening=("127.0.0.1", 1), topics=(), started=0.0, build=("0", "0", "00" * 32, "sqlite")
    )
    return Sources(
        facts=facts,
        quotas=lambda: quotas_of(settings),
        known_until=log.last_id,
        readiness=lambda: Readiness("watching", watching=True, reasons=()),
        tip=lambda: 200,
        lag=lambda: 0,
        stream_of=lambda name: log.stream_id("c", name),
        store=log,  # type: ignore[arg-type]
        rows=rows,
        sums=lambda: summary(rows),
        metrics=metrics,
        access=AccessFile(directory / "access.json"),
        clock=FixedClock(),
    )


def _page(sources: Sources) -> ASGIApp:
    visitors = Visitors(Gate(sha256(b"").digest()), Sessions(time.monotonic), asks=False)
    feed = Feed(sources.store, Channels(sources.store))
    return Starlette(routes=StatusPage(sources, visitors, feed, Traffic()).routes())


async def _timed(app: ASGIApp, url: str) -> Taken:
    taken = []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as visitor:
        for _ in range(RUNS + 1):
            wall, cpu = time.perf_counter(), time.process_time()
            answer = await visitor.get(url)
            taken.append(Taken(1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)))
            if answer.status_code != 200:
                raise RuntimeError(f"{url} answered {answer.status_code}")
    # The first one also reads templates and fills the database's cache.
    return Taken(*(statistics.median(values) for values in zip(*taken[1:], strict=True)))
