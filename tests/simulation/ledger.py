"""The state of the chain at one tip: which outputs exist, who spends them, where transactions stand.

A ledger moves block by block, forwards and backwards; a block's own transactions are its undo data. Nothing is
deleted when it is spent: `spenders` decides. A copy costs some microseconds, so that every view has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from domain.chain import BlockHash, OutPoint, Txid, make_outpoint, outpoint_txid
from domain.transaction import Transaction
from tests.simulation.blocks import BLOCK_SECONDS, FIRST_TIME, Block
from watchtower.devnode.moves import Confirmation

MEMPOOL_HEIGHT = -1
_DISABLED, _BY_TIME, _LOCK_MASK = 1 << 31, 1 << 22, 0xFFFF
_LOCK_TIME_THRESHOLD = 500_000_000
_FINAL = 0xFFFFFFFF


class ChainCoin(msgspec.Struct, frozen=True, gc=False):
    """An output: value in satoshi, scriptPubKey, height of its block (`MEMPOOL_HEIGHT` while unconfirmed)."""

    value: int
    spk: bytes
    height: int


Lookup = Callable[[OutPoint], ChainCoin | None]


class Ledger:
    """Outputs, spenders and places of the chain that ends at `tip`."""

    def __init__(self, blocks: Sequence[Block], minted: Mapping[OutPoint, ChainCoin]) -> None:
        """At the last of these blocks, from genesis on, which hold no transactions. `minted` coins always exist."""
        self.blocks = list(blocks)
        self._minted = minted
        self._created: dict[OutPoint, ChainCoin] = {}
        self.spenders: dict[OutPoint, Txid] = {}
        self._places: dict[Txid, tuple[Block, int]] = {}

    def copy(self) -> Ledger:
        """A ledger of its own at the same tip."""
        twin = Ledger(self.blocks, self._minted)
        twin._created = self._created.copy()
        twin.spenders = self.spenders.copy()
        twin._places = self._places.copy()
        return twin

    # ── moving ───────────────────────────────────────────────────────────────────────────────────────────

    @property
    def tip(self) -> Block:
        """The last block."""
        return self.blocks[-1]

    @property
    def height(self) -> int:
        """Height of the tip."""
        return self.blocks[-1].height

    def connect(self, block: Block) -> None:
        """Add a block on the tip. Its transactions must be valid there (`refusal`)."""
        if block.prev != self.tip.hash:
            raise ValueError(f"{block} does not stand on {self.tip}")
        self.blocks.append(block)
        for index, tx in enumerate(block.transactions):
            self._places[tx.txid] = (block, index + 1)
            for txin in tx.inputs:
                self.spenders[txin.outpoint] = tx.txid
            for vout, output in enumerate(tx.outputs):
                self._created[make_outpoint(tx.txid, vout)] = ChainCoin(output.value, output.spk, block.height)

    def disconnect(self) -> Block:
        """Take the tip off; returns it."""
        block = self.blocks.pop()
        for tx in reversed(block.transactions):
            del self._places[tx.txid]
            for txin in tx.inputs:
                del self.spenders[txin.outpoint]
            for vout in range(len(tx.outputs)):
                del self._created[make_outpoint(tx.txid, vout)]
        return block

    def is_active(self, block: Block) -> bool:
        """True if the block is part of this chain."""
        return block.height < len(self.blocks) and self.blocks[block.height] is block

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────

    def output(self, outpoint: OutPoint) -> ChainCoin | None:
        """A confirmed output, spent or not."""
        return self._created.get(outpoint) or self._minted.get(outpoint)

    def coin(self, outpoint: OutPoint) -> ChainCoin | None:
        """A confirmed and unspent output, or None."""
        return None if outpoint in self.spenders else self.output(outpoint)

    def confirmation(self, txid: bytes) -> Confirmation | None:
        """Where a transaction stands; `position` counts from the coinbase, which is 0."""
        place = self._places.get(Txid(txid))
        return None if place is None else Confirmation(place[0].height, place[0].hash, place[1])

    def transaction(self, txid: bytes) -> Transaction | None:
        """A confirmed transaction."""
        place = self._places.get(Txid(txid))
        return None if place is None else place[0].transactions[place[1] - 1]

    def hash_at(self, height: int) -> BlockHash | None:
        """Hash at a height, None above the tip."""
        return self.blocks[height].hash if 0 <= height < len(self.blocks) else None


def not_final(tx: Transaction, next_height: int) -> bool:
    """True while nLockTime keeps the transaction out of a block at this height."""
    if tx.lock_time == 0 or all(txin.sequence == _FINAL for txin in tx.inputs):
        return False
    # Commitments carry a time long ago (protocol 2.4); the sixth block before the tip is about the median of eleven.
    past = FIRST_TIME + (next_height - 6) * BLOCK_SECONDS
    return tx.lock_time >= (past if tx.lock_time >= _LOCK_TIME_THRESHOLD else next_height)


def too_young(tx: Transaction, next_height: int, lookup: Lookup) -> bool:
    """True while a relative lock by height (BIP-68) keeps the transaction out of a block at this height."""
    if tx.version < 2:
        return False
    for txin in tx.inputs:
        if txin.sequence & _DISABLED:
            continue
        if txin.sequence & _BY_TIME:
            raise ValueError("the model knows relative locks by height only")
        coin = lookup(txin.outpoint)
        height = next_height if coin is None or coin.height == MEMPOOL_HEIGHT else coin.height
        if next_height < height + (txin.sequence & _LOCK_MASK):
            return True
    return False


def fits(
    ledger: Ledger, transactions: Iterable[Transaction], valid: Callable[[Transaction], bool]
) -> tuple[list[Transaction], list[tuple[Transaction, str]]]:
    """Of these transactions, in order, those that a block on the ledger's tip may hold, and why the others not.

    The reasons are those of a node: `bad-txns-inputs-missingorspent`, `bad-txns-nonfinal`, `bad-txns-in-belowout`.
    """
    taken: list[Transaction] = []
    left_out: list[tuple[Transaction, str]] = []
    inside: dict[OutPoint, ChainCoin] = {}
    spent: set[OutPoint] = set()
    next_height = ledger.height + 1

    def lookup(outpoint: OutPoint) -> ChainCoin | None:
        return inside.get(outpoint) or ledger.coin(outpoint)

    for tx in transactions:
        reason = _block_refusal(tx, next_height, lookup, spent) or ("" if valid(tx) else "invalid script")
        if not reason and ledger.confirmation(tx.txid) is not None:
            reason = "bad-txns-BIP30"
        if reason:
            left_out.append((tx, reason))
            continue
        taken.append(tx)
        spent.update(txin.outpoint for txin in tx.inputs)
        for vout, output in enumerate(tx.outputs):
            inside[make_outpoint(tx.txid, vout)] = ChainCoin(output.value, output.spk, next_height)
    return taken, left_out


def _block_refusal(tx: Transaction, next_height: int, lookup: Lookup, spent: set[OutPoint]) -> str:
    coins = [None if txin.outpoint in spent else lookup(txin.outpoint) for txin in tx.inputs]
    if not_final(tx, next_height):
        return "bad-txns-nonfinal"
    if None in coins:
        return "bad-txns-inputs-missingorspent"
    if sum(coin.value for coin in coins if coin is not None) < sum(output.value for output in tx.outputs):
        return "bad-txns-in-belowout"
    return "bad-txns-nonfinal" if too_young(tx, next_height, lookup) else ""


def parents_of(tx: Transaction) -> list[Txid]:
    """The transactions whose outputs it spends, each once, in order of its inputs."""
    return list(dict.fromkeys(outpoint_txid(txin.outpoint) for txin in tx.inputs))
