"""Hands transactions to the node the right way and says what the answers mean for the responder.

No answer deletes anything; whatever is not understood means: try again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from domain.chain import OutPoint
from domain.events import BroadcastOutcome, Via
from domain.transaction import Transaction
from watchtower.ports import Answer, Failpoint, Node, NodeError, NodeUnavailable
from watchtower.responder.runs import Run

REMEMBERED = 10_000
"""Own transactions that are recognized when the node announces them."""

PACKAGES_PER_BLOCK = 30
"""For one parent between two blocks: a cheater must not keep the node busy by dropping it again and again."""

Told = tuple[Answer, Via]
"""What the node said, and about which way."""


class Parcel(msgspec.Struct, frozen=True):
    """A transaction of a channel to send, with its parent if that may be missing at the node."""

    stream: str
    txid: bytes
    raw: bytes
    parent: bytes | None = None


class Broadcaster:
    """Sends transactions alone, or together with the parent that they spend. `sent` has the latest txids."""

    def __init__(self, node: Node, failpoint: Failpoint) -> None:
        self._node = node
        self._failpoint = failpoint
        self.sent: dict[bytes, None] = {}
        self._packages: dict[bytes, int] = {}
        self._packages_at = -1

    def send_all(self, parcels: Sequence[Parcel], tip: int, run: Run) -> Mapping[str, Told]:
        """Send one transaction per channel in one request; the answers by stream.

        If the request fails as a whole, each is sent alone: one strange answer must not stop the others. A channel
        without an answer is in trouble, which `run` notes.
        """
        for parcel in parcels:
            self._remember(parcel.txid)
        told: dict[str, Told] = {}
        for parcel, answer in zip(parcels, self._answers(parcels), strict=True):
            with run.serving(parcel.stream):
                told[parcel.stream] = self._completed(parcel, answer or self._alone(parcel.raw), tip)
        return told

    def send(self, parcel: Parcel, tip: int) -> Told:
        """Send one; if its parent is missing at the node and we have its bytes, send both as a package.

        `sendrawtransaction` comes first because it allows sibling eviction.
        """
        self._remember(parcel.txid)
        return self._completed(parcel, self._alone(parcel.raw), tip)

    def _answers(self, parcels: Sequence[Parcel]) -> Sequence[Answer | None]:
        if len(parcels) < 2:
            return [None] * len(parcels)
        self._failpoint("broadcast:before")
        try:
            answers = self._node.broadcast_many([parcel.raw for parcel in parcels])
        except NodeUnavailable:
            raise
        except NodeError:
            return [None] * len(parcels)
        self._failpoint("broadcast:after")
        return answers

    def _alone(self, raw: bytes) -> Answer:
        self._failpoint("broadcast:before")
        answer = self._node.broadcast(raw)
        self._failpoint("broadcast:after")
        return answer

    def _completed(self, parcel: Parcel, answer: Answer, tip: int) -> Told:
        """The answer to the transaction alone, or to the package if only that can help."""
        parent = parcel.parent
        if answer.in_mempool or parent is None or answer.outcome not in _PARENT_MAY_BE_MISSING:
            return answer, Via.RAW
        tx = Transaction.parse(parent)
        if not self._is_absent(tx, Transaction.parse(parcel.raw).inputs[0].outpoint) or not self._may_pack(tx, tip):
            return answer, Via.RAW
        self._failpoint("package:before")
        answers = self._node.submit_package([parent, parcel.raw])
        self._failpoint("package:after")
        return (answers[-1] if answers else answer), Via.PACKAGE

    def _is_absent(self, parent: Transaction, spent: OutPoint) -> bool:
        """Whether the node does not know the parent, and nothing of its mempool stands in its way.

        The node has one answer for a missing parent and for a spent input. If somebody spends our input, the next run
        sees who. No package is sent while something else spends the parent's input: it could undo the cheater's
        retreat to an honest close (protocol 7.4).
        """
        if self._node.utxos([spent], include_mempool=True)[0] is not None:
            return False  # it has come meanwhile
        spenders = self._node.mempool_spenders([spent, *(txin.outpoint for txin in parent.inputs)])
        return spent not in spenders and all(txid == parent.txid for txid in spenders.values())

    def _may_pack(self, parent: Transaction, tip: int) -> bool:
        if tip != self._packages_at:
            self._packages, self._packages_at = {}, tip
        sent = self._packages.get(parent.txid, 0)
        self._packages[parent.txid] = sent + 1
        return sent < PACKAGES_PER_BLOCK

    def _remember(self, txid: bytes) -> None:
        self.sent[txid] = None
        if len(self.sent) > REMEMBERED:
            del self.sent[next(iter(self.sent))]


_PARENT_MAY_BE_MISSING = frozenset({BroadcastOutcome.PARENT_MISSING, BroadcastOutcome.MISSING_INPUTS})
