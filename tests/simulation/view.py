"""What one node of the model sees: the truth, or a chain and mempool of its own while it is cut off."""

from __future__ import annotations

from domain.chain import BlockHash
from tests.simulation.blocks import Block
from tests.simulation.chain import ModelChain
from tests.simulation.ledger import Ledger
from tests.simulation.policy import Mempool, Policy


class View:
    """A view of a chain. It is the truth until `isolate` or `roll_back`, and again after `rejoin`."""

    def __init__(self, chain: ModelChain) -> None:
        self.chain = chain
        self._own: tuple[Ledger, Mempool] | None = None
        self._known_arrivals = 0
        self._unknown: frozenset[BlockHash] = frozenset()

    def isolate(self) -> None:
        """Stay at the present tip and mempool, without peers: what it is told reaches nobody."""
        self._leave(0)

    def roll_back(self, blocks: int) -> None:
        """As after a power cut: the last blocks are unknown, the mempool is empty, no peers yet."""
        self._leave(blocks)
        self._mempool.clear()

    def rejoin(self) -> None:
        """Follow the truth again. What only this node had in its mempool is offered to all."""
        if self._own is None:
            return
        own = [entry.tx for entry in self._own[1].entries.values()]
        self._own = None
        for tx in own:
            if tx.txid not in self.chain.mempool.entries:
                self.chain.mempool.accept(tx)

    @property
    def isolated(self) -> bool:
        """True while it does not follow the truth."""
        return self._own is not None

    def _leave(self, blocks: int) -> None:
        ledger = self._ledger.copy()
        gone = [ledger.disconnect() for _ in range(blocks)]
        known = self._unknown if self._own is not None else frozenset()
        if self._own is None:
            self._known_arrivals = self.chain.arrivals
        self._unknown = known.union(block.hash for block in gone)
        mempool = self._mempool.copy(ledger)
        self._own = (ledger, mempool)

    @property
    def _ledger(self) -> Ledger:
        return self.chain.ledger if self._own is None else self._own[0]

    @property
    def _mempool(self) -> Mempool:
        return self.chain.mempool if self._own is None else self._own[1]

    @property
    def policy(self) -> Policy:
        """Its relay rules."""
        return self._mempool.policy

    def _block(self, block_hash: bytes) -> Block | None:
        block = self.chain.tree.get(BlockHash(block_hash))
        if block is None or self._own is None:
            return block
        return None if block.arrival >= self._known_arrivals or block.hash in self._unknown else block
