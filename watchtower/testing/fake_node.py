"""A node that knows coins: everything that is sent to it stands in its mempool at once."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from domain.chain import BlockHash, OutPoint, make_outpoint
from domain.events import BroadcastOutcome
from domain.fees import Market
from domain.transaction import Transaction
from watchtower.ports import Answer, Utxo

MARKET = Market(1.0, 1.0, 1.0, ((1, 9.0), (6, 4.0), (144, 1.5)))


class FakeNode:
    """What a tower's use cases ask a node: outputs, transactions, spenders. Nothing is verified."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self._coins: dict[OutPoint, Utxo] = {}
        self._spenders: dict[OutPoint, bytes] = {}
        self._transactions: dict[bytes, bytes] = {}

    def add_coin(self, outpoint: OutPoint, value: int, spk: bytes, confirmations: int = 6) -> None:
        """An unspent output (satoshi)."""
        self._coins[outpoint] = Utxo(value, spk, confirmations, BlockHash(bytes(32)))

    def broadcast(self, raw: bytes) -> Answer:
        """Take it: its inputs are spent, its outputs are there."""
        tx = Transaction.parse(raw)
        if tx.txid in self._transactions:
            return Answer(BroadcastOutcome.ALREADY_KNOWN)
        self.sent.append(raw)
        self._transactions[tx.txid] = raw
        for spent in tx.inputs:
            self._spenders[spent.outpoint] = tx.txid
        for number, output in enumerate(tx.outputs):
            self.add_coin(make_outpoint(tx.txid, number), output.value, output.spk)
        return Answer(BroadcastOutcome.ACCEPTED)

    def broadcast_many(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        """One after the other."""
        return tuple(self.broadcast(raw) for raw in raws)

    def test_accept(self, raw: bytes) -> Answer:
        """Everything would be taken."""
        Transaction.parse(raw)
        return Answer(BroadcastOutcome.ACCEPTED)

    def utxos(self, outpoints: Sequence[OutPoint], include_mempool: bool) -> list[Utxo | None]:
        """Coins; the spent ones only without the mempool."""
        hidden = set(self._spenders) if include_mempool else set()
        return [None if point in hidden else self._coins.get(point) for point in outpoints]

    def mempool_spenders(self, outpoints: Sequence[OutPoint]) -> dict[OutPoint, bytes]:
        """Who spends which of these outputs."""
        return {point: self._spenders[point] for point in outpoints if point in self._spenders}

    def transaction(self, txid: bytes) -> bytes | None:
        """The bytes of what was sent."""
        return self._transactions.get(txid)

    def mempool_transaction(self, txid: bytes) -> bytes | None:
        """The same: there are no blocks."""
        return self.transaction(txid)

    def fee_market(self, targets: Sequence[int]) -> Market:
        """A quiet day."""
        known = tuple((target, feerate) for target, feerate in MARKET.estimates if target in targets)
        return replace(MARKET, estimates=known)
