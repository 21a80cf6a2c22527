"""`watchtower.testing`: what the SDK gives to the tests of its users works without any of this project's own fakes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from domain.application import ApplicationRefused, ApplicationState
from watchtower.client import (
    PeerLink,
    StateChannelClient,
    StateChannelConfig,
    StateUpdate,
    SyncStateChannelClient,
    UpdateResult,
)
from watchtower.client.errors import WrongTower
from watchtower.client.payments import Payments, RouteChannel, plan_route
from watchtower.client.peer_errors import PeerRefused
from watchtower.testing import FakeTower, FakeTown

HALF = 500_000


class Countdown:
    """An application whose state is a number that only falls."""

    app_id = b"countdown".ljust(32, b"\0")

    def validate(self, old: ApplicationState | None, new: ApplicationState) -> str | None:
        """See `Application`."""
        return None if old is None or int(new.state_data) < int(old.state_data) else "the number must fall"


@pytest.mark.asyncio
@pytest.mark.parametrize("taproot", [True, False])
async def test_a_channel_lives_in_a_fake_town(taproot: bool) -> None:
    """Opened, updated from both sides, closed together: both towers have it, and the close was sent."""
    async with FakeTown(StateChannelConfig(network="regtest", taproot_enabled=taproot)) as town:
        channel_id = await town.open((HALF, HALF))
        await town.alice.update_state(StateUpdate(channel_id, 1, (HALF - 5, HALF + 5), "five"))
        result = await town.bob.update_state(StateUpdate(channel_id, 2, (HALF, HALF), "back"))
        closed = await town.alice.close_channel_cooperative(channel_id, (HALF, HALF))
        seen = await town.bob.get_channel_state(channel_id)

        assert (2, 2, False) == (result.sequence, result.final_sequence, result.duplicate)
        assert (2, b"back".hex()) == (seen.sequence, seen.state_data)
        assert "COOPERATIVE" == closed.kind


@pytest.mark.asyncio
async def test_an_application_is_tried_in_a_fake_town() -> None:
    """Both parties keep its rules; a state that costs Bob something needs his consent."""
    async with FakeTown(applications=[Countdown()]) as town:
        channel_id = await town.open((HALF, HALF), state_data="9", app_id=Countdown.app_id)
        with pytest.raises(ApplicationRefused, match="must fall"):
            await town.alice.update_state(StateUpdate(channel_id, 1, (HALF, HALF), "10"))
        with pytest.raises(PeerRefused, match="leaves B"):
            await town.alice.update_state(StateUpdate(channel_id, 1, (HALF + 1, HALF - 1), "8"))
        result = await town.alice.update_state(StateUpdate(channel_id, 1, (HALF, HALF), "8"))

        assert 1 == result.final_sequence


@pytest.mark.asyncio
async def test_a_state_that_comes_while_the_tower_is_brought_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tower is told of a release only after it has the state that follows."""
    async with FakeTown() as town:
        channel_id = await town.open((HALF, HALF))
        deliver = town.bob._deliver

        async def overtaken(name: bytes, first: int, stored: UpdateResult) -> UpdateResult:
            result = await deliver(name, first, stored)
            monkeypatch.undo()
            await town.alice.update_state(StateUpdate(channel_id, 1, (HALF, HALF), "meanwhile"))
            return result

        monkeypatch.setattr(town.bob, "_deliver", overtaken)
        town.bob._delivered.clear()
        first = await town.bob.synchronize(bytes.fromhex(channel_id))
        second = await town.bob.synchronize(bytes.fromhex(channel_id))

        assert (0, 1, 1) == (first.sequence, second.sequence, second.final_sequence)


def test_a_fake_tower_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its directory and its threads are gone, also for the synchronous client."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(threading.enumerate())
    with FakeTower() as tower, SyncStateChannelClient(StateChannelConfig(network="regtest"), **tower.options) as client:
        state = client.get_state()

    assert ("regtest", True, 0) == (state.network, state.operational, state.channels)
    # Threads of an earlier test may end meanwhile.
    assert (set(), []) == (set(threading.enumerate()) - before, list(tmp_path.iterdir()))


@pytest.mark.asyncio
async def test_a_fake_tower_is_checked_like_a_real_one() -> None:
    """Another network is another tower."""
    with FakeTower() as tower, pytest.raises(WrongTower, match="serves regtest"):
        await StateChannelClient(StateChannelConfig(network="signet"), **tower.options).connect()


@pytest.mark.asyncio
async def test_a_channel_may_be_closed_right_after_a_payment() -> None:
    """`pay` returns with the preimage, while the update that drops the HTLC is on its way; the close waits for that."""
    async with FakeTown() as town:
        channel_id = await town.open((500_000, 500_000))
        async with _payments(town.bob) as bob, _payments(town.alice) as alice:
            height = (await town.alice.get_state()).height or 0
            invoice = bob.invoice(20_000, payable_until=height + 144)
            route = plan_route([RouteChannel(bytes.fromhex(channel_id), 144)], invoice.amount, height)
            await alice.pay(route, invoice)
            closed = await town.alice.close_channel_cooperative(channel_id, (480_000, 520_000))

    assert "COOPERATIVE" == closed.kind


def _payments(client: StateChannelClient) -> Payments:
    link = client.peer
    assert isinstance(link, PeerLink)
    assert client.party is not None

    async def link_of(_channel_id: bytes) -> PeerLink:
        return link

    return Payments(client.party, link_of, tower=client)
