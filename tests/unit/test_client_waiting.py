"""`wait_for_status`: which news end it, and what it says when none does."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import httpx
import pytest

from domain.as_of import AsOf
from tests.support.sdk import HALF, desk, tower_at
from tests.support.towers import TIP
from watchtower.client import ChannelInfo, StateUpdate
from watchtower.client.errors import ConfigurationError
from watchtower.client.tower import calls

pytestmark = pytest.mark.asyncio


async def test_a_status_that_holds_is_not_waited_for(tmp_path: Path) -> None:
    """The first look is enough. (That events wake is shown where a real server tells them: test_request_signing.)"""
    async with desk(tmp_path) as at:
        channel_id = await at.open()

        assert "ACTIVE" == (await at.client.wait_for_status(channel_id, "ACTIVE", timeout_ms=30_000)).status


async def test_a_funding_that_grows_deeper_without_an_event_ends_the_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where three confirmations are wanted the log tells of the first one; the others are blocks like all."""
    monkeypatch.setattr(calls, "LOOK_AGAIN", 0.05)
    tower = tower_at(tmp_path, confirmations=3)
    looks, thrice = itertools.count(1), asyncio.Event()

    async def counted(request: httpx.Request) -> httpx.Response:
        if waiting is not None and not request.url.path.endswith("/events") and next(looks) == 3:
            thrice.set()
        return await tower.transport().handle_async_request(request)

    waiting: asyncio.Task[ChannelInfo] | None = None
    async with desk(tmp_path, tower=tower, transport=httpx.MockTransport(counted)) as at:
        channel_id = await at.open()
        tower.tip = TIP - 4
        waiting = asyncio.create_task(at.client.wait_for_status(channel_id, "ACTIVE", timeout_ms=30_000))
        await thrice.wait()
        shallow = await at.client.get_channel_info(channel_id)
        tower.tip += 1
        deep = await waiting

    assert ["FUNDING_BROADCAST", "ACTIVE"] == [shallow.status, deep.status]


async def test_a_confirmation_counts_before_the_tip_has_moved(tmp_path: Path) -> None:
    """Who hears of the event may ask at once: the log has the block, and the cursor's height follows a moment later."""
    async with desk(tmp_path) as at:
        channel_id = await at.open()
        at.tower.tip = TIP - 6

        info, funding = await at.client.get_channel_info(channel_id), await at.client.get_funding_status(channel_id)
        made = await at.client.update_state(StateUpdate(channel_id, 1, [HALF - 1_000, HALF + 1_000], "payment"))

    assert ("ACTIVE", True, 1) == (info.status, funding.confirmed, made.sequence)


async def test_a_tower_that_is_away_for_a_while_does_not_end_the_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart of the tower lasts longer than the pause between two looks; the channel is found when it is back."""
    monkeypatch.setattr(calls, "LOOK_AGAIN", 0.05)
    tower = tower_at(tmp_path, confirmations=3)
    left: list[httpx.ConnectError] = []
    looked, was_away = asyncio.Event(), asyncio.Event()

    async def restarting(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return await tower.transport().handle_async_request(request)
        looked.set()
        if not left:
            return await tower.transport().handle_async_request(request)
        was_away.set()
        raise left.pop()

    async with desk(tmp_path, tower=tower, transport=httpx.MockTransport(restarting)) as at:
        channel_id = await at.open()
        tower.tip = TIP - 4
        looked.clear()
        waiting = asyncio.create_task(at.client.wait_for_status(channel_id, "ACTIVE", timeout_ms=30_000))
        await looked.wait()
        left += [httpx.ConnectError("it restarts")] * 3
        await was_away.wait()
        tower.tip += 1
        found = await waiting

    assert ("ACTIVE", []) == (found.status, left)


async def test_a_list_by_status_says_the_same_as_each_channel(tmp_path: Path) -> None:
    """A funding that is not deep enough is no active channel, though the view of the log has it as confirmed."""
    tower = tower_at(tmp_path, confirmations=3)
    async with desk(tmp_path, tower=tower) as at:
        await at.open()
        tower.tip = TIP - 4
        shallow = [len(await at.client.list_channels(status)) for status in ("FUNDING_BROADCAST", "ACTIVE")]
        tower.tip += 1
        deep = [len(await at.client.list_channels(status)) for status in ("FUNDING_BROADCAST", "ACTIVE")]
        past = await at.client.list_channels(as_of=AsOf(position=tower.store.last_id()))
        same = await at.client.list_channels(past[0].status, AsOf(position=tower.store.last_id()))

    assert ([1, 0], [0, 1], past) == (shallow, deep, same)
    assert "FUNDING_BROADCAST" == past[0].status


@pytest.mark.slow
async def test_waiting_says_what_the_channel_is_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """The status that it has, or that there is no such channel; whoever waits again and again gathers no tasks."""
    async with desk(tmp_path) as at:
        channel_id = await at.open()
        before = asyncio.all_tasks()

        with pytest.raises(TimeoutError, match=f"channel {channel_id[:16]} is ACTIVE after 1000 ms, not SETTLED"):
            await at.client.wait_for_status(channel_id, "SETTLED", timeout_ms=1_000)
        with pytest.raises(TimeoutError, match="is not known to the tower after 1000 ms"):
            await at.client.wait_for_status("ab" * 32, "ACTIVE", timeout_ms=1_000)
        assert set() == asyncio.all_tasks() - before


async def test_waiting_does_not_call_a_channel_unknown_that_it_has_not_heard_of(tmp_path: Path) -> None:
    """A tower that is slow has not said that there is no such channel."""
    tower = tower_at(tmp_path)
    is_silent = False

    async def slow(request: httpx.Request) -> httpx.Response:
        if is_silent:
            await asyncio.Event().wait()
        return await tower.transport().handle_async_request(request)

    async with desk(tmp_path, tower=tower, transport=httpx.MockTransport(slow)) as at:
        channel_id = await at.open()
        is_silent = True
        with pytest.raises(TimeoutError, match="is not told by the tower after 50 ms, not ACTIVE"):
            await at.client.wait_for_status(channel_id, "ACTIVE", timeout_ms=50)
        is_silent = False


async def test_waiting_for_a_misspelt_status_is_refused(tmp_path: Path) -> None:
    """It would be waited for without end."""
    async with desk(tmp_path) as at:
        channel_id = await at.open()
        for wrong in (("active",), ()):
            with pytest.raises(ConfigurationError, match="a status is one of PROPOSED, "):
                await at.client.wait_for_status(channel_id, *wrong)
