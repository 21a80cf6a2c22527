"""Channels with HTLCs on a real node: making, closing, settling and claiming them."""

from __future__ import annotations

from typing import Any, TypeVar

from domain.chain import make_outpoint
from domain.contract.conditions import Condition
from domain.contract.settlement import plan_settlement
from domain.events import (
    ClaimConfirmed,
    Payload,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.replaying import live_and_replayed
from tests.regtest.world import World
from tests.support.parties import Pair, htlc
from watchtower.channels.preimages import add_preimage
from watchtower.wire.conditions import PreimageRequest
from watchtower.wire.hexes import SecretHex

T = 2


Event = TypeVar("Event", bound=Payload)


def incoming(number: int, expiry: int, amount: int = 30_000, preimage: bytes | None = None) -> Condition:
    """An HTLC offered by A to B."""
    return htlc(Side.A, number, amount, expiry, preimage)


def outgoing(number: int, expiry: int, amount: int = 40_000, preimage: bytes | None = None) -> Condition:
    """An HTLC offered by B to A."""
    return htlc(Side.B, number, amount, expiry, preimage)


def holding(world: World, *conditions: Condition, **options: Any) -> Pair:
    """A channel whose newest state, 1, holds these conditions; the tower has it."""
    pair = world.open(challenge_period=T, **options)
    world.upload(pair, pair.with_htlcs(*conditions))
    return pair


def close(world: World, pair: Pair, sequence: int = 1, side: Side = Side.A) -> None:
    """The commitment of a state is mined; its settlement is valid in the next block."""
    world.node.generate_block([pair.commitment(side, sequence)])
    world.node.mine(T - 1)
    world.look()


def settle(world: World, pair: Pair) -> None:
    """Close state 1 and mine the settlement, alone: nobody's claim is there yet."""
    close(world, pair)
    world.node.generate_block([pair.settlement(Side.A, 1)])
    world.look()


def mine(world: World, blocks: int = 1) -> None:
    """Mine what is in the mempool, and let the tower see every block."""
    for _ in range(blocks):
        world.node.mine(1)
        world.look()


def mine_to(world: World, height: int) -> None:
    """Grow the chain up to a height, and let the tower see the tip."""
    world.node.mine(height - world.node.height())
    world.look()


def give(world: World, pair: Pair, preimage: bytes) -> None:
    """The owner's client hands a preimage to the tower."""
    add_preimage(world.context, world.stream(pair), PreimageRequest(preimage=SecretHex(preimage)))


def events(world: World, pair: Pair, kind: type[Event]) -> list[Event]:
    """The channel's events of one type."""
    return [event for event in world.events(pair) if isinstance(event, kind)]


def place(pair: Pair, condition: Condition, side: Side = Side.A, sequence: int = 1) -> bytes:
    """The outpoint of a conditional output."""
    settlement = Transaction.parse(pair.settlement(side, sequence))
    content = pair.state(sequence).content
    header = content.read_header()
    vouts = plan_settlement(pair.params, *header.balances, content.read_conditions()).condition_vouts
    return make_outpoint(settlement.txid, vouts[condition.key])


def claim_of(world: World, pair: Pair, condition: Condition, sequence: int = 1) -> Transaction | None:
    """What takes a conditional output in the mempool."""
    return world.mempool_spender(place(pair, condition, sequence=sequence))


def taken(world: World, pair: Pair) -> list[tuple[int, bool]]:
    """Amount of every taken output and whether it was taken by us, in the order of the log."""
    return [(event.value, event.ours) for event in events(world, pair, ClaimConfirmed)]


def assert_replays(world: World) -> None:
    """The views of this story equal those folded anew from its log."""
    live, replayed = live_and_replayed(world)
    assert live == replayed
