"""What was known when, over HTTP and in the SDK: a breach and its penalty, looked at from before, between and after."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio

from domain.as_of import AsOf, time_text
from domain.chain import display
from domain.units import Side
from tests.simulation.pool import prepared
from tests.support.parties import open_pair
from tests.support.small_world import SmallWorld
from tests.support.towers import TOKEN, TOWER_ID
from watchtower.access import AccessFile
from watchtower.channels import past
from watchtower.client import LogPoint, StateChannelClient, StateChannelConfig, SyncStateChannelClient, at_time
from watchtower.client.errors import (
    ChannelNotFound,
    Forbidden,
    MalformedRequest,
    PastIsTooLong,
    PointNotFound,
    TowerUnavailable,
)
from watchtower.client.tower.request_signing import PartySigner
from watchtower.http.app import create_app
from watchtower.http.auth import Gate
from watchtower.http.routes import Limits
from watchtower.http.services import Standing, bind

CONFIG = StateChannelConfig(network="regtest")
NOW = 1_700_000_000


class Story(msgspec.Struct):
    """A tower after the story, the heights of its acts, and the block that a reorg took away."""

    world: SmallWorld
    transport: httpx.ASGITransport
    owner: bytes
    channel: str
    funded: int
    breach: int
    penalty: int
    lost_block: str

    def client(self, **how: Any) -> StateChannelClient:
        """The operator's client, or that of `auth`."""
        credential = how or {"token": TOKEN}
        return StateChannelClient(CONFIG, url="http://tower", transport=self.transport, **credential)


def served(world: SmallWorld, directory: Path) -> httpx.ASGITransport:
    """The API of a tower."""
    standing = Standing(operational=True, watching=True, phase="watching", height=world.chain.height)
    services = bind(world.context, lambda: standing, version="1.2.3", network="regtest", tower_id=TOWER_ID)
    gate = Gate(
        sha256(TOKEN.encode()).digest(),
        AccessFile(directory / "access.json"),
        tower_key=TOWER_ID,
        is_owner=lambda _key: True,
        now=lambda: float(NOW),
    )
    return httpx.ASGITransport(create_app(services, gate=gate, limits=Limits()), raise_app_exceptions=False)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Opened, updated to state 4, breached with state 2, punished; then one block was replaced."""
    world = SmallWorld()
    world.open()
    funded = world.chain.height
    world.clock.forward(600)
    world.cheat(2)
    world.look()
    breach = world.chain.height
    world.clock.forward(600)
    world.chain.mine()
    world.look()
    penalty = world.chain.height
    world.chain.mine_many(1)
    world.look()
    lost = display(world.chain.tip.hash)
    world.chain.reorg(1, [[], []])
    world.look()
    return Story(
        world=world,
        transport=served(world, tmp_path_factory.mktemp("past")),
        owner=open_pair(names=("sim_0_a", "sim_0_b"), challenge_period=prepared(0).period).secrets(Side.A).auth,
        channel=world.channel.params.channel_id.hex(),
        funded=funded,
        breach=breach,
        penalty=penalty,
        lost_block=lost,
    )


@pytest_asyncio.fixture
async def client(story: Story) -> AsyncIterator[StateChannelClient]:
    """The operator."""
    async with story.client() as connected:
        yield connected


@pytest_asyncio.fixture
async def party(story: Story) -> AsyncIterator[StateChannelClient]:
    """The owner of the channel, who signs; it takes no connection, because that would be one more request."""
    signer = PartySigner(story.owner, TOWER_ID, now=lambda: float(NOW))
    async with story.client(auth=signer) as connected:
        yield connected


@pytest.fixture
def twin(story: Story) -> Iterator[SyncStateChannelClient]:
    """The operator without asyncio."""
    with SyncStateChannelClient(CONFIG, url="http://tower", token=TOKEN, transport=story.transport) as connected:
        yield connected


# ── one channel ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_breach_from_before_between_and_after(story: Story, client: StateChannelClient) -> None:
    """ACTIVE as of the block before it, UNILATERAL as of its own, PUNISHED as of that of the penalty."""
    heights = (story.funded, story.breach, story.penalty)
    infos = [await client.get_channel_info(story.channel, AsOf(height=height)) for height in heights]

    assert ["ACTIVE", "UNILATERAL", "PUNISHED"] == [info.status for info in infos]
    assert [0, 4, 4] == [info.current_sequence for info in infos]
    assert list(heights) == [info.as_of.height for info in infos if info.as_of is not None]
    assert infos[0].liquidity is not None


@pytest.mark.asyncio
async def test_every_position_tells_the_states_one_after_the_other(story: Story, client: StateChannelClient) -> None:
    """Positions, ids and the state that was the newest then say the same; the present is the last position."""
    last = story.world.store.last_id()
    first = next(each.id for each in story.world.store.read_log(0, last) if each.envelope.stream == story.world.stream)
    seen = []
    for position in range(first + 2, last + 1):  # a registration is three events, the last one state 0
        info = await client.get_channel_info(story.channel, AsOf(position=position))
        state = await client.get_channel_state(story.channel, AsOf(id=position))
        assert (info.current_sequence, info.status) == (state.sequence, state.status)
        assert position == (state.as_of or LogPoint(position=0)).position
        seen.append(info.current_sequence)
    present = await client.get_channel_info(story.channel)

    assert [0, 1, 2, 3, 4] == sorted(set(seen))
    assert seen == sorted(seen)
    assert present == msgspec.structs.replace(info, as_of=None)


@pytest.mark.asyncio
async def test_a_time_is_that_of_the_last_event(story: Story, client: StateChannelClient) -> None:
    """As of the microsecond of the breach it is known; as of the one before it is not."""
    events = story.world.store.read_stream(story.world.stream)
    at = next(each.payload.recorded_at for each in events if type(each.payload).__name__ == "BreachDetected")

    known = await client.get_channel_info(story.channel, AsOf(at=time_text(at)))
    unknown = await client.get_channel_info(story.channel, AsOf(at=time_text(at - 1)))

    assert ("UNILATERAL", "ACTIVE") == (known.status, unknown.status)


@pytest.mark.asyncio
async def test_the_timeline_ends_at_the_point(story: Story, client: StateChannelClient) -> None:
    """It is the beginning of that of now, in pages that belong to one point."""
    now = await client.get_timeline(story.channel)
    then = await client.get_timeline(story.channel, AsOf(height=story.breach))

    assert now[: len(then)] == then
    assert "BreachDetected" == then[-1].kind
    assert "PenaltyPrepared" == now[len(then)].kind


@pytest.mark.asyncio
async def test_pages_of_a_timeline_of_then(story: Story) -> None:
    """`next` leads to the point and not beyond it."""
    async with httpx.AsyncClient(
        transport=story.transport, base_url="http://tower", headers={"Authorization": f"Bearer {TOKEN}"}
    ) as http:
        path = f"/v1/channels/{story.channel}/timeline?height={story.breach}&limit=3"
        found, after = [], 0
        while after is not None:
            page = (await http.get(f"{path}&after={after}")).json()
            found += [entry["version"] for entry in page["entries"]]
            after = page["next"]
        whole = (await http.get(f"{path[:-1]}1000")).json()

    assert list(range(1, len(found) + 1)) == found
    assert [entry["version"] for entry in whole["entries"]] == found
    assert None is whole["next"]


@pytest.mark.asyncio
async def test_a_block_that_left_the_chain_is_a_point(story: Story, client: StateChannelClient) -> None:
    """By its hash what the tower believed then; by its height what is there now."""
    lost = await client.get_channel_info(story.channel, AsOf(block=story.lost_block))
    there = await client.get_channel_info(story.channel, AsOf(height=story.penalty + 1))

    assert lost.as_of is not None
    assert there.as_of is not None
    assert (story.lost_block, lost.as_of.height) == (lost.as_of.tip_hash, there.as_of.height)
    assert lost.as_of.position < there.as_of.position


def test_the_twin_answers_alike(story: Story, twin: SyncStateChannelClient) -> None:
    """Every call about the past, without asyncio."""
    point = AsOf(height=story.breach)

    assert "UNILATERAL" == twin.get_channel_info(story.channel, point).status
    assert 4 == twin.get_channel_state(story.channel, as_of=point).sequence
    assert story.breach == twin.get_state(point).height
    assert 1 == len(twin.list_channels(as_of=point))
    assert "BreachDetected" == twin.get_timeline(story.channel, as_of=point)[-1].kind


# ── the whole tower ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_the_tower_before_and_after_the_breach(story: Story, client: StateChannelClient) -> None:
    """Its tip, its channels by status, and the breach with what was known about it."""
    before = await client.get_state(AsOf(height=story.funded))
    between = await client.get_state(AsOf(height=story.breach))
    after = await client.get_state(AsOf(height=story.penalty))

    assert before.past is not None
    assert between.past is not None
    assert after.past is not None
    assert [{"ACTIVE": 1}, {"UNILATERAL": 1}, {"PUNISHED": 1}] == [
        each.past.channels for each in (before, between, after) if each.past is not None
    ]
    assert [0, 1, 1] == [each.past.open_breaches for each in (before, between, after) if each.past is not None]
    breach, answered = between.past.breaches[0], after.past.breaches[0]
    assert (story.channel, 2, story.breach, None) == (
        breach.channel_id,
        breach.sequence,
        breach.height,
        breach.penalty_txid,
    )
    assert story.penalty == answered.penalty_height
    assert (story.breach, 1, "past", False) == (between.height, between.channels, between.phase, between.watching)
    assert 1 == before.past.clients


@pytest.mark.asyncio
async def test_the_tower_of_now_knows_no_past(story: Story, client: StateChannelClient) -> None:
    """Without a point everything is as ever."""
    state = await client.get_state()

    assert (None, "watching", story.world.chain.height) == (state.past, state.phase, state.height)
    assert [None] == [info.as_of for info in await client.list_channels()]


@pytest.mark.asyncio
async def test_channels_that_were_there(story: Story, client: StateChannelClient) -> None:
    """Before the registration there was none; the status is that of then."""
    assert [] == await client.list_channels(as_of=AsOf(position=1))
    (then,) = await client.list_channels("ACTIVE", AsOf(height=story.funded))
    assert ("ACTIVE", story.funded) == (then.status, then.as_of and then.as_of.height)
    assert [] == await client.list_channels("PUNISHED", AsOf(height=story.funded))


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("as_of", "said"),
    [
        (AsOf(position=100_000), "beyond the end of the log"),
        (AsOf(id=100_000), "beyond the end of the log"),
        (AsOf(height=7), "no block of height 7"),
        (AsOf(block="00" * 32), "never connected the block"),
    ],
)
async def test_points_that_are_not_there(story: Story, client: StateChannelClient, as_of: AsOf, said: str) -> None:
    """404 with a sentence, for a channel and for the tower."""
    with pytest.raises(PointNotFound, match=said) as found:
        await client.get_channel_info(story.channel, as_of)
    with pytest.raises(PointNotFound, match=said):
        await client.get_state(as_of)
    assert (404, "unknown-point") == (found.value.status, found.value.slug)


@pytest.mark.asyncio
async def test_before_its_registration_a_channel_is_unknown(story: Story, client: StateChannelClient) -> None:
    """The point is good; the channel was not there."""
    for ask in (client.get_channel_info, client.get_channel_state, client.get_timeline):
        with pytest.raises(ChannelNotFound, match="not registered yet"):
            await ask(story.channel, AsOf(position=1))  # type: ignore[operator]


@pytest.mark.asyncio
async def test_two_points_are_named_both(story: Story, client: StateChannelClient) -> None:
    """400; so is a time that is none."""
    for query, said in (("height=3&at=x", "both at and height"), ("at=yesterday", "RFC 3339"), ("block=00", "regex")):
        for path in ("/v1/info", "/v1/channels", f"/v1/channels/{story.channel}/state"):
            with pytest.raises(MalformedRequest, match=said):
                await client._call("GET", f"{path}?{query}")


@pytest.mark.asyncio
async def test_a_party_asks_about_its_own_channels_only(story: Story, party: StateChannelClient) -> None:
    """One by one; what the tower as a whole knew is for its operator."""
    point = AsOf(height=story.breach)

    assert "UNILATERAL" == (await party.get_channel_info(story.channel, point)).status
    assert 4 == (await party.get_channel_state(story.channel, point)).sequence
    with pytest.raises(Forbidden, match="one by one"):
        await party.get_state(point)
    with pytest.raises(Forbidden, match="one by one"):
        await party.list_channels(as_of=point)


@pytest.mark.asyncio
async def test_an_answer_has_its_price(
    story: Story, client: StateChannelClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many events to fold are refused; a page of channels ends instead."""
    monkeypatch.setattr(past, "MAX_EVENTS", 5)
    monkeypatch.setattr(past, "PAGE_EVENTS", 1)
    point = AsOf(height=story.breach)

    with pytest.raises(PastIsTooLong, match="watchtower audit"):
        await client.get_state(point)
    with pytest.raises(PastIsTooLong, match="watchtower audit"):
        await client.get_channel_info(story.channel, point)
    monkeypatch.setattr(past, "MAX_EVENTS", 1_000)
    raw, _ = await client._call("GET", "/v1/channels", query=point.query())
    assert 1 == len(msgspec.json.decode(raw)["channels"])


@pytest.mark.asyncio
async def test_few_questions_at_a_time(story: Story, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """503 for one more; the present is not affected."""
    monkeypatch.setattr(past, "AT_ONCE", 0)
    async with StateChannelClient(
        CONFIG, url="http://tower", token=TOKEN, transport=served(story.world, tmp_path)
    ) as busy:
        with pytest.raises(TowerUnavailable):
            await busy.get_channel_info(story.channel, AsOf(height=story.breach))
        assert "PUNISHED" == (await busy.get_channel_info(story.channel)).status


def test_a_time_of_python_is_a_point() -> None:
    """In any time zone."""
    from datetime import datetime, timedelta, timezone

    assert AsOf(at="2026-01-31T12:00:00+00:00") == at_time(
        datetime(2026, 1, 31, 13, tzinfo=timezone(timedelta(hours=1)))
    )
