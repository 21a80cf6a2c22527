"""Fee children as a party's log has them: the newest bid of each parent."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from domain.chain import OutPoint
from domain.events import FeeChildPrepared
from domain.transaction import Transaction


class FeeChild(msgspec.Struct, frozen=True):
    """A child that was about to be sent: its bytes, its fee (sat), the height then.

    `parent_txid` is what it pays for, and `outpoint` what that parent takes; together they pay `feerate_kvb`.
    """

    parent_txid: bytes
    outpoint: OutPoint
    raw: bytes
    fee: int
    feerate_kvb: int
    height: int

    @property
    def tx(self) -> Transaction:
        """The child itself."""
        return _parsed(self.raw)

    @property
    def coin(self) -> OutPoint:
        """The coin of the wallet that pays."""
        return self.tx.inputs[1].outpoint


def with_child(known: tuple[FeeChild, ...], event: FeeChildPrepared) -> tuple[FeeChild, ...]:
    """The newest bid takes the place of the one before."""
    child = FeeChild(
        parent_txid=event.parent_txid,
        outpoint=OutPoint(event.outpoint),
        raw=event.raw,
        fee=event.fee,
        feerate_kvb=event.feerate_kvb,
        height=event.height,
    )
    return (*(each for each in known if each.parent_txid != child.parent_txid), child)


@lru_cache(maxsize=64)
def _parsed(raw: bytes) -> Transaction:
    return Transaction.parse(raw)
