"""Who makes the blocks, and who cheats: a moving feerate threshold, censorship, and transactions that skip the mempool.

The cheater takes every contest output as soon as consensus allows it, in the very block with height h_c + T, without
caring about fees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain.chain import make_outpoint
from domain.contract.scripts import dust_limit
from tests.simulation.blocks import serialized
from tests.simulation.case import Case, contest_outpoints, known_transactions, parsed
from tests.simulation.policy import Entry, best_packages

if TYPE_CHECKING:
    from tests.simulation.world import SimWorld

THRESHOLDS = (1.0, 5.0, 20.0, 80.0, 200.0)
FULL_BUDGET = -1.0
"""The threshold at which only a penalty that spends (almost) its whole value is mined."""

TOP_FEERATE = 1_000.0


class Miners:
    """`threshold` in sat/vB, or `FULL_BUDGET`. `smuggled` goes into the next block past the mempool."""

    def __init__(self, world: SimWorld) -> None:
        self.threshold = 1.0
        self.censored_until = 0
        self.empty_until = 0
        self.smuggled: list[bytes] = []
        self._world = world

    def mine(self) -> None:
        """One block."""
        chain = self._world.chain
        forced = [*self.smuggled, *self.loot()]
        self.smuggled = []
        empty = chain.height < self.empty_until
        if not forced:
            chain.mine(minimum=self._minimum(), select=self._wanted, empty=empty)
            return
        chosen = [] if empty else best_packages(chain.mempool, self._minimum(), self._wanted)
        chain.reorg(0, [[*forced, *[serialized(entry.tx) for entry in chosen]]])

    def loot(self) -> list[bytes]:
        """Settlements of commitments that are old enough in the next block: of stale and of honest ones."""
        ledger = self._world.chain.ledger
        found: list[bytes] = []
        for case in self._world.cases:
            txid = ledger.spenders.get(case.funding)
            known = None if txid is None else known_transactions(case.channel.index).get(txid)
            if txid is None or known is None or known.kind != "commit" or not case.is_stale(known.sequence):
                continue
            place = ledger.confirmation(txid)
            mature = place is not None and ledger.height + 1 >= place.height + case.channel.period
            if mature and make_outpoint(txid, 0) not in ledger.spenders:
                found.append(case.channel.settlements[known.sequence])
        return found

    def _minimum(self) -> float:
        return TOP_FEERATE if self.threshold == FULL_BUDGET else self.threshold

    def _wanted(self, entry: Entry) -> bool:
        case = self._punished(entry)
        if case is None:
            return True
        if self._world.chain.height < self.censored_until:
            return False
        if self.threshold != FULL_BUDGET:
            return True
        # The last bid may stand one satoshi per vbyte below the cap: a smaller step would replace nothing.
        budget = case.channel.params.contest_value - dust_limit(case.channel.sweep)
        return entry.fee >= budget - 2 * entry.vsize

    def _punished(self, entry: Entry) -> Case | None:
        """The case whose contest output this transaction takes without being a settlement."""
        for case in self._world.cases:
            if entry.tx.inputs[0].outpoint in contest_outpoints(case.channel.index):
                is_known = entry.txid in known_transactions(case.channel.index)
                return None if is_known else case
        return None


def thief_child(world: SimWorld, commitment: bytes, fee: int) -> bytes:
    """The cheater's child of a commitment's anchor."""
    return world.chain.anchor_child(parsed(commitment).txid, fee=fee)
