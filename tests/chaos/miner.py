"""Who fills the network's blocks: takes what pays, may dislike the tower, and is the thief's friend.

The thief's settlement of a stale commitment is in the first block that may hold it, whatever it costs. So a penalty
that is late by one block has lost.
"""

from __future__ import annotations

from collections.abc import Sequence

from domain.contract.penalty import penalty_vsize
from domain.contract.scripts import dust_limit
from domain.transaction import Transaction
from domain.units import Side
from tests.chaos.ledger import Breach
from tests.chaos.pair import fee_of, mempool_of, txid_of
from tests.support.parties import Pair
from watchtower.devnode.regtest import RegtestNode, RpcRefused


class Miner:
    """A penalty must pay `threshold` of its whole value and `floor` sat/vB; `thefts` counts lost contest outputs.

    `contests` are the contest outputs of all stale commitments.
    """

    def __init__(self, network: RegtestNode) -> None:
        self._network = network
        self.contests: dict[bytes, Pair] = {}
        self.threshold = 0.0
        self.floor = 0.0
        self.censoring = False
        self.holds_commitments = False
        self.thefts = 0

    def be_fair(self) -> None:
        """Take every penalty that pays what the market asks for, which is never more than the whole value."""
        self.censoring = self.holds_commitments = False

    def mine(self, breaches: Sequence[Breach]) -> None:
        """One block on the network's tip."""
        raws = self.block(breaches)
        try:
            self._network.generate_block(raws)
        except RpcRefused:
            self._network.generate_block()

    def block(self, breaches: Sequence[Breach]) -> list[bytes]:
        """The transactions of the next block, parents first."""
        next_height = self._network.height() + 1
        loot = [b for b in breaches if b.answer is None and next_height > b.deadline]
        self.thefts += len(loot)
        taken = {b.contest for b in loot}
        raws = [b.pair.settlement(Side.A, b.sequence) for b in loot]
        held = mempool_of(self._network)
        chosen: set[str] = set()
        for name in sorted(held, key=lambda txid: (int(held[txid]["ancestorcount"]), txid)):
            raw = self._network.transaction(txid_of(name))
            if raw is None or not chosen.issuperset(p for p in held[name]["depends"] if p in held):
                continue
            tx = Transaction.parse(raw)
            inputs = {source.outpoint for source in tx.inputs}
            if inputs & taken or not self._wants(tx, fee_of(held[name])):
                continue
            chosen.add(name)
            taken |= inputs
            raws.append(raw)
        return raws

    def _wants(self, tx: Transaction, fee: int) -> bool:
        pair = self.contests.get(tx.inputs[0].outpoint)
        if pair is None:
            return not (self.holds_commitments and tx.version == 3 and len(tx.inputs) == 1)
        if self.censoring:
            return False
        most = greatest_fee(pair)
        return fee >= min(most, max(self.threshold * most, self.floor * penalty_size(pair)))


def greatest_fee(pair: Pair) -> int:
    """What the penalty pays when it pays everything."""
    return pair.params.contest_value - dust_limit(_sweep(pair))


def penalty_size(pair: Pair) -> int:
    """Virtual size of B's penalty."""
    return penalty_vsize(pair.params, _sweep(pair))


def _sweep(pair: Pair) -> bytes:
    return bytes(pair.registration(Side.B).sweep_spk)
