"""Receipts on a real node: a state counts once the tower has signed for it, and then it is punished for."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from domain.events import StateUpdated
from domain.units import Side
from tests.regtest.clients import client_of
from tests.regtest.world import World
from tests.support.parties import Pair
from tests.support.towers import TOWER_ID, TOWER_KEY
from watchtower.channels.context import Context
from watchtower.client.errors import ReceiptForged, ReceiptMissing
from watchtower.client.tower.finality import Finality, Unarmed
from watchtower.receipts.signer import ReceiptSigner
from watchtower.receipts.tower_key import TowerKey


def signing(world: World, key: TowerKey = TOWER_KEY, *, may_sign: bool = True) -> Context:
    """The tower's use cases with this key."""
    signer = ReceiptSigner(key, world.store.meta.log_id, world.store, may_sign=lambda: may_sign)
    return msgspec.structs.replace(world.context, receipts=signer)


def synchronize(world: World, pair: Pair, context: Context) -> None:
    """Bring the tower to where B stands."""

    async def work() -> None:
        async with client_of(world, pair, context=context) as client:
            await client.synchronize(pair.channel_id)

    asyncio.run(work())


def test_scenario_D16_receipt_verification_and_missing_receipt_alarm(world: World) -> None:
    """A bad receipt or none leaves the state unarmed, the owner is told; with a good one a breach is punished."""
    pair = world.open(updates=1)
    synchronize(world, pair, signing(world))
    armed = pair.b.channel(pair.channel_id).final_sequence
    pair.update()

    with pytest.raises(ReceiptForged):
        synchronize(world, pair, signing(world, _Impostor(bytes(31) + b"\x09")))
    told = asyncio.run(_alarmed(world, pair))
    unarmed = pair.b.channel(pair.channel_id).final_sequence
    synchronize(world, pair, signing(world))

    assert (1, 1, 2) == (armed, unarmed, pair.b.channel(pair.channel_id).final_sequence)
    assert (pair.channel_id, True) == (told.channel_id, told.seconds >= 0.05)
    receipt = pair.b.receipts(pair.channel_id)[-1].verified(TOWER_ID)
    stored = world.store.read_log(receipt.position - 1, 1)[0].envelope.payload
    assert isinstance(stored, StateUpdated)
    assert receipt.seq == stored.sequence == 2
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    world.node.mine(1)
    world.look()
    assert world.status(pair) == "PUNISHED"


class _Impostor(TowerKey):
    """Signs with its own key and claims to be the tower."""

    @property
    def tower_id(self) -> bytes:
        return TOWER_ID


async def _alarmed(world: World, pair: Pair) -> Unarmed:
    """The alarm of a client whose tower gives no receipts."""
    told: asyncio.Future[Unarmed] = asyncio.get_running_loop().create_future()
    async with client_of(world, pair, context=signing(world, may_sign=False)) as client:
        finality = Finality(client.synchronize, retry_seconds=0.02, alarm_seconds=0.05, alarm=told.set_result)
        finality.touch(pair.b.channel(pair.channel_id))
        with pytest.raises(ReceiptMissing):
            await finality.settle(pair.channel_id)
        running = asyncio.create_task(finality.run())
        try:
            return await asyncio.wait_for(told, 10)
        finally:
            running.cancel()
