"""One deadline per call: whatever a call waits for, it ends in time and says whether the next state may be signed.

The time passes when the test lets it; a call that waited beyond its deadline would do so in earnest.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable

import httpx
import pytest

from tests.support.clocks import LoopTime
from tests.support.linking import TIMEOUT_MS, linked
from tests.support.sieve import NEXT, sieves, soon, unanswered
from watchtower.client import StateChannelConfig
from watchtower.client.errors import TowerUnreachable
from watchtower.client.peer_errors import PeerSilent
from watchtower.client.protocol.messages import Message, Reestablish, UpdateOffer, UpdatePropose
from watchtower.client.tower.finality import Finality
from watchtower.client.tower.session import TowerSession

pytestmark = pytest.mark.asyncio
LIMIT = TIMEOUT_MS / 1000


class Watch(LoopTime):
    """Moves the loop's clock and says how much of it has passed."""

    def __init__(self) -> None:
        super().__init__()
        self._began = self.seconds()

    @property
    def passed(self) -> float:
        """Seconds since it was made."""
        return self.seconds() - self._began


@pytest.mark.parametrize(("lost", "signed"), [(UpdateOffer, False), (UpdatePropose, True)])
async def test_who_waits_behind_other_calls_waits_no_longer(lost: type[Message], signed: bool) -> None:
    """Four calls at once with a silent peer: all end at the deadline of one, each with a typed error."""
    near, far = sieves()
    async with linked((near, far)) as two:
        channel_id = await two.open()
        near.lost = far.lost = (lost,)
        watch = Watch()
        calls = asyncio.gather(*(two.b.update(channel_id, NEXT) for _ in range(4)), return_exceptions=True)
        ends = await unanswered(two, near, calls)
        took = watch.passed
        # Asking once more in the same silence, the caller is told what the first call left behind.
        with pytest.raises(PeerSilent) as again:
            await unanswered(two, near, two.b.update(channel_id, NEXT))
        near.lost = far.lost = ()
        sequence = await two.b.update(channel_id, NEXT)

    assert [PeerSilent] * 4 == [type(end) for end in ends]
    assert signed in [end.may_be_signed for end in ends if isinstance(end, PeerSilent)]
    assert signed is again.value.may_be_signed
    assert took < 1.8 * LIMIT
    assert 1 == sequence


async def test_a_late_greeting_leaves_less_time_for_the_answer() -> None:
    """The peer greets shortly before the end and answers nothing: still one deadline."""
    near, far = sieves()
    async with linked((near, far)) as two:
        channel_id = await two.open()
        parties, books = two.parties, two.books
    near, far = sieves()
    near.lost = (Reestablish, UpdateOffer)
    async with linked((near, far), parties, books) as two:
        watch = Watch()
        waiting = asyncio.create_task(two.b.update(channel_id, NEXT))
        await two.rest()
        watch.forward(0.7 * LIMIT)
        near.lost = ()
        far.lost = (Message,)
        await two.a.reconnect()
        await near.lose()
        await two.rest()
        watch.forward(0.4 * LIMIT)
        with pytest.raises(PeerSilent, match=f"{TIMEOUT_MS} ms"):
            await waiting

    assert watch.passed < 1.5 * LIMIT


async def test_own_work_that_hangs_is_not_waited_for() -> None:
    """The own disk does not answer: nobody knows whether the state will be signed, and the error says so."""
    async with linked() as two:
        channel_id = await two.open()
        loop, watch = asyncio.get_running_loop(), Watch()
        begun, free = asyncio.Event(), threading.Event()

        def offer() -> Iterable[Message]:
            loop.call_soon_threadsafe(begun.set)
            free.wait(2 * LIMIT)
            return two.parties[1].offer(channel_id, NEXT, (), b"")

        waiting = asyncio.create_task(two.b.advance(channel_id, offer))
        await soon(begun.wait())
        watch.forward(LIMIT)
        with pytest.raises(PeerSilent, match="may be signed") as silence:
            await soon(waiting)
        free.set()
        sequence = await two.b.update(channel_id, NEXT)

    assert silence.value.may_be_signed
    assert 1 == sequence


async def test_a_tower_that_hangs_is_not_waited_for_either() -> None:
    """The state is complete on both sides; the error is that of a tower, and the upload is tried again."""
    asked: list[bytes] = []
    heard = asyncio.Event()

    async def synchronize(channel_id: bytes) -> None:
        asked.append(channel_id)
        heard.set()
        await asyncio.Event().wait()

    async with linked(finality=Finality(synchronize)) as two:
        channel_id = await two.open()
        watch = Watch()
        waiting = asyncio.create_task(two.a.update(channel_id, NEXT))
        await soon(heard.wait())
        watch.forward(LIMIT)
        with pytest.raises(TowerUnreachable, match="state 1 is signed and complete"):
            await waiting

        assert watch.passed < 1.5 * LIMIT
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
    config = StateChannelConfig(network="regtest", timeout_ms=600)
    session = TowerSession(config, transport=Drip())

    async with asyncio.timeout(LIMIT):
        with pytest.raises(TowerUnreachable, match="600 ms"):
            await session.connect()
