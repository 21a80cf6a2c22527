"""Many real channels at once: their funding coins need no wallet and no signature.

pairs = funded_pairs(node, 1_000)                                  # in one block, A's state 0 is revoked
node.generate_block([pair.commitment(Side.A, 0) for pair in pairs])  # a thousand breaches
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from domain.chain import make_outpoint
from domain.transaction import Transaction, TxIn, TxOut
from tests.support.parties import Fund, Pair, open_pair
from watchtower.devnode.purse import Funding
from watchtower.devnode.regtest import ANCHOR_SPK, RegtestNode

CAPACITY_SAT = 1_000_000
PER_TRANSACTION = 500
SPEND_FEE = 1_000


def funded_pairs(
    node: RegtestNode, count: int, *, updates: int = 1, challenge_period: int = 144, name: str = ""
) -> list[Pair]:
    """Channels that are funded in one new block, with so many updates each; `name` makes their parties others."""
    fund = coin_funds(node, count)
    pairs = []
    for number in range(count):
        names = (f"{name}alice{number}", f"{name}bob{number}")
        pair = open_pair(fund, names=names, challenge_period=challenge_period)
        pair.updates(updates)
        pairs.append(pair)
    node.generate_block([pair.funding.raw for pair in pairs])
    return pairs


def coin_funds(node: RegtestNode, count: int) -> Fund:
    """Funding from coins that everybody can spend (P2A): made here, without asking the wallet for each."""
    coins = _coins(node, count)

    def fund(spk: bytes, amount: int) -> Funding:
        outpoint, value = next(coins)
        change = TxOut(value - amount - SPEND_FEE, ANCHOR_SPK)
        tx = Transaction(2, (TxIn(outpoint, 0xFFFFFFFD),), (TxOut(amount, spk), change), 0)
        return Funding(tx.txid, 0, tx.serialize())

    return fund


def _coins(node: RegtestNode, count: int) -> Iterator[tuple[bytes, int]]:
    value = CAPACITY_SAT + 100_000
    for start in range(0, count, PER_TRANSACTION):
        outputs: Sequence[TxOut] = [TxOut(value, ANCHOR_SPK)] * min(PER_TRANSACTION, count - start)
        funding = node.fund_many(outputs)
        node.mine(1)
        yield from ((make_outpoint(funding.txid, vout), value) for vout in range(len(outputs)))
