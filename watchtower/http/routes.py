"""From the table of endpoints to routes: read the request, run the use case in a worker thread, write the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import cache
from itertools import groupby
from typing import Any

import msgspec
import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from domain.errors import MalformedInput
from watchtower.http.auth import Claim, Gate, require_scope
from watchtower.http.body import BODY_SECONDS, MAX_BODY, check_announced, read_body, refuse_repeated_names
from watchtower.http.buckets import Buckets, group_of
from watchtower.http.endpoint import Call, Endpoint, Reply, read_query
from watchtower.http.endpoints import ENDPOINTS
from watchtower.http.feed import Subscription, frames
from watchtower.http.openapi import EVENT_STREAM, document
from watchtower.http.openapi import PATH as OPENAPI_PATH
from watchtower.http.principal import NOBODY, Principal
from watchtower.http.problems import EdgeRefusal
from watchtower.http.services import Services
from watchtower.wire.hexes import from_json, to_json

JSON = "application/json"
STREAM_HEADERS = {"X-Accel-Buffering": "no"}
"""A proxy must hand events on as they come."""

BYTES_BURST = 60.0
"""Seconds of bytes that a key may send at once: a party that was away uploads what it has."""

_log = structlog.get_logger(__name__)

REPLAYED = "Idempotency-Replayed"
"""Header of an answer to bytes that were stored before; the body is the same as the first time."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client may use: body in bytes, its arrival in seconds, requests a second per address and per key.

    `bytes_per_key` are those of bodies in a second. `heartbeat` is the silence of an event stream in seconds,
    `slow_reader` how long one may not take what is sent.
    """

    max_body: int = MAX_BODY
    body_seconds: float = BODY_SECONDS
    per_address: float = 50.0
    per_key: float = 50.0
    bytes_per_key: float = 131_072.0
    heartbeat: float = 15.0
    slow_reader: float = 30.0


class Api:
    """The endpoints of the table over the services of one tower."""

    def __init__(self, services: Services, gate: Gate, limits: Limits) -> None:
        self._services = services
        self._gate = gate
        self._limits = limits
        self._addresses = Buckets(limits.per_address)
        self._keys = Buckets(limits.per_key)
        self._bytes = Buckets(limits.bytes_per_key, burst=BYTES_BURST, unit="bytes")

    def use(self, limits: Limits) -> None:
        """Other limits for the requests that come now; from the event loop's thread."""
        self._limits = limits
        self._addresses.refill(limits.per_address)
        self._keys.refill(limits.per_key)
        self._bytes.refill(limits.bytes_per_key)

    def routes(self) -> list[Route]:
        """One route per address; its methods are the rows of the table with this address."""
        by_path = groupby(sorted(ENDPOINTS, key=lambda endpoint: endpoint.path), key=lambda endpoint: endpoint.path)
        found = [self._route(path, {endpoint.method: endpoint for endpoint in rows}) for path, rows in by_path]
        return [*found, openapi_route()]

    def _route(self, path: str, rows: dict[str, Endpoint]) -> Route:
        async def answer(request: Request) -> Response:
            # Starlette answers HEAD where there is GET.
            return await self._answer(request, rows["GET" if request.method == "HEAD" else request.method])

        return Route(path, answer, methods=list(rows))

    async def _answer(self, request: Request, endpoint: Endpoint) -> Response:
        """Cheap checks first: size, rate of the address, credential, rate of the key, and only then the content."""
        if endpoint.scope is not None:
            self._limit_address(request)
        claim = None if endpoint.scope is None else self._gate.claim(request)
        raw = b""
        if endpoint.body is not None:
            check_announced(request, self._limits.max_body)
            raw = await read_body(request, self._limits.max_body, self._limits.body_seconds)
        principal = NOBODY if claim is None else self._admit(claim, request, raw, endpoint)
        query = read_query(request.query_params.multi_items(), endpoint.query)
        body = None if endpoint.body is None else _read_document(raw, endpoint.body)
        position = _last_event_id(request) if endpoint.is_stream else None
        named = request.path_params
        call = Call(str(named.get("id", "")), query, body, position, principal, str(named.get("number", "")))
        with bound_contextvars(**({"channel": call.name} if endpoint.names_channel else {})):
            result = await run_in_threadpool(self._run, endpoint, call)
        if principal.key is not None and endpoint.names_channel:
            self._gate.note_owner(principal.key)
        if isinstance(result, Subscription):
            return self._stream(request, result)
        return _response(result if isinstance(result, Reply) else Reply(result), endpoint)

    def _stream(self, request: Request, subscription: Subscription) -> Response:
        if request.method == "HEAD":
            return Response(None, 200, STREAM_HEADERS, EVENT_STREAM)
        return EventStream(subscription, self._limits, lambda: self._gate.is_still_good(request))

    def _limit_address(self, request: Request) -> None:
        group = group_of(request.client.host) if request.client is not None else None
        if group is not None:
            self._addresses.take(group, time.monotonic())

    def _admit(self, claim: Claim, request: Request, raw: bytes, endpoint: Endpoint) -> Principal:
        principal = self._gate.admit(claim, request, raw)
        if principal.key is not None:
            self._keys.take(principal.key, time.monotonic())
            # What is stored stays: who may send whatever both its parties sign could fill the disk at the rate of its
            # requests alone.
            self._bytes.take(principal.key, time.monotonic(), len(raw))
            if not endpoint.takes_parties:
                raise EdgeRefusal("forbidden", "this needs a token of the operator")
        assert endpoint.scope is not None
        require_scope(principal, endpoint.scope)
        return principal

    def _run(self, endpoint: Endpoint, call: Call) -> Any:
        if call.principal.key is not None and endpoint.names_channel:
            self._services.require_owner(call.name, call.principal.key)
        return endpoint.call(self._services, call)


class EventStream(StreamingResponse):
    """An event stream that ends when its reader takes nothing for a while, or when `allowed` says no."""

    def __init__(self, subscription: Subscription, limits: Limits, allowed: Callable[[], bool]) -> None:
        super().__init__((), 200, STREAM_HEADERS, EVENT_STREAM)
        self._subscription = subscription
        self._limits = limits
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, if there is room for one more reader."""
        # A reader is counted before the answer begins: too many of them are a problem document.
        wanted = self._subscription
        with wanted.feed.reading(wanted.owner, is_stranger=wanted.is_stranger) as news:
            self.body_iterator = frames(wanted, news, self._limits.heartbeat, self._allowed)
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Send the frames; a connection that is not read is left, and uvicorn ends it."""

        async def in_time(message: Message) -> None:
            async with asyncio.timeout(self._limits.slow_reader):
                await send(message)

        try:
            await super().stream_response(in_time)
        except TimeoutError:
            _log.info("event_stream_ended", reason="the reader takes nothing")


def _read_document(raw: bytes, form: type[Any]) -> Any:
    document = from_json(raw, form)
    refuse_repeated_names(raw)
    return document


def _last_event_id(request: Request) -> int | None:
    text = request.headers.get("last-event-id")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 14):
        raise MalformedInput("Last-Event-ID is the id of an event, a whole number")
    return int(text)


def _response(reply: Reply, endpoint: Endpoint) -> Response:
    status = reply.status or endpoint.statuses[0]
    headers = {REPLAYED: "true"} if reply.replayed else {}
    return Response(to_json(reply.body), status, headers, JSON)


@cache
def _openapi() -> bytes:
    """Made once per process, at the first request: the table does not change while it runs."""
    return to_json(document())


def openapi_route() -> Route:
    """The description of the API, for either listener."""

    async def served(request: Request) -> Response:
        del request
        return Response(_openapi(), 200, media_type=JSON)

    return Route(OPENAPI_PATH, served, methods=["GET"])
