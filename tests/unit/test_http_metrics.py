"""What the edge of the API counts: by route and not by path, refusals by their reason, what is under way."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.types import Message, Scope

from domain.units import Side
from tests.support.parties import Pair, open_pair
from tests.support.serving import served
from tests.support.towers import TOKEN, TOWER_ID, Bench
from tests.unit.test_metrics import samples
from watchtower.client.tower.request_signing import PartySigner
from watchtower.http.app import METHODS, create_app
from watchtower.http.connection import ConnectionLimits, Doorman
from watchtower.http.routes import Limits
from watchtower.http.traffic import Traffic
from watchtower.telemetry.catalog import REJECTIONS
from watchtower.telemetry.metrics import Metrics

pytestmark = pytest.mark.slow

JSON = {"Content-Type": "application/json"}
OPERATOR = {"Authorization": f"Bearer {TOKEN}"}
AUTH = f"Authorization: Bearer {TOKEN}\r\n"


class Edge:
    """A tower whose API is measured as in the service."""

    def __init__(self, tower: Bench) -> None:
        self.tower = tower
        self.metrics = Metrics(build=("0", "0", "regtest", "sqlite"), routes=METHODS)
        self.traffic = Traffic(lambda reason: self.metrics.count("http_rejected_total", reason))

    def app(self, **limits: float) -> Starlette:
        """The API with other limits than usual."""
        return create_app(
            self.tower.services,
            gate=self.tower.gate,
            limits=Limits(**limits),  # type: ignore[arg-type]
            observe=self.observe,
            traffic=self.traffic,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self.metrics.count("http_requests_total", method, route, str(status))
        self.metrics.observe("http_request_duration_seconds", route, value=seconds)

    def client(self, host: str = "127.0.0.1", **limits: float) -> httpx.AsyncClient:
        """Somebody at this address."""
        transport = httpx.ASGITransport(self.app(**limits), raise_app_exceptions=False, client=(host, 1))
        return httpx.AsyncClient(transport=transport, base_url="http://tower")

    @property
    def refused(self) -> dict[str, float]:
        """Refusals by reason, those without any left out."""
        found = samples(self.metrics)
        counts = {reason: found["watchtower_http_rejected_total", (reason,)] for reason in REJECTIONS}
        return {reason: number for reason, number in counts.items() if number}


@pytest.fixture
def pair() -> Pair:
    """A channel with state 0."""
    return open_pair()


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    """A tower without channels."""
    return Edge(Bench(tmp_path))


@pytest.mark.slow
@pytest.mark.asyncio
async def test_ten_thousand_strange_requests_make_no_series(edge: Edge) -> None:
    """Random methods, paths and tokens; the number of samples is that of the first scrape, and all are counted."""
    chance = random.Random(6)
    before = samples(edge.metrics)
    app = edge.app()
    for number in range(10_000):
        method = chance.choice(["GET", "POST", "HEAD", "DELETE", "BREW", f"M{number}"])
        path = chance.choice([f"/{number}", f"/v1/channels/{number:064x}", f"/v1/channels/{number}/x", "/v1/info"])
        await app(scope_of(method, path, f"Bearer wt_{number}"), nothing, ignored)
    after = samples(edge.metrics)

    assert set(before) == set(after)
    assert 10_000 == sum(value for (name, _), value in after.items() if name == "watchtower_http_requests_total")


def scope_of(method: str, path: str, token: str) -> Scope:
    """A request as a server hands it over; a client library would take most of the test's time."""
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"authorization", token.encode())],
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
        "scheme": "http",
        "server": ("tower", 80),
    }


async def nothing() -> Message:
    """No body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def ignored(_message: Message) -> None:
    """Nobody reads the answer."""


@pytest.mark.asyncio
async def test_refusals_are_counted_by_their_reason(edge: Edge) -> None:
    """A bad token, one that may not do this, a body that is too large, one that does not arrive in time."""
    token, _ = edge.tower.access.create_token("reader", ("channels:read",), 1)
    async with edge.client(max_body=10) as http:
        await http.get("/v1/info")
        await http.get("/v1/info", headers={"Authorization": f"Bearer {token}"})
        await http.post("/v1/channels", content=b"x" * 11, headers=OPERATOR | JSON)
    async with edge.client(body_seconds=0.01) as http:
        await http.post("/v1/channels", content=never(), headers=OPERATOR | JSON)

    assert {"bad_auth": 1, "forbidden": 1, "body_too_large": 1, "timeout": 1} == edge.refused


async def never() -> object:
    """A body whose end does not come within the time of the test."""
    yield b"{"
    await asyncio.sleep(0.1)
    yield b"}"


@pytest.mark.asyncio
async def test_an_answer_about_the_content_is_no_refusal(edge: Edge) -> None:
    """What was read and judged, and what is not there, were not refused at the edge."""
    async with edge.client() as http:
        http.headers.update(OPERATOR)
        await http.get("/nothing")
        await http.get(f"/v1/channels/{'0' * 64}")
        await http.post("/v1/channels", content=b"{", headers=JSON)

    assert {} == edge.refused


@pytest.mark.asyncio
async def test_too_many_requests_are_counted(edge: Edge) -> None:
    """Two of three requests of one address within a moment."""
    async with edge.client("203.0.113.7", per_address=0.01) as http:
        http.headers.update(OPERATOR)
        for _ in range(3):
            await http.get("/v1/info")

    assert {"rate_limit": 2} == edge.refused


@pytest.mark.asyncio
async def test_a_replay_and_a_wrong_clock_are_told_apart(edge: Edge, pair: Pair) -> None:
    """The same signed request twice, and once more when it is too old."""
    edge.tower.registered(pair)
    request = httpx.Request("GET", "http://tower/v1/info")
    clock = edge.tower.clock
    secret = pair.secrets(Side.B).auth
    PartySigner(secret, TOWER_ID, now=lambda: clock.wall_microseconds() / 1e6).sign(request)
    async with edge.client() as http:
        await http.send(request)
        await http.send(request)
        clock.forward(61)
        await http.send(request)

    assert {"replay": 1, "clock_skew": 1} == edge.refused


@pytest.mark.asyncio
async def test_connections_beyond_the_limit_are_overload(edge: Edge) -> None:
    """One place, two connections: the second is answered 503 and counted."""
    doorman = Doorman(ConnectionLimits(total=1), refused=edge.traffic.overloaded)
    async with served(edge.app(), doorman=doorman) as clients:
        await clients.opened(b"GET /v1/in")
        second = await clients.opened(b"GET /healthz HTTP/1.1\r\nHost: tower\r\n\r\n")
        answer = await second.read()

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert {"overload": 1} == edge.refused


@pytest.mark.asyncio
async def test_requests_and_streams_are_under_way_until_they_end(edge: Edge) -> None:
    """A body that is on its way is a request, an open event stream is not; nothing stays when both have ended."""
    half = (
        f"POST /v1/channels HTTP/1.1\r\nHost: t\r\n{AUTH}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{{"
    )
    stream = f"GET /v1/events HTTP/1.1\r\nHost: t\r\n{AUTH}\r\n"
    async with served(edge.app()) as clients:
        await clients.opened(half.encode())
        events = await clients.opened(stream.encode())
        await events.readuntil(b"still here")
        meanwhile = edge.traffic.in_flight, edge.traffic.streams

    assert (1, 1) == meanwhile
    assert (0, 0) == (edge.traffic.in_flight, edge.traffic.streams)
