"""`SyncStateChannelClient` is the same as `StateChannelClient`, without asyncio: method by method, and in threads."""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.parties import open_pair
from tests.support.towers import TOKEN, Bench
from watchtower.client import StateChannelClient, StateChannelConfig, SyncStateChannelClient
from watchtower.client.errors import ChannelNotFound, NotConnected, TowerUnreachable

CONFIG = StateChannelConfig(network="regtest")


def public(kind: type[object]) -> dict[str, Callable[..., Any]]:
    """Public methods by name."""
    return {name: method for name, method in inspect.getmembers(kind, callable) if not name.startswith("_")}


METHODS = sorted(public(StateChannelClient))


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """B's tower."""
    return Bench(tmp_path)


@pytest.fixture
def client(tower: Bench) -> Iterator[SyncStateChannelClient]:
    """A connected synchronous client."""
    with SyncStateChannelClient(CONFIG, url="http://tower", token=TOKEN, transport=tower.transport()) as made:
        yield made


def test_both_have_the_same_methods() -> None:
    """Nothing is missing; the twin adds only how it is made and ended."""
    assert {"of", "close"} == set(public(SyncStateChannelClient)) - set(METHODS)
    assert set() == set(METHODS) - set(public(SyncStateChannelClient))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "follow"])
def test_every_method_has_the_same_signature_and_docstring(name: str) -> None:
    """Names, defaults, annotations and texts are one; only awaiting is gone."""
    asynchronous, synchronous = getattr(StateChannelClient, name), getattr(SyncStateChannelClient, name)

    assert inspect.signature(asynchronous) == inspect.signature(synchronous)
    assert inspect.getdoc(asynchronous) == inspect.getdoc(synchronous) != ""
    assert inspect.get_annotations(asynchronous) == inspect.get_annotations(synchronous)
    assert inspect.iscoroutinefunction(asynchronous)
    assert not inspect.iscoroutinefunction(synchronous)


def test_following_is_the_same_but_for_its_iterator() -> None:
    """`follow` gives an iterator where the other one gives an asynchronous one."""
    asynchronous, synchronous = StateChannelClient.follow, SyncStateChannelClient.follow
    signature = inspect.signature(asynchronous)

    assert inspect.getdoc(asynchronous) == inspect.getdoc(synchronous)
    assert signature.parameters == inspect.signature(synchronous).parameters
    assert "AsyncIterator[EventBody]" == signature.return_annotation
    assert "Iterator[EventBody]" == inspect.signature(synchronous).return_annotation


def test_both_are_made_with_the_same_arguments() -> None:
    """The constructors are one, too."""
    assert inspect.signature(StateChannelClient) == inspect.signature(SyncStateChannelClient)
    assert StateChannelClient.__init__.__doc__ == SyncStateChannelClient.__init__.__doc__


def test_calls_and_errors_come_through(client: SyncStateChannelClient, tower: Bench) -> None:
    """Results are plain values, refusals the same exceptions."""
    pair = open_pair()
    channel_id = tower.registered(pair)

    assert "regtest" == client.get_state().network
    assert "ACTIVE" == client.get_channel_info(channel_id).status
    with pytest.raises(ChannelNotFound):
        client.get_channel_info("ab" * 32)


def test_many_threads_share_a_client(client: SyncStateChannelClient) -> None:
    """Calls from eight threads at once all come back."""
    with ThreadPoolExecutor(8) as pool:
        states = list(pool.map(lambda _: client.get_state(), range(40)))

    assert [1] * 40 == [state.protocol_version for state in states]


def test_close_ends_the_thread_and_may_be_repeated(tower: Bench) -> None:
    """No thread stays behind, and a closed client says that it is."""
    before = set(threading.enumerate())
    client = SyncStateChannelClient(CONFIG, url="http://tower", token=TOKEN, transport=tower.transport())
    client.connect()
    client.close()
    client.close()

    assert set() == left_behind(before)
    with pytest.raises(NotConnected, match="was closed"):
        client.get_state()


def test_a_failed_connect_leaves_nothing_open() -> None:
    """In a `with` block the thread ends as well when there is no tower."""
    before = set(threading.enumerate())
    transport = httpx.MockTransport(_refuse)
    client = SyncStateChannelClient(CONFIG, url="http://nobody", transport=transport)
    with pytest.raises(TowerUnreachable), client:
        pass

    client.close()
    assert set() == left_behind(before)


def left_behind(before: set[threading.Thread]) -> set[threading.Thread]:
    """Threads that came and stay; a loop's workers are told to end and not waited for, and others may end meanwhile."""
    came = set(threading.enumerate()) - before
    for thread in came:
        thread.join(10)
    return {thread for thread in came if thread.is_alive()}


def test_following_ends_with_its_loop(client: SyncStateChannelClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events come as from any iterator; leaving the loop closes the stream."""
    closed = threading.Event()

    async def events(channel_id: str | None = None, after: int | None = None) -> AsyncIterator[str]:
        try:
            for number in range(3):
                yield f"{channel_id} {after} {number}"
        finally:
            closed.set()

    monkeypatch.setattr(client.asynchronous, "follow", events)

    assert ["ab 0 0", "ab 0 1", "ab 0 2"] == list(client.follow("ab", 0))
    closed.clear()
    following = client.follow("ab", 0)
    assert "ab 0 0" == next(following)
    following.close()  # type: ignore[attr-defined]
    assert closed.is_set()


def test_it_does_not_show_its_token() -> None:
    """The repr names network and address only."""
    client = SyncStateChannelClient(CONFIG, token=TOKEN)

    assert "<SyncStateChannelClient regtest at http://127.0.0.1:9815>" == repr(client)
    client.close()


def _refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)
