"""One deadline per call: whatever a call waits for, it ends in time and says whether the next state may be signed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterable

import httpx
import pytest

from tests.support.linking import linked
from tests.unit.test_link import NEXT, sieves
from watchtower.client import StateChannelConfig
from watchtower.client.errors import TowerUnreachable
from watchtower.client.finality import Finality
from watchtower.client.messages import Message, Reestablish, UpdateOffer, UpdatePropose
from watchtower.client.peer_errors import PeerSilent
from watchtower.client.session import TowerSession

pytestmark = pytest.mark.asyncio
LIMIT_MS = 600


class Watch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """So far."""
        return time.monotonic() - self._began


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "signed"), [(UpdateOffer, False), (UpdatePropose, True)])
async def test_who_waits_behind_other_calls_waits_no_longer(lost: type[Message], signed: bool) -> None:
    """Four calls at once with a silent peer: all end at the deadline of one, each with a typed error."""
    near, far = sieves()
    async with linked((near, far), timeout_ms=LIMIT_MS) as two:
        channel_id = await two.open()
        near.lost = far.lost = (lost,)
        watch = Watch()
        ends = await asyncio.gather(*(two.b.update(channel_id, NEXT) for _ in range(4)), return_exceptions=True)
        took = watch.seconds
        # Asking once more in the same silence, the caller is told what the first call left behind.
        with pytest.raises(PeerSilent) as again:
            await two.b.update(channel_id, NEXT)
        near.lost = far.lost = ()
        sequence = await two.b.update(channel_id, NEXT)

    assert [PeerSilent] * 4 == [type(end) for end in ends]
    assert signed in [end.may_be_signed for end in ends if isinstance(end, PeerSilent)]
    assert signed is again.value.may_be_signed
    assert took < 1.8 * LIMIT_MS / 1000
    assert 1 == sequence


@pytest.mark.slow
async def test_a_late_greeting_leaves_less_time_for_the_answer() -> None:
    """The peer greets shortly before the end and answers nothing: still one deadline."""
    near, far = sieves()
    async with linked((near, far)) as two:
        channel_id = await two.open()
        parties, books = two.parties, two.books
    near, far = sieves()
    near.lost = (Reestablish, UpdateOffer)
    async with linked((near, far), parties, books, timeout_ms=LIMIT_MS) as two:
        watch = Watch()
        waiting = asyncio.create_task(two.b.update(channel_id, NEXT))
        await asyncio.sleep(0.7 * LIMIT_MS / 1000)
        near.lost = ()
        far.lost = (Message,)
        await two.a.reconnect()
        with pytest.raises(PeerSilent, match=f"{LIMIT_MS} ms"):
            await waiting

    assert watch.seconds < 1.5 * LIMIT_MS / 1000


@pytest.mark.slow
async def test_own_work_that_hangs_is_not_waited_for() -> None:
    """The own disk does not answer: nobody knows whether the state will be signed, and the error says so."""
    async with linked(timeout_ms=LIMIT_MS) as two:
        channel_id = await two.open()
        free = threading.Event()

        def offer() -> Iterable[Message]:
            free.wait(10)
            return two.parties[1].offer(channel_id, NEXT, (), b"")

        with pytest.raises(PeerSilent, match="may be signed") as silence:
            await two.b.advance(channel_id, offer)
        free.set()
        sequence = await two.b.update(channel_id, NEXT)

    assert silence.value.may_be_signed
    assert 1 == sequence


@pytest.mark.slow
async def test_a_tower_that_hangs_is_not_waited_for_either() -> None:
    """The state is complete on both sides; the error is that of a tower, and the upload is tried again."""
    asked: list[bytes] = []

    async def synchronize(channel_id: bytes) -> None:
        asked.append(channel_id)
        await asyncio.Event().wait()

    async with linked(timeout_ms=LIMIT_MS, finality=Finality(synchronize)) as two:
        channel_id = await two.open()
        watch = Watch()
        with pytest.raises(TowerUnreachable, match="state 1 is signed and complete"):
            await two.a.update(channel_id, NEXT)

        assert watch.seconds < 1.5 * LIMIT_MS / 1000
        assert [channel_id] == asked
        assert 1 == two.parties[0].channel(channel_id).sequence


class Drip(httpx.AsyncBaseTransport):
    """A tower whose answer never ends, one byte at a time."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Each piece comes in time."""

        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield b" "
                await asyncio.sleep(0.02)

        return httpx.Response(200, content=pieces())


@pytest.mark.slow
async def test_an_answer_without_end_ends_in_time() -> None:
    """The limit is that of the whole request to the tower, not of each piece of the answer."""
    config = StateChannelConfig(network="regtest", timeout_ms=LIMIT_MS)
    session = TowerSession(config, transport=Drip())

    async with asyncio.timeout(5):
        with pytest.raises(TowerUnreachable, match=f"{LIMIT_MS} ms"):
            await session.connect()
