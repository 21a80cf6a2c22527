"""The routes: read the request, run the use case in a worker thread, write the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.errors import MalformedInput
from watchtower.http.auth import require_token
from watchtower.http.body import MAX_BODY, read_body
from watchtower.http.services import Services
from watchtower.wire.api import RegisterRequest, RevocationRequest, UpdateRequest
from watchtower.wire.hexes import to_json

JSON = "application/json"
REPLAYED = "Idempotency-Replayed"
"""Header of an answer to bytes that were stored before; the body is the same as the first time."""

T = TypeVar("T")


class Api:
    """The endpoints under /v1, and those for health checks, which need no token."""

    def __init__(self, services: Services, token_sha256: bytes, max_body: int = MAX_BODY) -> None:
        self._services = services
        self._token_sha256 = token_sha256
        self._max_body = max_body

    def routes(self) -> list[Route]:
        """All routes, most specific first."""
        return [
            Route("/v1/channels", self.register, methods=["POST"]),
            Route("/v1/channels", self.list_channels, methods=["GET"]),
            Route("/v1/channels/{id}", self.get_channel, methods=["GET"]),
            Route("/v1/channels/{id}/states", self.accept_state, methods=["POST"]),
            Route("/v1/channels/{id}/revocations", self.revoke, methods=["POST"]),
            Route("/v1/channels/{id}/funding", self.get_funding, methods=["GET"]),
            Route("/v1/channels/{id}/timeline", self.get_timeline, methods=["GET"]),
            Route("/v1/info", self.get_tower, methods=["GET"]),
            Route("/healthz", self.health, methods=["GET"]),
            Route("/readyz", self.ready, methods=["GET"]),
        ]

    async def register(self, request: Request) -> Response:
        """201 for a new channel, 200 for exactly the same registration again."""
        require_token(request, self._token_sha256)
        body = await read_body(request, RegisterRequest, self._max_body)
        done = await run_in_threadpool(self._services.register, body)
        headers = {} if done.created else {REPLAYED: "true"}
        return Response(to_json(done.channel), 201 if done.created else 200, headers, JSON)

    async def accept_state(self, request: Request) -> Response:
        """200 once the state is durable."""
        require_token(request, self._token_sha256)
        body = await read_body(request, UpdateRequest, self._max_body)
        done = await run_in_threadpool(self._services.accept_state, _name(request), body)
        return _answer(done.answer, {REPLAYED: "true"} if done.duplicate else None)

    async def revoke(self, request: Request) -> Response:
        """200 once the revocation is durable."""
        require_token(request, self._token_sha256)
        body = await read_body(request, RevocationRequest, self._max_body)
        done = await run_in_threadpool(self._services.revoke, _name(request), body)
        return _answer(done.answer, {REPLAYED: "true"} if done.duplicate else None)

    async def list_channels(self, request: Request) -> Response:
        """A page of channels; `after`, `limit`, `status`."""
        require_token(request, self._token_sha256)
        known = _query(request, {"after", "limit", "status"})
        limit = _number(known, "limit", 100)
        after, status = known.get("after"), known.get("status")
        return _answer(await run_in_threadpool(self._services.list_channels, after, limit, status))

    async def get_channel(self, request: Request) -> Response:
        """`ChannelInfo`."""
        return await self._ask(request, lambda: self._services.get_channel(_name(request)))

    async def get_funding(self, request: Request) -> Response:
        """The funding status."""
        return await self._ask(request, lambda: self._services.get_funding(_name(request)))

    async def get_timeline(self, request: Request) -> Response:
        """A page of the channel's history; `after`, `limit`."""
        require_token(request, self._token_sha256)
        known = _query(request, {"after", "limit"})
        after, limit = _number(known, "after", 0), _number(known, "limit", 100)
        return _answer(await run_in_threadpool(self._services.get_timeline, _name(request), after, limit))

    async def get_tower(self, request: Request) -> Response:
        """The service's own state."""
        return await self._ask(request, self._services.get_tower)

    async def health(self, request: Request) -> Response:
        """200 while the event loop answers."""
        del request
        return Response(b'{"alive":true}', 200, media_type=JSON)

    async def ready(self, request: Request) -> Response:
        """200 while states can be stored durably, else 503; the body says whether the tower watches."""
        del request
        body = await run_in_threadpool(self._services.get_ready)
        return Response(to_json(body), 200 if body.ready else 503, media_type=JSON)

    async def _ask(self, request: Request, question: Callable[[], object]) -> Response:
        require_token(request, self._token_sha256)
        _query(request, set())
        return _answer(await run_in_threadpool(question))


def _answer(body: object, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(body), 200, headers, JSON)


def _name(request: Request) -> str:
    return str(request.path_params["id"])


def _query(request: Request, known: set[str]) -> dict[str, str]:
    unknown = set(request.query_params) - known
    if unknown:
        raise MalformedInput(f"query parameter {min(unknown)[:40]!r} is not known here")
    return dict(request.query_params)


def _number(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise MalformedInput(f"query parameter {name} is a whole number")
    return int(text)
