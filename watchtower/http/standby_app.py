"""The API of a tower that stands by: it is alive, it is not ready, and everything else is for the tower that leads."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from watchtower.http.problems import problem_response
from watchtower.ports import StandingBy
from watchtower.wire.api import AliveBody, ReadyBody
from watchtower.wire.hexes import to_json

JSON = "application/json"


def create_standby_app(ready: Callable[[], ReadyBody]) -> Starlette:
    """`/healthz` answers 200, `/readyz` 503 with the reasons, every other address the problem `standing-by`."""

    async def health(_request: Request) -> Response:
        return Response(to_json(AliveBody(alive=True)), 200, media_type=JSON)

    async def readiness(_request: Request) -> Response:
        return Response(to_json(ready()), 503, media_type=JSON)

    async def elsewhere(request: Request) -> Response:
        return problem_response(StandingBy("another tower leads the log"), request)

    async def refusal(request: Request, error: Exception) -> Response:
        return problem_response(error, request)

    methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
    return Starlette(
        routes=[
            Route("/healthz", health, methods=["GET"]),
            Route("/readyz", readiness, methods=["GET"]),
            Route("/{path:path}", elsewhere, methods=methods),
        ],
        exception_handlers={HTTPException: refusal, Exception: refusal},
    )
