"""The event stream of an open page: what it says, when, and to how many."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from domain.events import Envelope
from domain.units import Side
from tests.support.scenes import Scene
from tests.support.serving import Clients, served
from tests.support.status_towers import PageBench
from watchtower.http.feed import Feed
from watchtower.web import home_view, live
from watchtower.web.live import messages

SECONDS = 30


@pytest.fixture
def tower(tmp_path: Path) -> PageBench:
    """A tower that watches, with one channel."""
    made = PageBench(tmp_path)
    made.watching()
    made.bench.store.append(Scene(Side.A).opened(1).events)
    made.bench.catch_up()
    return made


@pytest_asyncio.fixture
async def clients(tower: PageBench) -> AsyncIterator[Clients]:
    """The page on a real socket."""
    async with served(tower.app) as opened:
        yield opened


def request(position: int | None = None, header: str = "") -> bytes:
    """The request of an `EventSource`."""
    query = "" if position is None else f"?after={position}"
    return f"GET /events{query} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode()


async def next_message(reader: asyncio.StreamReader) -> tuple[str, dict[str, int]]:
    """Kind and data of the next message."""
    async with asyncio.timeout(SECONDS):
        await reader.readuntil(b"event: ")
        kind = (await reader.readuntil(b"\n")).decode().strip()
        await reader.readuntil(b"data: ")
        return kind, json.loads(await reader.readuntil(b"\n\n"))


@pytest.mark.asyncio
async def test_a_page_that_is_up_to_date_waits(tower: PageBench, clients: Clients) -> None:
    """It is greeted, and told of the next event when that is stored."""
    last = tower.bench.store.last_id()
    reader = await clients.opened(request(last))
    assert ("hello", {"position": last}) == await next_message(reader)

    tower.bench.store.append(_more(tower))

    kind, data = await next_message(reader)
    assert ("changed", True) == (kind, data["position"] > last)


@pytest.mark.asyncio
async def test_a_page_that_missed_something_is_told_at_once(tower: PageBench, clients: Clients) -> None:
    """Between drawing and listening nothing gets lost; how much was missed does not matter."""
    reader = await clients.opened(request(1))

    assert ("changed", {"position": tower.bench.store.last_id()}) == await next_message(reader)


@pytest.mark.asyncio
async def test_a_page_that_comes_back_says_what_it_saw(tower: PageBench, clients: Clients) -> None:
    """The browser's own header wins over the address that it was opened with."""
    last = tower.bench.store.last_id()
    reader = await clients.opened(request(1, f"Last-Event-ID: {last}\r\n"))

    assert ("hello", {"position": last}) == await next_message(reader)


@pytest.mark.asyncio
async def test_reasons_wake_pages_too(tower: PageBench, clients: Clients) -> None:
    """They are not in the log, and they are what an operator wants to see first."""
    reader = await clients.opened(request(tower.bench.store.last_id()))
    await next_message(reader)

    tower.board.set("zmq_silent", "")
    assert "changed" == (await next_message(reader))[0]
    tower.board.clear("zmq_silent")
    assert "changed" == (await next_message(reader))[0]


@pytest.mark.asyncio
async def test_pages_are_counted_and_limited(
    tower: PageBench, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listener must have room for Prometheus; a page beyond the limit is told to come back."""
    readers = [await clients.opened(request()) for _ in range(live.STREAMS)]
    for reader in readers:
        await next_message(reader)
    assert (live.STREAMS, 0) == (tower.traffic.streams, tower.traffic.in_flight)

    late = await clients.opened(request())
    assert b" 503 " in await late.readline()


@pytest.mark.asyncio
async def test_silence_ends_with_a_beat(tower: PageBench) -> None:
    """Ages on the page grow although nothing happens."""
    feed = Feed(tower.bench.store, tower.bench.context.channels)
    told = messages(feed, asyncio.Event(), None, lambda: True, heartbeat=0.01)

    said = [await anext(told) for _ in range(3)]

    assert [b"retry", b"hello", b"beat"] == [b"retry", *(text.split(b"event: ")[1].split()[0] for text in said[1:])]


@pytest.mark.asyncio
async def test_a_stream_ends_with_its_visitors_right(tower: PageBench) -> None:
    """A token that was revoked hears nothing more."""
    feed = Feed(tower.bench.store, tower.bench.context.channels)
    told = messages(feed, asyncio.Event(), None, lambda: False)

    assert 2 == len([text async for text in told])


@pytest.mark.asyncio
async def test_the_page_knows_where_it_stands(tower: PageBench) -> None:
    """What the script hands back to the stream."""
    async with tower.visitor() as visitor:
        page: httpx.Response = await visitor.get("/")

    assert f'data-position="{tower.bench.store.last_id()}"' in page.text


@pytest.mark.asyncio
async def test_a_page_that_was_drawn_too_early_says_so(tower: PageBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log grows before the read models do, and sums are a second old: then the page is asked for once more."""
    monkeypatch.setattr(home_view, "SUMS_SECONDS", 3_600.0)  # here so long that both pages come in time
    before = tower.bench.store.last_id()
    tower.bench.store.append(_more(tower))

    async with tower.visitor() as visitor:
        behind: httpx.Response = await visitor.get("/")
        tower.bench.catch_up()
        with_old_sums: httpx.Response = await visitor.get("/")
    async with tower.visitor() as visitor:
        complete: httpx.Response = await visitor.get("/")

    told = [re.findall(r'data-position="(\d+)"', page.text) for page in (behind, with_old_sums, complete)]
    assert [[str(before)], [str(before)], [str(tower.bench.store.last_id())]] == told


def _more(tower: PageBench) -> list[Envelope]:
    scene = Scene(Side.A).opened(2)
    return scene.events[tower.bench.store.version(scene.events[0].stream) :]
