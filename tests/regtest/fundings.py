"""Registrations of channels whose funding is a test's own."""

from __future__ import annotations

from collections.abc import Callable

from domain.transaction import Transaction, TxIn, TxOut
from domain.units import Side
from tests.regtest.world import World
from tests.support.parties import Pair, make_party, open_pair
from watchtower.channels.register import register
from watchtower.devnode.purse import COIN_SAT, Funding
from watchtower.wire.api import RegisterRequest

NAMES = ("carol", "dave")


def drafted(world: World, fund: Callable[[bytes, int], Funding] | None = None) -> Pair:
    """Two parties with a complete state 0; nothing is sent or registered yet."""
    return open_pair(
        world.fund if fund is None else fund,
        names=NAMES,
        parties=(make_party(NAMES[0]), make_party(NAMES[1])),
        challenge_period=24,
    )


def watch(world: World, pair: Pair, *, with_funding_tx: bool = True, owner: Side = Side.B) -> None:
    """Register the channel at the tower."""
    register(world.context, pair.registration(owner, with_funding_tx))


def bare(pair: Pair) -> RegisterRequest:
    """A registration that brings no funding transaction."""
    return pair.registration(Side.B, with_funding_tx=False)


def rival(world: World, pair: Pair) -> bytes:
    """A wallet transaction that spends the coin of the funding transaction elsewhere."""
    (source,) = Transaction.parse(pair.funding.raw).inputs
    outputs = (TxOut(COIN_SAT // 2, world.node.wallet_spk()),)
    return world.node.sign(Transaction(2, (TxIn(source.outpoint, 0xFFFFFFFD),), outputs, 0))
