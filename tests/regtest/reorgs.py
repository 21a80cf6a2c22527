"""What a reorganization is looked at with."""

from __future__ import annotations

from domain.channel import Spend
from domain.events import (
    Payload,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.world import World
from tests.support.parties import Pair


def present(world: World, pair: Pair) -> Spend:
    """The spend of the funding output that counts now."""
    spend = world.channel(pair).present_spend
    assert spend is not None
    return spend


def named(world: World, pair: Pair, *kinds: type[Payload]) -> list[str]:
    """Names of the channel's events of these types, in order."""
    return [type(event).__name__ for event in world.events(pair) if isinstance(event, kinds)]


def mempool_penalty(world: World, pair: Pair, sequence: int) -> Transaction:
    """Our penalty in the mempool; it pays the owner's sweep script."""
    spender = world.mempool_spender(world.contest(pair, sequence))
    assert spender is not None
    assert [output.spk for output in spender.outputs] == [bytes(pair.registration(Side.B).sweep_spk)]
    return spender


def punished(world: World, pair: Pair, sequence: int) -> Transaction:
    """A stale commitment in a block and its penalty in the next one."""
    world.node.generate_block([pair.commitment(Side.A, sequence)])
    world.look()
    world.node.mine(1)
    world.look()
    penalty = world.penalty_of(pair, sequence)
    assert penalty is not None
    assert world.status(pair) == "PUNISHED"
    return penalty


def mined_penalty(world: World, pair: Pair, sequence: int) -> Transaction:
    """Our penalty on the chain."""
    penalty = world.penalty_of(pair, sequence)
    assert penalty is not None
    return penalty
