"""The connection between client and tower, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.towers import TOKEN, Bench
from watchtower.client import StateChannelClient, StateChannelConfig
from watchtower.client.tower import session
from watchtower.http.connection import ConnectionLimits
from watchtower.run import listener

REGTEST = StateChannelConfig(network="regtest")


@asynccontextmanager
async def closing_behind_each_answer(body: bytes) -> AsyncIterator[str]:
    """Address of a tower that gives up each connection just as the second request of it arrives."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + body)
        await reader.read(1)
        writer.close()
        await writer.wait_closed()

    answering: list[asyncio.Task[None]] = []
    async with await asyncio.start_server(
        lambda *streams: answering.append(asyncio.create_task(answer(*streams))), "127.0.0.1", 0
    ) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*answering)


@pytest.mark.asyncio
async def test_a_connection_that_may_be_closed_by_now_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call after a pause goes over a connection of its own: the tower gives up the old one at any moment."""
    monkeypatch.setattr(session, "IDLE_SECONDS", 0.0)
    async with httpx.AsyncClient(transport=Bench(tmp_path).transport(), base_url="http://tower") as http:
        body = (await http.get("/v1/info", headers={"Authorization": f"Bearer {TOKEN}"})).content

    async with closing_behind_each_answer(body) as url, StateChannelClient(REGTEST, url=url, token=TOKEN) as client:
        states = [await client.get_state() for _ in range(2)]

    assert ["regtest"] * 2 == [state.network for state in states]


def test_the_client_gives_up_an_idle_connection_long_before_the_tower() -> None:
    """A request that meets the tower's close on its way is lost without an answer."""
    tower = listener(lambda: None, ConnectionLimits())

    assert session.IDLE_SECONDS <= tower.config.timeout_keep_alive / 2
