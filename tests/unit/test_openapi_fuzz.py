"""Schemathesis over the served OpenAPI document, in this process: as the operator with a token, and as a party.

`SCHEMATHESIS_EXAMPLES` sets the cases per operation of the slow run, `SCHEMATHESIS_SEED` makes it other ones.
The event streams are left out: they do not end.
"""

from __future__ import annotations

import os
import re
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import ignored_auth
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.units import Side
from tests.support.parties import open_pair
from tests.support.towers import TOKEN, TOWER_ID, Bench
from watchtower.client.tower.request_signing import PartySigner
from watchtower.http.endpoints import ENDPOINTS
from watchtower.http.openapi import document
from watchtower.http.routes import Limits
from watchtower.wire.hexes import to_json

pytestmark = pytest.mark.slow

Tree = dict[str, Any]
VALID_ID = re.compile(r"[0-9a-f]{4,64}")


class Signed:
    """Signs what passes with the key of a party, as its client would."""

    def __init__(self, app: ASGIApp, signer: PartySigner) -> None:
        self._app = app
        self._signer = signer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Collect the body, add the three headers, hand on."""
        body, more = b"", scope["type"] == "http"
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        request = httpx.Request(scope["method"], httpx.URL("http://tower").copy_with(raw_path=target), content=body)
        self._signer.sign(request)
        names = (b"content-digest", b"signature-input", b"signature")
        headers = [pair for pair in scope["headers"] if pair[0] not in (*names, b"authorization")]
        added = [(name, request.headers[name.decode()].encode()) for name in names]

        async def again() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope | {"headers": headers + added}, again, send)


class Late:
    """Stands for an application that a fixture makes when the schema is loaded already."""

    def __init__(self, table: Tree) -> None:
        self.app: ASGIApp = Starlette(routes=[Route("/openapi.json", lambda _request: Response(to_json(table)))])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on."""
        await self.app(scope, receive, send)


def finite(*, with_credentials: bool) -> Tree:
    """The document without the operations that never end; credentials that it does not know are put on elsewhere."""
    table = document()
    for row in ENDPOINTS:
        if not with_credentials:
            table["paths"][row.path][row.method.lower()]["security"] = []
        if row.is_stream:
            del table["paths"][row.path]
    return table


CONFIG = schemathesis.Config.from_dict(
    {
        "seed": int(os.environ.get("SCHEMATHESIS_SEED", "0")),
        "generation": {"mode": "all", "deterministic": True, "database": "none"},
        "phases": {"coverage": {"enabled": False}, "stateful": {"enabled": False}},
        "checks": {
            # A schema cannot say that bytes are a point of the curve, or that text is even: such values are refused.
            # Nor that a token and a signature exclude each other: 401.
            "positive_data_acceptance": {"expected-statuses": ["2xx", "400", "401", "403", "404", "409", "422", "503"]},
            "negative_data_rejection": {"expected-statuses": ["400", "401", "403", "404", "405", "413", "415", "422"]},
        },
    }
)
OPERATOR, PARTY = Late(finite(with_credentials=True)), Late(finite(with_credentials=False))
FOR_OPERATOR = schemathesis.openapi.from_asgi("/openapi.json", OPERATOR, config=CONFIG)
FOR_PARTY = schemathesis.openapi.from_asgi("/openapi.json", PARTY, config=CONFIG)
QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}
FEW = settings(max_examples=1, **QUIET)  # type: ignore[arg-type]
MANY = settings(max_examples=int(os.environ.get("SCHEMATHESIS_EXAMPLES", "75")), **QUIET)  # type: ignore[arg-type]
TOKEN_HEADER = {"Authorization": f"Bearer {TOKEN}"}
IDS: list[str] = []


@schemathesis.hook("map_path_parameters")
def name_known_channels(_context: object, parameters: Tree | None) -> Tree | None:
    """Half of the valid ids become the one of a channel that exists; wrong ids stay wrong."""
    name = "" if parameters is None else str(parameters.get("id", ""))
    if parameters is not None and VALID_ID.fullmatch(name) and name[0] in "01234567" and IDS:
        return parameters | {"id": IDS[0]}
    return parameters


@pytest.fixture(scope="module", autouse=True)
def tower(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A tower with one channel, behind both applications."""
    tower = Bench(tmp_path_factory.mktemp("tower"))
    # A fast machine asks more often than one key may; what a limit answers is tested elsewhere.
    tower.limits = Limits(per_address=1e9, per_key=1e9)
    pair = open_pair()
    tower.registered(pair)
    tower.access.allow(pair.params.keys(Side.B).auth, "Bob", 1)
    OPERATOR.app = tower.app
    signer = PartySigner(pair.secrets(Side.B).auth, TOWER_ID, now=lambda: tower.clock.wall_microseconds() / 1e6)
    PARTY.app = Signed(tower.app, signer)
    IDS[:] = [pair.channel_id.hex()]
    return tower


@FOR_OPERATOR.parametrize()
@FEW
def test_every_operation_answers_as_it_says(case: schemathesis.Case) -> None:
    """A first look at each operation, with the token."""
    case.call_and_validate(headers=TOKEN_HEADER)


@pytest.mark.slow
@FOR_OPERATOR.parametrize()
@MANY
def test_the_operator_finds_no_failure(case: schemathesis.Case) -> None:
    """Whatever is sent: an answer as the document says, and never a fault."""
    case.call_and_validate(headers=TOKEN_HEADER)


@pytest.mark.slow
@FOR_PARTY.parametrize()
@MANY
def test_a_party_finds_no_failure(case: schemathesis.Case) -> None:
    """The same with signed requests; the signature is added on the way, so leaving it out cannot be tried."""
    case.call_and_validate(excluded_checks=[ignored_auth])
