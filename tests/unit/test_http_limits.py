"""Limits of the HTTP edge: rates, connections, and requests that do not arrive. Real sockets, both protocol classes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.support.clocks import LoopTime
from tests.support.serving import Clients, Protocol, served
from tests.support.towers import TOKEN, Bench
from watchtower.http import connection, routes
from watchtower.http.buckets import BURST, Buckets, RateLimited, group_of
from watchtower.http.connection import GRACE, ConnectionLimits, Doorman, h11_protocol, httptools_protocol
from watchtower.http.routes import Limits
from watchtower.run import listener

SECONDS = 60.0
"""The tests put the loop's clock forward: however slow the machine is, nothing is cut before."""

FEW = ConnectionLimits(seconds=SECONDS, total=3, per_address=2)
MANY = ConnectionLimits(seconds=SECONDS)
AUTH = f"Authorization: Bearer {TOKEN}\r\n"
DRIPS = 20
"""Bytes of a header of which each comes after a tenth of the time for all."""

GOOD = f"GET /v1/info HTTP/1.1\r\nHost: tower\r\n{AUTH}\r\n".encode()
BOTH = pytest.mark.parametrize("protocol", [h11_protocol, httptools_protocol])


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """A tower without channels."""
    return Bench(tmp_path)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Everything that still arrives until the server closes."""
    try:
        async with asyncio.timeout(60):
            return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.mark.asyncio
@BOTH
async def test_requests_that_do_not_arrive_are_cut(
    tower: Bench, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence, half headers, half a body, a drip of header bytes: all connections end; an honest client is served."""
    monkeypatch.setattr(connection, "GRACE", SECONDS)  # a machine that stands still for long still sends its 408
    tower.limits = Limits(body_seconds=SECONDS)
    half_body = f"POST /v1/channels HTTP/1.1\r\nHost: t\r\n{AUTH}Content-Type: application/json\r\n"
    async with served(tower.app, protocol, Doorman(MANY)) as clients:
        held = [
            await clients.opened(),
            await clients.opened(b"GET /v1/info HTTP/1.1\r\nHost: to"),
            await clients.opened(half_body.encode(), b"Content-Length: 100\r\n\r\n{"),
            await clients.opened(GOOD, b"GET /v1/in"),
        ]
        async with httpx.AsyncClient(base_url=clients.url, timeout=60) as honest:
            honest.headers["Authorization"] = f"Bearer {TOKEN}"
            statuses = [(await honest.get("/v1/info")).status_code for _ in range(10)]
        dripped = await dripping(clients, 2 * SECONDS / 10)
        heard = [await ended(reader) for reader in held]

    assert [200] * 10 == statuses
    assert [b"", b""] == heard[:2]
    assert heard[2].startswith(b"HTTP/1.1 408 ")
    assert heard[3].startswith(b"HTTP/1.1 200 ")
    assert 5 < dripped < 11


async def dripping(clients: Clients, pause: float) -> int:
    """Send a header byte by byte, with a pause behind each; returns how many came before the connection ended."""
    time = LoopTime()
    reader = await clients.opened(b"GET /v1/info HTTP/1.1\r\nX-Drip: ")
    writer = clients.writers[-1]
    for number in range(DRIPS):
        with suppress(ConnectionError):
            writer.write(b"a")
            await writer.drain()
        await asyncio.sleep(0.01)  # the server is in the same loop, and reads
        time.forward(pause)
        await asyncio.sleep(0.01)  # what is due happens
        if reader.at_eof() or reader.exception() is not None:
            return number
    raise AssertionError("nobody ended the connection")


@pytest.mark.asyncio
@BOTH
async def test_a_connection_may_be_used_again_and_again(tower: Bench, protocol: Protocol) -> None:
    """The timer belongs to a request, not to the connection: pauses between requests do not add up."""
    time, statuses = LoopTime(), []
    async with served(tower.app, protocol, Doorman(MANY)) as clients:
        reader = await clients.opened()
        for _ in range(8):
            clients.writers[0].write(GOOD)
            head = await reader.readuntil(b"\r\n\r\n")
            statuses.append(head[:12])
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            time.forward((SECONDS + GRACE) / 5)

    assert [b"HTTP/1.1 200"] * 8 == statuses


@pytest.mark.asyncio
@BOTH
async def test_one_address_cannot_take_all_connections(tower: Bench, protocol: Protocol) -> None:
    """Beyond its limit an address is answered 503, far beyond it is cut; when others end it may come again."""
    doorman = Doorman(FEW, group=lambda host: host.encode())
    async with served(tower.app, protocol, doorman) as clients:
        held = [await clients.opened(b"GET ") for _ in range(2)]
        refused = await ended(await clients.opened(GOOD))
        for writer in clients.writers[:2]:
            writer.write(b"\r\n\r\n")
        closed = [await ended(reader) for reader in held]
        again = await (await clients.opened(GOOD)).readline()

    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"urn:state-channel:too-busy" in refused
    assert b"retry-after" in refused.lower()
    assert all(answer.startswith(b"HTTP/1.1 400 ") for answer in closed)
    assert again.startswith(b"HTTP/1.1 200 ")


@pytest.mark.asyncio
@BOTH
async def test_connections_far_beyond_the_limit_are_cut(tower: Bench, protocol: Protocol) -> None:
    """Refusals cost sockets too."""
    async with served(tower.app, protocol, Doorman(FEW, group=lambda _host: None)) as clients:
        for _ in range(6):
            await clients.opened(b"GET ")
        cut = await ended(await clients.opened(GOOD))

    assert b"" == cut


def test_a_doorman_forgets_who_left() -> None:
    """Addresses without connections take no memory."""
    doorman = Doorman(FEW, group=lambda host: host.encode())
    entries = [doorman.enter(host) for host in ("a", "a", "a", "b")]
    for group, _ in entries:
        doorman.leave(group)

    assert [1, 1, 2, 2] == [used for _, used in entries]
    assert (b"a", 1) == doorman.enter("a")
    assert 1 == len(doorman._groups)


# ── rates ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_too_many_requests_of_one_address(tower: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """429 with the seconds to wait, before anything else is looked at; health checks are not counted."""
    monkeypatch.setattr(routes, "group_of", lambda host: host.encode())
    tower.limits = Limits(per_address=0.01)
    async with tower.http() as http:
        statuses = [(await http.get("/v1/info")).status_code for _ in range(2)]
        refused = await http.post("/v1/channels", content=b"x" * 10_000_000)
        health = await http.get("/healthz")

    assert [200, 429] == statuses
    assert (429, "urn:state-channel:rate-limited") == (refused.status_code, refused.json()["type"])
    assert 90 < int(refused.headers["Retry-After"]) <= 100
    assert 200 == health.status_code


def test_a_bucket_fills_again() -> None:
    """A burst of twice the rate, then as many as the rate says; another name has its own bucket."""
    buckets = Buckets(rate=2.0)
    for _ in range(int(2 * BURST)):
        buckets.take(b"a", 0.0)

    with pytest.raises(RateLimited) as caught:
        buckets.take(b"a", 0.0)
    buckets.take(b"b", 0.0)
    buckets.take(b"a", 0.5)
    with pytest.raises(RateLimited):
        buckets.take(b"a", 0.5)
    assert 0.5 == caught.value.seconds


def test_a_bucket_of_bytes_takes_the_largest_body() -> None:
    """What is more than a bucket holds is taken by a full one; then the bucket has to fill again."""
    buckets = Buckets(rate=1_000.0, burst=60.0, unit="bytes")
    buckets.take(b"a", 0.0, 100_000.0)

    with pytest.raises(RateLimited, match="too many bytes") as caught:
        buckets.take(b"a", 0.0, 2_000.0)
    buckets.take(b"a", 2.0, 2_000.0)
    assert 2.0 == caught.value.seconds


def test_buckets_take_bounded_memory() -> None:
    """The one that was not used for longest goes."""
    buckets = Buckets(rate=1.0, capacity=2)
    for name in (b"a", b"b", b"a", b"c"):
        buckets.take(name, 0.0)

    assert [b"a", b"c"] == list(buckets._levels)


@pytest.mark.parametrize(
    ("host", "group"),
    [
        ("192.0.2.7", bytes([192, 0, 2, 7])),
        ("2001:db8:1:2:3:4:5:6", bytes.fromhex("20010db800010002")),
        ("fe80::1%eth0", bytes.fromhex("fe80000000000000")),
        ("::ffff:192.0.2.7", bytes([192, 0, 2, 7])),
        ("127.0.0.1", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("", None),
        ("unix:/run/socket", None),
    ],
)
def test_who_shares_a_limit(host: str, group: bytes | None) -> None:
    """An IPv4 address, or the half of an IPv6 address that its owner cannot choose; never loopback."""
    assert group == group_of(host)


@pytest.mark.asyncio
@pytest.mark.parametrize(("behind_proxy", "host"), [(False, "127.0.0.1"), (True, "192.0.2.7")])
async def test_who_is_believed_about_an_address(behind_proxy: bool, host: str) -> None:
    """A header of the client counts only where the operator said that a proxy writes it."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["client"][0])
        await Response()(scope, receive, send)

    config = listener(app, MANY, behind_proxy=behind_proxy).config
    config.load()
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(config.loaded_app)) as http  # type: ignore[arg-type]
    ):
        await http.get("http://tower/", headers={"X-Forwarded-For": "192.0.2.7"})

    assert [host] == seen
