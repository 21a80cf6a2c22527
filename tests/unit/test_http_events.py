"""Event streams: what is sent, what is left out, and how a client goes on after an interruption."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from domain.units import Side
from tests.support.parties import Pair, open_pair
from tests.support.serving import Clients, served
from tests.support.towers import TOKEN, TOWER_ID, Bench
from watchtower.client.errors import ChannelNotFound, UnexpectedAnswer
from watchtower.client.tower import following
from watchtower.client.tower.following import EventReader, follow
from watchtower.client.tower.request_signing import PartySigner
from watchtower.devnode.launch import free_ports
from watchtower.http import feed
from watchtower.http.nonces import TooBusy
from watchtower.http.routes import EventStream, Limits
from watchtower.wire.events import EventBody

HEARTBEAT = 0.05
PATIENCE = 60.0
"""Seconds for what comes at once on a machine that has nothing else to do."""


@pytest.fixture
def pair() -> Pair:
    """A channel with state 0."""
    return open_pair()


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """A tower whose streams are seldom silent for long."""
    tower = Bench(tmp_path)
    tower.limits = Limits(heartbeat=HEARTBEAT)
    return tower


@pytest_asyncio.fixture
async def clients(tower: Bench) -> AsyncIterator[Clients]:
    """The tower on a socket."""
    async with served(tower.app) as clients:
        yield clients


@pytest_asyncio.fixture
async def http(clients: Clients) -> AsyncIterator[httpx.AsyncClient]:
    """The operator."""
    async with httpx.AsyncClient(
        base_url=clients.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE
    ) as http:
        yield http


def update(tower: Bench, pair: Pair) -> None:
    """The next state is stored."""
    pair.update()
    tower.services.accept_state(pair.channel_id.hex(), pair.update_request(Side.B, pair.sequence))


async def taken(count: int, events: AsyncIterator[EventBody]) -> list[EventBody]:
    """The first events of a stream."""
    found: list[EventBody] = []
    async with asyncio.timeout(PATIENCE), aclosing(events) as stream:  # type: ignore[type-var]
        while len(found) < count:
            found.append(await anext(stream))
    return found


def slug_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and slug of a problem."""
    return answer.status_code, answer.json()["type"].removeprefix("urn:state-channel:")


@pytest.mark.asyncio
async def test_history_and_then_what_happens(tower: Bench, pair: Pair, http: httpx.AsyncClient) -> None:
    """From the beginning: the same entries as the timeline, then new ones as they are stored."""
    name = tower.registered(pair)
    timeline = (await http.get(f"/v1/channels/{name}/timeline")).json()["entries"]
    events = follow(http, f"/v1/channels/{name}/events", after=0)
    past = [await anext(events) for _ in timeline]
    asyncio.get_running_loop().call_later(2 * HEARTBEAT, update, tower, pair)
    fresh = (await taken(1, events))[0]

    assert [(entry["version"], entry["text"]) for entry in timeline] == [(each.version, each.text) for each in past]
    assert ("StateUpdated", name) == (fresh.kind, fresh.channel_id.hex())
    assert sorted({each.id for each in past} | {fresh.id}) == [*(each.id for each in past), fresh.id]


@pytest.mark.asyncio
async def test_the_form_on_the_wire(tower: Bench, pair: Pair, http: httpx.AsyncClient) -> None:
    """Headers for proxies; an id, a kind and JSON per event; comments with the position in silence."""
    name = tower.registered(pair)
    lines: list[str] = []
    async with asyncio.timeout(PATIENCE), http.stream("GET", f"/v1/channels/{name}/events?after=0") as answer:
        async for line in answer.aiter_lines():
            lines.append(line)
            if lines.count(": still here") == 2:
                break

    assert "text/event-stream; charset=utf-8" == answer.headers["content-type"]
    assert ("no", "no-store") == (answer.headers["x-accel-buffering"], answer.headers["cache-control"])
    assert [": still here", "id: 0", "", "id: 2"] == lines[:4]
    assert f"id: {tower.store.last_id()}" in lines
    body: dict[str, Any] = json.loads(next(line for line in lines if line.startswith("data: "))[6:])
    assert {"id", "channel_id", "version", "recorded_at", "height", "kind", "text", "txid"} == set(body)


@pytest.mark.asyncio
async def test_last_event_id_wins_over_after(tower: Bench, pair: Pair, http: httpx.AsyncClient) -> None:
    """A browser repeats the address and adds the header."""
    tower.registered(pair)
    last = tower.store.last_id()
    async with (
        asyncio.timeout(PATIENCE),
        http.stream("GET", "/v1/events?after=0", headers={"Last-Event-ID": str(last - 1)}) as answer,
    ):
        ids = [line async for line in aiter_until(answer, f"id: {last}") if line.startswith("id: ")]

    assert [f"id: {last - 1}", f"id: {last}"] == ids


@pytest.mark.asyncio
async def test_a_reader_who_was_told_more_than_a_restored_log_holds_hears_what_comes(
    tower: Bench, pair: Pair, http: httpx.AsyncClient
) -> None:
    """Its position lies beyond the end of the log; waiting for it would pass over what is stored until then."""
    name = tower.registered(pair)
    last = tower.store.last_id()
    events = follow(http, f"/v1/channels/{name}/events", after=last + 100)
    asyncio.get_running_loop().call_later(2 * HEARTBEAT, update, tower, pair)
    async with asyncio.timeout(10):
        fresh = (await taken(1, events))[0]

    assert ("StateUpdated", True) == (fresh.kind, last < fresh.id <= last + 100)


async def aiter_until(answer: httpx.Response, last: str) -> AsyncIterator[str]:
    """Lines up to this one."""
    async for line in answer.aiter_lines():
        yield line
        if line == last:
            return


@pytest.mark.asyncio
async def test_a_party_sees_its_own_channels(tower: Bench, pair: Pair, clients: Clients) -> None:
    """Of all events only its own; of another's channel nothing."""
    other = open_pair(names=("carol", "dave"))
    foreign = tower.registered(other)
    tower.registered(pair)
    auth = PartySigner(pair.secrets(Side.B).auth, TOWER_ID, now=lambda: tower.clock.wall_microseconds() / 1e6)
    async with httpx.AsyncClient(base_url=clients.url, auth=auth, timeout=PATIENCE) as owner:
        seen = await taken(2, follow(owner, "/v1/events", after=0))
        with pytest.raises(ChannelNotFound):
            await taken(1, follow(owner, f"/v1/channels/{foreign}/events"))

    assert {pair.channel_id} == {each.channel_id for each in seen}


@pytest.mark.asyncio
async def test_others_noise_is_silence(tower: Bench, pair: Pair) -> None:
    """While other channels are busy a quiet one still gets its comments, and a position behind the noise."""
    other = open_pair(names=("carol", "dave"))
    quiet, loud = tower.registered(pair), tower.registered(other)
    subscription = tower.services.subscribe(quiet, None, None)
    began = tower.store.last_id()

    async def rouse(news: asyncio.Event) -> None:
        while True:
            news.set()
            await asyncio.sleep(HEARTBEAT / 10)

    with subscription.feed.reading(None) as news:
        stream = feed.frames(subscription, news, HEARTBEAT)
        said = [await anext(stream)]
        other.update()
        tower.services.accept_state(loud, other.update_request(Side.B, 1))
        noise = asyncio.create_task(rouse(news))
        async with asyncio.timeout(PATIENCE):
            said += [await anext(stream), await anext(stream)]
        noise.cancel()

    positions = [int(each.partition(b"id: ")[2]) for each in said]
    assert [b": still here"] * 3 == [each.partition(b"\n")[0] for each in said]
    assert [began, began + 1, began + 1] == positions


def test_the_log_is_not_read_for_a_key_without_a_channel(tower: Bench, pair: Pair) -> None:
    """Whoever makes a key reads on from where the view stands; an owner reads from where it wants."""
    tower.registered(pair)
    key, stranger = pair.params.keys(Side.B).auth, pair.params.keys(Side.A).auth
    last = tower.store.last_id()

    asked = [(key, 1), (key, None), (stranger, 1), (stranger, None), (stranger, last + 5), (None, 1)]
    begun = [tower.services.subscribe(None, owner, after).after for owner, after in asked]

    assert [1, None, last, None, last + 5, 1] == begun


@pytest.mark.asyncio
async def test_strangers_do_not_take_the_places_of_owners(
    tower: Bench, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One place for keys without a channel: the second one waits, the owner of a channel does not."""
    monkeypatch.setattr(feed, "MAX_STRANGERS", 1)
    tower.registered(pair)
    key, strangers = pair.params.keys(Side.B).auth, [bytes([number]) * 32 for number in (1, 2)]
    first, second, owner = (tower.services.subscribe(None, each, None) for each in (*strangers, key))

    with first.feed.reading(first.owner, is_stranger=first.is_stranger):
        with pytest.raises(TooBusy), second.feed.reading(second.owner, is_stranger=second.is_stranger):
            pass
        with owner.feed.reading(owner.owner, is_stranger=owner.is_stranger):
            pass
    with second.feed.reading(second.owner, is_stranger=second.is_stranger) as news:
        assert not news.is_set()


@pytest.mark.asyncio
async def test_an_interrupted_client_misses_nothing(tower: Bench, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tower dies and comes back: every event arrives, each once and in order."""
    monkeypatch.setattr(following, "FIRST_PAUSE", 0.01)
    name = tower.registered(pair)
    first = tower.store.last_id()
    (port,) = free_ports(1)  # wanted again
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE) as http:
        async with served(tower.app, port=port) as clients:
            http.base_url = httpx.URL(clients.url)
            events = follow(http, f"/v1/channels/{name}/events", after=first)
            update(tower, pair)
            before = await anext(events)
        update(tower, pair)
        async with served(tower.app, port=port):
            between = await anext(events)
            update(tower, pair)
            after = (await taken(1, events))[0]

    assert ["StateUpdated"] * 3 == [before.kind, between.kind, after.kind]
    assert sorted({before.version, between.version, after.version}) == [before.version, between.version, after.version]


@pytest.mark.asyncio
async def test_a_revoked_token_reads_no_further(tower: Bench, clients: Clients) -> None:
    """The stream ends with the next silence."""
    token, entry = tower.access.create_token("reader", ("channels:read",), 1)
    async with (
        httpx.AsyncClient(base_url=clients.url, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE) as http,
        asyncio.timeout(PATIENCE),
        http.stream("GET", "/v1/events") as answer,
    ):
        lines = answer.aiter_lines()
        await anext(lines)
        tower.access.revoke_token(entry.id)
        rest = [line async for line in lines]

    assert set(rest) <= {": still here", f"id: {tower.store.last_id()}", ""}


@pytest.mark.asyncio
async def test_streams_are_limited(
    tower: Bench, pair: Pair, clients: Clients, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many readers are a problem document; one that leaves makes room."""
    tower.registered(pair)
    monkeypatch.setattr(feed, "MAX_PER_KEY", 1)
    auth = PartySigner(pair.secrets(Side.B).auth, TOWER_ID, now=lambda: tower.clock.wall_microseconds() / 1e6)
    async with httpx.AsyncClient(base_url=clients.url, auth=auth, timeout=PATIENCE) as owner:
        async with owner.stream("GET", "/v1/events") as answer:
            refused = await owner.get("/v1/events")
            monkeypatch.setattr(feed, "MAX_READERS", 1)
            also_refused = await http.get("/v1/events")
        await asyncio.wait_for(clients.answered(), PATIENCE)
        async with owner.stream("GET", "/v1/events") as again:
            pass

    assert (200, 200) == (answer.status_code, again.status_code)
    assert [(503, "too-busy")] * 2 == [slug_of(refused), slug_of(also_refused)]


@pytest.mark.asyncio
async def test_a_reader_that_takes_nothing_is_left(tower: Bench) -> None:
    """A full connection does not keep its place for ever."""
    subscription = tower.services.subscribe(None, None, 0)
    stream = EventStream(subscription, Limits(slow_reader=0.01), lambda: True)

    async def full(message: object) -> None:
        await asyncio.Event().wait()

    async def connected() -> dict[str, str]:
        await asyncio.Event().wait()
        raise AssertionError("never")

    async with asyncio.timeout(PATIENCE):
        await stream({"type": "http", "asgi": {"spec_version": "2.3"}}, connected, full)  # type: ignore[arg-type]

    assert {} == subscription.feed._readers


@pytest.mark.asyncio
@pytest.mark.parametrize("bad", ["-1", "1e3", "²", "9" * 20, "x"])
async def test_positions_that_are_none(tower: Bench, bad: str) -> None:
    """A typed refusal for the header and for the parameter."""
    async with tower.http() as http:
        by_header = await http.get("/v1/events", headers={"Last-Event-ID": bad.encode()})  # type: ignore[dict-item]
        by_query = await http.get("/v1/events", params={"after": bad})

    assert [(400, "malformed")] * 2 == [slug_of(by_header), slug_of(by_query)]


@pytest.mark.asyncio
async def test_head_of_a_stream_ends(http: httpx.AsyncClient) -> None:
    """HEAD tells the headers of a stream and does not wait for events."""
    answer = await http.head("/v1/events")

    assert (200, "no") == (answer.status_code, answer.headers["x-accel-buffering"])


@pytest.mark.slow
def test_the_thread_ends_after_the_last_reader(tower: Bench) -> None:
    """Nobody waits for the log when nobody reads."""

    async def read_shortly() -> threading.Thread | None:
        subscription = tower.services.subscribe(None, None, 0)
        with subscription.feed.reading(None):
            return subscription.feed._thread

    waiting = asyncio.run(read_shortly())
    assert waiting is not None
    waiting.join(feed.WAIT + PATIENCE)

    assert not waiting.is_alive()


class Readers(dict[Any, Any]):
    """Tells the thread that nobody reads, and keeps it from ending until `go` is set or a moment is over."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.go = threading.Event(), threading.Event()

    def __len__(self) -> int:
        count = super().__len__()
        if count == 0 and threading.current_thread().name == "feed":
            self.seen.set()
            self.go.wait(0.1)
        return count


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_reader_that_comes_while_the_thread_ends_is_woken(tower: Bench, pair: Pair) -> None:
    """The thread has seen that nobody reads and still lives: the new reader has one all the same."""
    tower.registered(pair)
    source = tower.services.subscribe(None, None, 0).feed
    source._readers = readers = Readers()
    with source.reading(None):
        ending = source._thread
    assert ending is not None
    assert await asyncio.to_thread(readers.seen.wait, PATIENCE)
    with source.reading(None) as news:
        readers.go.set()
        await asyncio.to_thread(ending.join, PATIENCE)
        update(tower, pair)
        async with asyncio.timeout(PATIENCE):
            await news.wait()


@pytest.mark.asyncio
async def test_what_is_stored_before_the_thread_looks_wakes_a_reader(
    tower: Bench, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that gets its first moment late must not begin behind what the reader waits for."""
    tower.registered(pair)
    source, may_run = tower.services.subscribe(None, None, 0).feed, threading.Event()
    run = threading.Thread.run

    def late(thread: threading.Thread) -> None:
        assert thread.name != "feed" or may_run.wait(PATIENCE)
        run(thread)

    monkeypatch.setattr(threading.Thread, "run", late)
    with source.reading(None) as news:
        update(tower, pair)
        may_run.set()
        async with asyncio.timeout(PATIENCE):
            await news.wait()


# ── the reader ───────────────────────────────────────────────────────────────────────────────────────────

EVENT = (
    '{"id":7,"channel_id":"'
    + "ab" * 32
    + '","version":3,"recorded_at":5,"height":null,"kind":"StateUpdated","text":"t"}'
)
STREAM = f": hello\nid: 6\n\nid: 7\nevent: StateUpdated\ndata: {EVENT}\n\nid: 9\n\n"


@given(st.lists(st.integers(0, len(STREAM)), max_size=10))
def test_a_stream_may_be_cut_anywhere(cuts: list[int]) -> None:
    """Wherever the network divides the text: the same events and position."""
    borders = [0, *sorted(cuts), len(STREAM)]
    reader = EventReader()
    found = [event for begin, end in pairwise(borders) for event in reader.read(STREAM[begin:end])]

    assert [7] == [event.id for event in found]
    assert 9 == reader.position


def test_an_interrupted_event_is_forgotten() -> None:
    """Half an event of the old connection is not joined with the new one."""
    reader = EventReader()
    half = reader.read(f"id: 7\ndata: {EVENT[:20]}")
    reader.restart()

    assert ([], [7]) == (half, [event.id for event in reader.read(STREAM)])


@given(st.integers(0, len(STREAM)))
def test_an_event_that_was_cut_comes_again(cut: int) -> None:
    """Wherever the connection broke: the position is never behind an event that did not arrive."""
    reader = EventReader()
    arrived = [event.id for event in reader.read(STREAM[:cut])]

    reader.restart()

    assert arrived == [number for number in (7,) if number <= (reader.position or 0)]


@pytest.mark.parametrize("text", ["data: {}\n\n", "data: " + "x" * 2_000_000, "data: no json\n\n"])
def test_what_no_tower_sends(text: str) -> None:
    """A typed error, and no memory without bounds."""
    with pytest.raises(UnexpectedAnswer):
        EventReader().read(text)
