"""Each party of a payment dies at each of its steps, in front of the disk, behind it, and before it sends.

Made again from its log it goes on. The payment then went through or came back, as a whole: the forwarder has his fee or
what he had, what alice gave carol got, and no HTLC is left anywhere.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.support.hops import HEIGHT, POLICY, Row
from watchtower.ports import StoreBroken

pytestmark = pytest.mark.asyncio
AMOUNT = 50_000
FEE = POLICY.fee(AMOUNT)
STEPS = 100
"""More than any party has in one payment; a party that does not get so far does not die."""


class Death:
    """Passes a number of points; from then on nothing works any more."""

    def __init__(self, points: int) -> None:
        self.left = points
        self.happened = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, name: str) -> None:
        """Pass the point, or be dead."""
        self.left -= 1
        if self.left < 0:
            self._loop.call_soon_threadsafe(self.happened.set)
            raise StoreBroken(f"the disk is gone at {name}")


def settled(row: Row) -> bool:
    """Nothing is pending anywhere, and alice knows how it ended."""
    payments = row.alice.party.payments()
    rests = all(
        not channel.conditions and channel.pending is None and channel.firm is not None
        for end in row.ends
        for channel in end.party.channels()
    )
    return rests and bool(payments) and not any(p.is_open for end in (row.alice, row.bob) for p in end.party.payments())


async def first_life(row: Row, victim: str, points: int) -> bool:
    """Everybody works until one dies; whether it did."""
    mortal = next(end for end in row.ends if end.name == victim)
    async with AsyncExitStack() as life:
        for end in row.ends:
            await life.enter_async_context(end.start(POLICY if end is row.bob else None))
        row.tell_height(HEIGHT)
        await life.enter_async_context(row.linked(row.first))
        await life.enter_async_context(row.linked(row.second))
        invoice = row.carol.payments.invoice(AMOUNT, HEIGHT + 500)
        row.alice.payments.begin(row.route(AMOUNT), invoice)
        death = Death(points)
        mortal.failpoint = death
        done = asyncio.create_task(row.until(lambda: settled(row)))
        dead = asyncio.create_task(death.happened.wait())
        await asyncio.wait((done, dead), return_when=asyncio.FIRST_COMPLETED)
        for task in (done, dead):
            task.cancel()
        await asyncio.gather(done, dead, return_exceptions=True)
        return death.happened.is_set()


async def second_life(row: Row, victim: str) -> None:
    """The dead one is made again from its log, and all go on."""
    next(end for end in row.ends if end.name == victim).revive()
    async with AsyncExitStack() as life:
        for end in row.ends:
            await life.enter_async_context(end.start(POLICY if end is row.bob else None))
        row.tell_height(HEIGHT)
        await life.enter_async_context(row.linked(row.first))
        await life.enter_async_context(row.linked(row.second))
        await row.until(lambda: settled(row))


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["alice", "bob", "carol"])
@pytest.mark.parametrize("offset", range(4))
async def test_a_party_that_dies_at_any_step_of_a_payment(victim: str, offset: int) -> None:
    """Every fourth step in each test, so that they share the work."""
    deaths = 0
    for points in range(offset, STEPS, 4):
        row = Row()
        died = await first_life(row, victim, points)
        await second_life(row, victim)
        balances = (
            row.alice.balance(row.first),
            row.bob.balance(row.first) + row.bob.balance(row.second),
            row.carol.balance(row.second),
        )
        whole = (500_000 - AMOUNT - FEE, 1_000_000 + FEE, 500_000 + AMOUNT)
        assert balances in (whole, (500_000, 1_000_000, 500_000)), f"{victim} died after {points} points"
        if not died:
            break
        deaths += 1
    assert deaths > 2
