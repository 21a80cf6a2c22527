"""What the model's mempool holds: transactions with their fees, relatives, and candidates to enter."""

from __future__ import annotations

import msgspec

from domain.chain import Txid
from domain.transaction import Transaction


class Entry:
    """A transaction in the mempool with its fee, size, and its parents and children there (in order of entry)."""

    __slots__ = ("children", "fee", "parents", "tx", "txid", "vsize")

    def __init__(self, tx: Transaction, fee: int) -> None:
        self.tx = tx
        self.txid = tx.txid
        self.fee = fee
        self.vsize = tx.vsize
        self.parents: dict[Txid, Entry] = {}
        self.children: dict[Txid, Entry] = {}

    @property
    def feerate(self) -> float:
        """Its own feerate."""
        return self.fee / self.vsize

    def __repr__(self) -> str:
        return f"Entry({self.txid[::-1].hex()[:8]}, {self.fee} sat / {self.vsize} vB)"


def family(entry: Entry, up: bool) -> dict[Txid, Entry]:
    """The entry with all its ancestors (`up`) or all its descendants, itself first."""
    found = {entry.txid: entry}
    queue = [entry]
    for each in queue:
        for txid, relative in (each.parents if up else each.children).items():
            if txid not in found:
                found[txid] = relative
                queue.append(relative)
    return found


class Candidate(msgspec.Struct):
    """A transaction that passed the checks which need no fees: what it costs, replaces and depends on."""

    tx: Transaction
    fee: int
    conflicts: dict[Txid, Entry]
    parents: dict[Txid, Entry]

    @property
    def vsize(self) -> int:
        """Its size in vB."""
        return self.tx.vsize
