"""The tower's node in a schedule: the model node with the fault hooks, watched by the judge."""

from __future__ import annotations

from collections.abc import Sequence

from domain.fees import Market
from tests.simulation.chain import ModelChain
from tests.simulation.faults import Faults
from tests.simulation.judge import Judge
from tests.simulation.node import ModelNode
from watchtower.ports import Answer, DecodedBlock, NodeError


class SimNode(ModelNode):
    """Tells the judge what is sent and which market was shown.

    `until` is the height at which its trouble ends. While it is `opaque` it cannot read damaged blocks itself either.
    """

    def __init__(self, chain: ModelChain, faults: Faults, judge: Judge) -> None:
        super().__init__(chain, before_call=faults.before_call, after_call=faults.after_call)
        self.refuse = lambda raw: faults.refusal()
        self.until = 0
        self.opaque = False
        self._judge = judge

    @property
    def is_troubled(self) -> bool:
        """Whether it is down, isolated, or cannot hand over a block."""
        return bool(self.trouble or self.isolated or self.missing or self.damaged or self.pruned_below or self.ahead)

    @property
    def is_dark(self) -> bool:
        """Whether there is a block that nobody can read."""
        return self.opaque and bool(self.damaged)

    def heal(self, *, blocks: bool = True) -> None:
        """In order again, with the whole chain; without `blocks` those that cannot be parsed stay so."""
        self.trouble = None
        self.rejoin()
        self.missing.clear()
        if blocks:
            self.damaged.clear()
        self.pruned_below = self.ahead = 0
        self.estimates = None

    def decoded_block(self, block_hash: bytes) -> DecodedBlock:
        """See the port."""
        if self.opaque and block_hash in self.damaged:
            raise NodeError("getblock: the node answered -1: Block decode failed")
        return super().decoded_block(block_hash)

    def fee_market(self, targets: Sequence[int]) -> Market:
        """See the port."""
        self._judge.market = market = super().fee_market(targets)
        return market

    def broadcast(self, raw: bytes) -> Answer:
        """See the port."""
        self._judge.sent(raw)
        return super().broadcast(raw)

    def broadcast_many(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        """See the port."""
        for raw in raws:
            self._judge.sent(raw)
        return super().broadcast_many(raws)

    def submit_package(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        """See the port."""
        self._judge.packed(raws[0], self._mempool.spenders)
        for raw in raws:
            self._judge.sent(raw)
        return super().submit_package(raws)
