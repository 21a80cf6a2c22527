"""What the core keeps of a channel that is over: next to nothing, however many there were."""

from __future__ import annotations

import gc
import sys
from types import BuiltinFunctionType, FunctionType, ModuleType

import pytest

from domain.transaction import Transaction
from domain.units import FINAL_DEPTH, Side
from tests.support.parties import Pair, open_pair
from tests.support.small_world import SmallWorld
from watchtower import repository
from watchtower.channels.accept_state import accept_state
from watchtower.channels.register import register

CHANNELS = 6
BYTES_PER_CHANNEL = 600
"""Names in two sets, the txid of the penalty, and places in tables that grow in steps."""

CODE = (type, ModuleType, FunctionType, BuiltinFunctionType)


def new_pair(world: SmallWorld, number: int) -> Pair:
    """A registered channel whose funding can be mined."""
    names = (f"memory {number} a", f"memory {number} b")
    pair = open_pair(names=names, challenge_period=24)
    funding = Transaction.parse(pair.funding.raw)
    world.chain.give_coin(funding.inputs[0].outpoint, sum(out.value for out in funding.outputs) + 1_000)
    register(world.context, pair.registration(Side.B))
    return pair


def live(world: SmallWorld, numbers: range) -> list[str]:
    """Channels from their registration to their end, cheated on and punished; the statuses at the end."""
    pairs = [new_pair(world, number) for number in numbers]
    streams = [world.store.stream_id("c", pair.params.proposal_id) for pair in pairs]
    world.chain.mine([pair.funding.raw for pair in pairs])
    world.look()
    for pair, stream in zip(pairs, streams, strict=True):
        accept_state(world.context, stream, pair.update_request(Side.B, pair.update()))
    world.chain.mine([pair.commitment(Side.A, 0) for pair in pairs])
    for _ in range(FINAL_DEPTH + 2):
        world.look()
        world.chain.mine()
    world.look()
    return [str(world.channels.load(stream).status) for stream in streams]


def kept_bytes(world: SmallWorld) -> int:
    """Everything that the core can reach, without what stands for the node, the disk and the test itself."""
    outside = (world.node, world.store, world.keystore, world.models._rows, world.context, world)
    seen, waiting = {id(each) for each in outside}, [world.tower]
    total = 0
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, CODE):
            continue
        seen.add(id(each))
        total += sys.getsizeof(each)
        waiting += gc.get_referents(each)
    return total


@pytest.mark.slow
def test_a_resolved_channel_leaves_next_to_nothing_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six channels are punished and buried, then six more: the second six cost less than 600 bytes each."""
    monkeypatch.setattr(repository, "ENDED", 2)
    world = SmallWorld(undo_limit=5)
    first = live(world, range(CHANNELS))
    before = kept_bytes(world)

    second = live(world, range(CHANNELS, 2 * CHANNELS))

    assert ["RESOLVED"] * 2 * CHANNELS == first + second
    assert (kept_bytes(world) - before) / CHANNELS < BYTES_PER_CHANNEL
