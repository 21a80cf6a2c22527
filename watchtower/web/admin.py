"""The admin listener as a whole: `/metrics`, health, and the status page with its guard in front of all of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from watchtower.config import Settings, parse_listen
from watchtower.http.app import create_admin_app
from watchtower.http.auth import Gate
from watchtower.http.feed import Feed
from watchtower.http.services import Standing
from watchtower.http.traffic import Traffic
from watchtower.repository import Channels
from watchtower.telemetry.readiness import ReadinessBoard
from watchtower.web.guard import Guard, Visitors, is_loopback
from watchtower.web.live import STREAMS
from watchtower.web.routes import JSON, StatusPage
from watchtower.web.sessions import Sessions
from watchtower.web.sources import Facts, Quotas, Sources
from watchtower.wire.api import AliveBody, ReadyBody
from watchtower.wire.hexes import to_json


def open_admin(
    settings: Settings,
    sources: Sources,
    *,
    render: Callable[[], bytes],
    gate: Gate,
    board: ReadinessBoard,
    channels: Channels,
    standing: Callable[[], Standing],
    traffic: Traffic,
) -> Starlette:
    """The application. `render` makes the text of `/metrics`; open pages are counted in `traffic`."""
    feed = Feed(sources.store, channels, STREAMS)
    board.watch(feed.rouse)
    routes: list[BaseRoute] = _health(standing)
    if settings.admin.page != "off":
        visitors = Visitors(gate, Sessions(time.monotonic), asks=asks_for_token(settings))
        routes += StatusPage(sources, visitors, feed, traffic).routes()
    return create_admin_app(
        render,
        gate if settings.admin.require_token else None,
        routes=routes,
        middleware=[Middleware(Guard, names=page_names(settings))],
    )


def asks_for_token(settings: Settings) -> bool:
    """Whether the page is for those only who have a token."""
    chosen = settings.admin
    if chosen.page == "auto":
        return chosen.require_token or not is_loopback(parse_listen(chosen.listen)[0])
    return chosen.page == "token"


def page_names(settings: Settings) -> tuple[str, ...]:
    """Host names that the operator gave the page."""
    return tuple(name.strip() for name in settings.admin.page_names.split(",") if name.strip())


def public_address(settings: Settings, listening: tuple[str, int]) -> str:
    """host:port for clients: as set, else where the API listens."""
    host, port = listening
    return settings.api.public_address or (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def facts_of(
    settings: Settings, *, listening: tuple[str, int], topics: tuple[str, ...], started: float, build: tuple[str, ...]
) -> Facts:
    """What stays the same in one run. `build` is version, revision, tower id (hexadecimal), engine of the log.

    `started` is what time stamps show that were not set since the start.
    """
    version, revision, tower_id, engine = build
    return Facts(
        version=version,
        revision=revision,
        network=settings.network,
        engine=engine,
        tower_id=tower_id,
        address=public_address(settings, listening),
        topics=topics,
        registration=settings.policy.registration,
        backup_hours=settings.backup.interval_hours if settings.backup.directory else 0.0,
        event_log=Path(settings.event_log_path),
        started=started,
    )


def quotas_of(settings: Settings) -> Quotas:
    """What clients may use with these settings."""
    policy = settings.policy
    return Quotas(
        max_channels=policy.max_channels,
        max_total_capacity=policy.max_total_capacity,
        per_key=settings.api.max_requests_per_key,
    )


def _health(standing: Callable[[], Standing]) -> list[BaseRoute]:
    """What the API answers too, for probes that reach only this listener."""

    async def alive(_request: Request) -> Response:
        return Response(to_json(AliveBody(alive=True)), 200, media_type=JSON)

    async def ready(_request: Request) -> Response:
        now = standing()
        body = ReadyBody(ready=now.operational, watching=now.watching, phase=now.phase, reasons=now.reasons)
        return Response(to_json(body), 200 if now.operational else 503, media_type=JSON)

    return [Route("/healthz", alive, methods=["GET"]), Route("/readyz", ready, methods=["GET"])]
