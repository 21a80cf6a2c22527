"""Faults and attacks at the HTTP edge by their ids (A1 to A14), on real sockets. What other files play stands there."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from statistics import quantiles

import httpx
import pytest

from tests.support.serving import Clients, Protocol, served
from tests.support.towers import TOKEN, Bench
from tests.support.tries import least_of
from watchtower.http.connection import ConnectionLimits, Doorman, h11_protocol, httptools_protocol

BOTH = pytest.mark.parametrize("protocol", [h11_protocol, httptools_protocol])
AUTH = f"Host: t\r\nAuthorization: Bearer {TOKEN}\r\n"
POST = f"POST /v1/channels HTTP/1.1\r\n{AUTH}Content-Type: application/json\r\n"
CHUNK = b"10000\r\n" + b" " * 65_536 + b"\r\n"


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """A tower without channels."""
    return Bench(tmp_path)


def memory() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


async def poured(clients: Clients, head: bytes, part: bytes, most: int) -> tuple[int, bytes]:
    """Send parts until the connection ends or `most` bytes are sent; returns their number and what was answered."""
    reader = await clients.opened(head)
    writer, sent = clients.writers[-1], 0
    answer = asyncio.create_task(heard(reader))
    with suppress(ConnectionError):
        while sent < most:
            writer.write(part)
            await writer.drain()
            sent += len(part)
    async with asyncio.timeout(60):
        return sent, await answer


async def heard(reader: asyncio.StreamReader) -> bytes:
    """What arrives until the connection ends in whatever way."""
    parts = []
    with suppress(ConnectionError):
        while part := await reader.read(65_536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.asyncio
@BOTH
async def test_fault_A2_a_body_without_end(tower: Bench, protocol: Protocol) -> None:
    """Chunks without end: 413 at the limit, the connection is cut soon after, memory stays as it was."""
    async with served(tower.app, protocol) as clients:
        await poured(clients, f"{POST}Transfer-Encoding: chunked\r\n\r\n".encode(), CHUNK, 2**34)
        before = memory()
        sent, answer = await poured(clients, f"{POST}Transfer-Encoding: chunked\r\n\r\n".encode(), CHUNK, 2**34)
        grown = memory() - before

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 32 * 2**20  # what the buffers of both sides hold is sent before anybody can refuse it
    assert grown < 5 * 2**20


@pytest.mark.asyncio
@BOTH
@pytest.mark.parametrize("head", [b"GET /healthz HTTP/1.1\r\nX: ", b"GET /healthz?", b"GET /healthz HTTP/1.1\r\n"])
async def test_fault_A2_a_head_without_end(tower: Bench, protocol: Protocol, head: bytes) -> None:
    """One field, one address, or fields without end: refused at 16 kB instead of being kept in memory."""
    part = b"a: b\r\n" * 1_000 if head.endswith(b"\n") else b"a" * 6_000
    async with served(tower.app, protocol) as clients:
        sent, answer = await poured(clients, head, part, 2**30)

    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert sent < 8 * 2**20


@pytest.mark.asyncio
@BOTH
async def test_fault_A2_trailers_without_end(tower: Bench, protocol: Protocol) -> None:
    """Fields behind the last chunk are read by the parser only: they are cut as well."""
    head = f"{POST}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n".encode()
    doorman = Doorman(ConnectionLimits(request_bytes=2**17))
    async with served(tower.app, protocol, doorman) as clients:
        sent, _ = await poured(clients, head, b"a: b\r\n" * 1_000, 2**30)

    assert sent < 8 * 2**20


@pytest.mark.asyncio
async def test_fault_A2_nothing_is_unpacked(tower: Bench) -> None:
    """A packed body is refused by its header."""
    async with tower.http() as http:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        answer = await http.post("/v1/channels", content=b"\x1f\x8b" + bytes(100), headers=headers)

    assert (415, "urn:state-channel:unsupported-media-type") == (answer.status_code, answer.json()["type"])


@pytest.mark.asyncio
async def test_fault_A3_a_name_that_stands_twice(tower: Bench) -> None:
    """Two readers of the same bytes must not see two requests: repeated names are refused, escaped or not."""
    good = json.dumps({"party": "B", "sequence": 0, "secret": "00" * 32, "next_point": "02" * 33})
    twice = [good[:-1] + ', "sequence": 0}', good[:-1] + ', "\\u0073equence": 1}']
    async with tower.http() as http:
        http.headers["Content-Type"] = "application/json"
        answers = [await http.post(f"/v1/channels/{'0' * 64}/revocations", content=text) for text in (good, *twice)]

    assert [404, 400, 400] == [answer.status_code for answer in answers]
    assert "same name twice" in answers[1].json()["detail"]


@pytest.mark.slow
@pytest.mark.asyncio
@BOTH
async def test_fault_A4_two_hundred_slow_sockets(tower: Bench, protocol: Protocol) -> None:
    """Silence, half heads, half bodies and idle connections, 50 of each: an honest client hardly notices."""
    kinds = [
        b"",
        b"GET /v1/info HTTP/1.1\r\nHost: to",
        f"{POST}Content-Length: 100\r\n\r\n{{".encode(),
        f"GET /v1/info HTTP/1.1\r\n{AUTH}\r\n".encode(),
    ]
    async with served(tower.app, protocol, Doorman(ConnectionLimits(seconds=1.0)), keep_alive=1) as clients:

        async def hindrance() -> float:
            alone = await slowest_percent(clients)
            held = [await clients.opened(kinds[number % 4]) for number in range(200)]
            beside = await slowest_percent(clients)
            async with asyncio.timeout(60):
                await asyncio.gather(*(heard(reader) for reader in held))
            return beside / max(0.5, 3 * alone)  # a machine that is slow by itself is no finding

        hindered = await least_of(hindrance, 1.0)

    assert hindered < 1.0


async def slowest_percent(clients: Clients) -> float:
    """The 99th percentile of 300 honest requests, in seconds."""
    seconds = []
    credential = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=clients.url, headers=credential, timeout=60) as honest:
        for _ in range(300):
            began = time.perf_counter()
            (await honest.get("/v1/info")).raise_for_status()
            seconds.append(time.perf_counter() - began)
    return quantiles(seconds, n=100)[98]


@pytest.mark.slow
@pytest.mark.asyncio
@BOTH
async def test_fault_A4_a_client_that_reads_no_answer(tower: Bench, protocol: Protocol) -> None:
    """Whoever asks and takes nothing loses the connection, also when the answer fits into the buffers."""
    doorman = Watched(ConnectionLimits(unread=1.0))
    async with served(tower.app, protocol, doorman) as clients:
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            lazy.connect(("127.0.0.1", clients.port))
            lazy.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: t\r\n\r\n" * 100)
            async with asyncio.timeout(60):
                await doorman.empty.wait()

    assert 0 == doorman._count


class Watched(Doorman):
    """Tells when a connection has ended."""

    def __init__(self, limits: ConnectionLimits) -> None:
        super().__init__(limits)
        self.empty = asyncio.Event()

    def leave(self, group: bytes | None) -> None:
        """As ever, and tell."""
        super().leave(group)
        self.empty.set()
