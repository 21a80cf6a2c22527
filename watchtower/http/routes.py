"""From the table of endpoints to routes: read the request, run the use case in a worker thread, write the answer."""

from __future__ import annotations

from itertools import groupby

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from watchtower.http.auth import require_token
from watchtower.http.body import MAX_BODY, read_body
from watchtower.http.endpoint import OPERATOR, Call, Endpoint, Principal, Reply, read_query
from watchtower.http.endpoints import ENDPOINTS
from watchtower.http.openapi import PATH as OPENAPI_PATH
from watchtower.http.openapi import document
from watchtower.http.services import Services
from watchtower.wire.hexes import to_json

JSON = "application/json"
REPLAYED = "Idempotency-Replayed"
"""Header of an answer to bytes that were stored before; the body is the same as the first time."""


class Api:
    """The endpoints of the table over the services of one tower."""

    def __init__(self, services: Services, token_sha256: bytes, max_body: int = MAX_BODY) -> None:
        self._services = services
        self._token_sha256 = token_sha256
        self._max_body = max_body

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
        principal = self._authenticate(request, endpoint)
        query = read_query(request.query_params.multi_items(), endpoint.query)
        body = None if endpoint.body is None else await read_body(request, endpoint.body, self._max_body)
        call = Call(str(request.path_params.get("id", "")), query, body, principal)
        result = await run_in_threadpool(endpoint.call, self._services, call)
        return _response(result if isinstance(result, Reply) else Reply(result), endpoint)

    def _authenticate(self, request: Request, endpoint: Endpoint) -> Principal:
        if endpoint.scope is not None:
            require_token(request, self._token_sha256)
        return OPERATOR


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
