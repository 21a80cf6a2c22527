"""Hands a transaction to the node the right way and says what the answer means for the responder.

No answer deletes anything; whatever is not understood means: try again.
"""

from __future__ import annotations

from domain.events import BroadcastOutcome, Via
from domain.transaction import Transaction
from watchtower.ports import Answer, Failpoint, Node

REMEMBERED = 10_000
"""Own transactions that are recognized when the node announces them."""


class Broadcaster:
    """Sends a penalty alone, or together with the commitment that it spends. `sent` has the latest txids."""

    def __init__(self, node: Node, failpoint: Failpoint) -> None:
        self._node = node
        self._failpoint = failpoint
        self.sent: dict[bytes, None] = {}

    def send(self, raw: bytes, parent: bytes | None) -> tuple[Answer, Via]:
        """Send `raw`; if its parent is missing at the node and we have its bytes, send both as a package.

        `sendrawtransaction` comes first because it allows sibling eviction. No package is sent while something else
        spends the parent's input: it could undo the cheater's retreat to an honest close (protocol 7.4).
        """
        self._remember(Transaction.parse(raw).txid)
        self._failpoint("broadcast:before")
        answer = self._node.broadcast(raw)
        self._failpoint("broadcast:after")
        if answer.in_mempool or parent is None or answer.outcome not in _PARENT_MAY_BE_MISSING:
            return answer, Via.RAW
        if self._is_replaced(parent):
            return answer, Via.RAW
        self._failpoint("package:before")
        answers = self._node.submit_package([parent, raw])
        self._failpoint("package:after")
        return (answers[-1] if answers else answer), Via.PACKAGE

    def _remember(self, txid: bytes) -> None:
        self.sent[txid] = None
        if len(self.sent) > REMEMBERED:
            del self.sent[next(iter(self.sent))]

    def _is_replaced(self, parent: bytes) -> bool:
        tx = Transaction.parse(parent)
        spenders = self._node.mempool_spenders([txin.outpoint for txin in tx.inputs])
        return any(txid != tx.txid for txid in spenders.values())


_PARENT_MAY_BE_MISSING = frozenset({BroadcastOutcome.PARENT_MISSING, BroadcastOutcome.MISSING_INPUTS})
