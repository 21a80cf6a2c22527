"""Coins that anybody may spend: schedules on a real node need no signature of its wallet for them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from domain.chain import make_outpoint
from domain.transaction import Transaction, TxIn, TxOut
from watchtower.devnode.purse import ANCHOR_SAT, Coin
from watchtower.devnode.regtest import RegtestNode

COIN_SAT = 2_000_000
ANYBODY = b"\x00\x20" + sha256(b"\x51").digest()
"""P2WSH of OP_TRUE."""

RBF = 0xFFFFFFFD


def coins_of_anybody(node: RegtestNode, count: int) -> list[Coin]:
    """So many confirmed coins on a node."""
    funding = node.fund_many([TxOut(COIN_SAT, ANYBODY)] * count)
    node.mine(1)
    return [Coin(make_outpoint(funding.txid, vout), COIN_SAT, ANYBODY) for vout in range(count)]


def spend_coins(
    coins: Sequence[Coin], outputs: Sequence[TxOut], *, version: int = 2, lock_time: int = 0, sequence: int = RBF
) -> bytes:
    """Spend coins of anybody; a coin without script is an anchor, which needs no witness."""
    inputs = tuple(TxIn(coin.outpoint, sequence, witness=(b"\x51",) if coin.spk else ()) for coin in coins)
    return Transaction(version, inputs, tuple(outputs), lock_time).serialize()


def pay(coin: Coin, fee: int, *, version: int = 2, lock_time: int = 0, sequence: int = RBF) -> bytes:
    """Spend a coin to anybody again."""
    return spend_coins(
        [coin], [TxOut(coin.value - fee, ANYBODY)], version=version, lock_time=lock_time, sequence=sequence
    )


def anchor_child(parent: Transaction, coin: Coin, fee: int) -> bytes:
    """A version-3 child of the parent's anchor that brings a coin and pays `fee` in total."""
    vout = next(v for v, output in enumerate(parent.outputs) if output.value == ANCHOR_SAT)
    anchor = Coin(make_outpoint(parent.txid, vout), ANCHOR_SAT, b"")
    return spend_coins([anchor, coin], [TxOut(coin.value + ANCHOR_SAT - fee, ANYBODY)], version=3)
