"""A block as full as the main chain's, mined on a regtest node: thousands of transactions and inputs."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from domain.chain import BlockHash, OutPoint, make_outpoint
from domain.transaction import Transaction, TxIn, TxOut, compact_size
from watchtower.devnode.regtest import RegtestNode

OUTPUTS_PER_FUNDING = 2_000
COIN_SAT = 2_000
ANYONE = b"\x52\x20" + b"\x11" * 32
"""A witness program of a future version: consensus lets anybody spend it with any witness."""


class FullBlock(msgspec.Struct, frozen=True):
    """The block, and every outpoint that it spends except the coinbase's."""

    hash: BlockHash
    spent: tuple[OutPoint, ...]


def mine_full_block(node: RegtestNode, transactions: int = 4_192, inputs: int = 9_683) -> FullBlock:
    """Mine a block with so many transactions and inputs beside the coinbase, of usual shapes and sizes."""
    coins = _coins(node, inputs)
    return FullBlock(node.generate_block(_spends(coins, transactions)), tuple(coins))


def made_up_block(transactions: int, inputs: int) -> bytes:
    """The same as bytes, without a node: the header is empty and the inputs exist nowhere."""
    coins = [make_outpoint(number.to_bytes(32, "big"), 0) for number in range(inputs)]
    coinbase = Transaction(1, (TxIn(make_outpoint(bytes(32), 0), 0, b"\x01\x02"),), (TxOut(50, ANYONE),), 0)
    raws = [coinbase.serialize(), *_spends(coins, transactions)]
    return bytes(80) + compact_size(len(raws)) + b"".join(raws)


def _spends(coins: Sequence[OutPoint], transactions: int) -> list[bytes]:
    rnd = random.Random(1)
    shares = [1] * transactions
    for _ in range(len(coins) - transactions):
        shares[rnd.randrange(transactions)] += 1
    raws: list[bytes] = []
    taken = 0
    for share in shares:
        raws.append(_spend(coins[taken : taken + share], rnd).serialize())
        taken += share
    return raws


def _coins(node: RegtestNode, count: int) -> list[OutPoint]:
    """Confirmed outpoints that anybody can spend."""
    coins: list[OutPoint] = []
    while len(coins) < count:
        number = min(OUTPUTS_PER_FUNDING, count - len(coins))
        funding = node.fund_many([TxOut(COIN_SAT, ANYONE)] * number, broadcast=False, feerate=1)
        node.generate_block([funding.raw])
        coins += [make_outpoint(funding.txid, vout) for vout in range(number)]
    return coins


def _spend(coins: Sequence[OutPoint], rnd: random.Random) -> Transaction:
    stacks = ((rnd.randbytes(71), rnd.randbytes(33)), (rnd.randbytes(64),))
    inputs = tuple(TxIn(coin, 0xFFFFFFFD, b"", rnd.choice(stacks)) for coin in coins)
    scripts = (b"\x00\x14" + rnd.randbytes(20), b"\x51\x20" + rnd.randbytes(32))
    outputs = tuple(TxOut(300, rnd.choice(scripts)) for _ in range(rnd.choice((1, 1, 1, 2, 2, 2, 3))))
    return Transaction(2, inputs, outputs, 0)
