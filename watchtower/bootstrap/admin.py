"""The wing that serves the operator: `/metrics` and the status page."""

from __future__ import annotations

import socket
from pathlib import Path

from starlette.types import ASGIApp

import watchtower
from watchtower.bootstrap.api import Api
from watchtower.bootstrap.core import Core
from watchtower.bootstrap.ground import Ground
from watchtower.bootstrap.node import zmq_endpoints
from watchtower.bootstrap.storage import Storage
from watchtower.gauges.scrape import Gauges, open_gauges
from watchtower.host.revision import revision
from watchtower.host.system import SystemClock
from watchtower.store.places import engine
from watchtower.store.summary import summary
from watchtower.web.admin import facts_of, open_admin, quotas_of
from watchtower.web.sources import Sources


def build_admin(ground: Ground, storage: Storage, core: Core, api: Api, listener: socket.socket) -> ASGIApp:
    """The application of the admin listener; `listener` is the socket of the API."""
    return open_admin(
        ground.settings,
        _sources(ground, storage, core, api, listener),
        render=_gauges(ground, storage, core, api).render,
        gate=api.gate,
        board=ground.board,
        channels=core.channels,
        standing=api.standing,
        traffic=api.traffic,
    )


def _sources(ground: Ground, storage: Storage, core: Core, api: Api, listener: socket.socket) -> Sources:
    """The status page reads over connections of its own, as everything in a worker thread does."""
    settings = ground.settings
    canary = ground.metrics.value("canary_last_success_timestamp_seconds")
    facts = facts_of(
        settings,
        listening=listener.getsockname()[:2],
        topics=tuple(zmq_endpoints(settings)),
        started=canary or 0.0,
        build=(watchtower.__version__, revision(), storage.tower_key.tower_id.hex(), engine(settings)),
    )
    return Sources(
        facts=facts,
        quotas=lambda: quotas_of(ground.settings),
        known_until=lambda: core.models.position,
        readiness=ground.board.snapshot,
        tip=core.tip_height,
        lag=lambda: core.watch.lag,
        stream_of=core.channels.stream_of,
        store=storage.overflow,
        rows=storage.rows,
        sums=lambda: summary(storage.rows),
        metrics=ground.metrics,
        access=api.access,
        clock=SystemClock(),
    )


def _gauges(ground: Ground, storage: Storage, core: Core, api: Api) -> Gauges:
    return open_gauges(
        metrics=ground.metrics,
        models=core.models,
        rows=storage.rows,
        access=api.access,
        tip=core.highest,
        deferred=lambda: core.deferred,
        waiting=storage.store.waiting,
        traffic=api.traffic,
        event_log=Path(ground.settings.event_log_path),
    )
