"""From the table of endpoints to routes: read the request, run the use case in a worker thread, write the answer."""

from __future__ import annotations

import time
from itertools import groupby
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from watchtower.http.auth import Claim, Gate, require_scope
from watchtower.http.body import BODY_SECONDS, MAX_BODY, check_announced, read_body
from watchtower.http.buckets import Buckets, group_of
from watchtower.http.endpoint import Call, Endpoint, Reply, read_query
from watchtower.http.endpoints import ENDPOINTS
from watchtower.http.openapi import PATH as OPENAPI_PATH
from watchtower.http.openapi import document
from watchtower.http.principal import NOBODY, Principal
from watchtower.http.problems import EdgeRefusal
from watchtower.http.services import Services
from watchtower.wire.hexes import from_json, to_json

JSON = "application/json"
REPLAYED = "Idempotency-Replayed"
"""Header of an answer to bytes that were stored before; the body is the same as the first time."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client may use: body in bytes, its arrival in seconds, requests a second per address and per key."""

    max_body: int = MAX_BODY
    body_seconds: float = BODY_SECONDS
    per_address: float = 50.0
    per_key: float = 50.0


class Api:
    """The endpoints of the table over the services of one tower."""

    def __init__(self, services: Services, gate: Gate, limits: Limits) -> None:
        self._services = services
        self._gate = gate
        self._limits = limits
        self._addresses = Buckets(limits.per_address)
        self._keys = Buckets(limits.per_key)

    def routes(self) -> list[Route]:
        """One route per address; its methods are the rows of the table with this address."""
        by_path = groupby(sorted(ENDPOINTS, key=lambda endpoint: endpoint.path), key=lambda endpoint: endpoint.path)
        found = [self._route(path, {endpoint.method: endpoint for endpoint in rows}) for path, rows in by_path]
        return [*found, _openapi_route()]

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
        body = None if endpoint.body is None else from_json(raw, endpoint.body)
        call = Call(str(request.path_params.get("id", "")), query, body, principal)
        result = await run_in_threadpool(self._run, endpoint, call)
        return _response(result if isinstance(result, Reply) else Reply(result), endpoint)

    def _limit_address(self, request: Request) -> None:
        group = group_of(request.client.host) if request.client is not None else None
        if group is not None:
            self._addresses.take(group, time.monotonic())

    def _admit(self, claim: Claim, request: Request, raw: bytes, endpoint: Endpoint) -> Principal:
        principal = self._gate.admit(claim, request, raw)
        if principal.key is not None:
            self._keys.take(principal.key, time.monotonic())
            if not endpoint.takes_parties:
                raise EdgeRefusal("forbidden", "this needs a token of the operator")
        assert endpoint.scope is not None
        require_scope(principal, endpoint.scope)
        return principal

    def _run(self, endpoint: Endpoint, call: Call) -> Any:
        if call.principal.key is not None and endpoint.names_channel:
            self._services.require_owner(call.name, call.principal.key)
        return endpoint.call(self._services, call)


def _response(reply: Reply, endpoint: Endpoint) -> Response:
    status = reply.status or endpoint.statuses[0]
    headers = {REPLAYED: "true"} if reply.replayed else {}
    return Response(to_json(reply.body), status, headers, JSON)


def _openapi_route() -> Route:
    raw = to_json(document())

    async def served(request: Request) -> Response:
        del request
        return Response(raw, 200, media_type=JSON)

    return Route(OPENAPI_PATH, served, methods=["GET"])
