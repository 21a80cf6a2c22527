"""The two ASGI applications: the API for clients and the admin listener for the operator."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from secrets import token_hex

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from domain.errors import DomainError
from watchtower.http.auth import Gate, require_scope
from watchtower.http.endpoints import ENDPOINTS, PATHS
from watchtower.http.openapi import PATH as OPENAPI_PATH
from watchtower.http.problems import REQUEST_HEADER, REQUEST_ID, problem_response, route_of
from watchtower.http.routes import Api, Limits
from watchtower.http.services import Services
from watchtower.http.traffic import Traffic
from watchtower.ports import WatchtowerError

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Observe = Callable[[str, str, int, float], None]
"""(method, route template, status, seconds) of every answered request."""

ROUTES = (*PATHS, OPENAPI_PATH)
"""Route templates for metric labels; everything else is `unmatched`."""

METHODS: dict[str, tuple[str, ...]] = {
    **{path: tuple(each.method for each in ENDPOINTS if each.path == path) for path in PATHS},
    OPENAPI_PATH: ("GET",),
}
"""Route template -> the methods that it has."""


def unobserved(method: str, route: str, status: int, seconds: float) -> None:
    """Measure nothing."""
    del method, route, status, seconds


def create_app(
    services: Services,
    *,
    gate: Gate,
    limits: Limits | None = None,
    observe: Observe = unobserved,
    traffic: Traffic | None = None,
) -> Starlette:
    """The client API behind a gate; `traffic` is told what goes on. `state.api` of the app is the `Api`."""
    api = Api(services, gate, limits or Limits())
    traffic = traffic or Traffic()

    async def problem(request: Request, error: Exception) -> Response:
        traffic.refused(error)
        return problem_response(error, request)

    app = Starlette(
        routes=api.routes(),
        exception_handlers={
            DomainError: problem,
            WatchtowerError: problem,
            HTTPException: problem,
            Exception: problem,
        },
        middleware=[Middleware(_Edge, observe=observe, traffic=traffic)],
    )
    # A redirect to the address without the slash would be built from the Host header, which anybody chooses.
    app.router.redirect_slashes = False
    app.state.api = api
    return app


def create_admin_app(
    render: Callable[[], bytes],
    gate: Gate | None = None,
    *,
    routes: Sequence[BaseRoute] = (),
    middleware: Sequence[Middleware] = (),
) -> Starlette:
    """The admin listener: `/metrics`, and `routes`. With a gate `/metrics` needs a token of scope `metrics:read`."""

    async def metrics(request: Request) -> Response:
        if gate is not None:
            require_scope(gate.token_only(request), "metrics:read")
        return Response(await run_in_threadpool(render), 200, media_type=METRICS_TYPE)

    refusals = {DomainError: _problem, WatchtowerError: _problem, HTTPException: _problem, Exception: _problem}
    app = Starlette(
        routes=[Route("/metrics", metrics, methods=["GET"]), *routes],
        exception_handlers=refusals,
        middleware=list(middleware),
    )
    app.router.redirect_slashes = False
    return app


async def _problem(request: Request, error: Exception) -> Response:
    return problem_response(error, request)


class _Edge:
    """Measures every request and sets the headers that every answer carries."""

    def __init__(self, app: ASGIApp, observe: Observe, traffic: Traffic) -> None:
        self._app = app
        self._observe = observe
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Ours, never the client's: lines of two requests must not be joined because somebody wants it so.
        request_id = scope[REQUEST_ID] = token_hex(8)
        with bound_contextvars(request_id=request_id):
            await self._measured(scope, receive, send)

    async def _measured(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_header = (REQUEST_HEADER.lower().encode(), scope[REQUEST_ID].encode())
        started, status, first_byte = time.perf_counter(), 500, 0.0
        self._traffic.began()

        async def watched(message: Message) -> None:
            nonlocal status, first_byte
            if message["type"] == "http.response.start":
                status = message["status"]
                is_stream = any(value.startswith(b"text/event-stream") for _, value in message["headers"])
                if is_stream:
                    first_byte = time.perf_counter() - started
                    self._traffic.became_stream()
                message["headers"] = [
                    *message["headers"],
                    request_header,
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            # A stream lasts as long as its reader wants: what counts is how soon it begins.
            self._traffic.ended(is_stream=first_byte > 0)
            seconds = first_byte or time.perf_counter() - started
            self._observe(scope["method"], route_of(Request(scope)), status, seconds)
