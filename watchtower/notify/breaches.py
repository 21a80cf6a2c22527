"""What is kept about a breach while it is told: one small record each, durable beside the position."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from projections.open_breaches import OpenBreachRow

BIDS = 16
"""Bids whose txids are kept: an answer of the node belongs to one of the last few."""

_PREFIX = "breach/"


class Tracked(msgspec.Struct, frozen=True, kw_only=True):
    """One contested commitment. `value` in satoshi; `height` None while it is unconfirmed, then `deadline` is None.

    `bids` are pairs of txid and fee, newest last. `warned` is the last number of blocks left that was told.
    `ended_by` is the penalty or the settlement of the stale state that stands in a block.
    """

    stream: str
    txid: bytes
    sequence: int
    value: int
    height: int | None = None
    deadline: int | None = None
    bids: tuple[tuple[bytes, int], ...] = ()
    sent: bool = False
    ended_by: bytes | None = None
    warned: int | None = None

    @property
    def key(self) -> str:
        """Its name in the durable facts."""
        return f"{_PREFIX}{self.stream}/{self.txid.hex()}"

    @property
    def period(self) -> int:
        """Blocks of the challenge period; 0 while the commitment is unconfirmed."""
        return 0 if self.deadline is None or self.height is None else self.deadline - self.height + 1

    def fee_of(self, bid: bytes) -> int | None:
        """What a bid pays; None if it is none of the kept ones."""
        return dict(self.bids).get(bid)

    def with_bid(self, txid: bytes, fee: int) -> Tracked:
        """The same with one more bid."""
        kept = tuple(pair for pair in self.bids if pair[0] != txid)
        return msgspec.structs.replace(self, bids=(*kept, (txid, fee))[-BIDS:])


class Breaches:
    """All of them in memory, and which changed since they were last stored."""

    def __init__(self, facts: dict[str, bytes] | None = None) -> None:
        """`facts` are what `changes` gave earlier; other names in it are left alone."""
        stored = [value for name, value in (facts or {}).items() if name.startswith(_PREFIX)]
        self._all: dict[str, dict[bytes, Tracked]] = {}
        self._changed: dict[str, Tracked | None] = {}
        for value in stored:
            self.put(msgspec.msgpack.decode(value, type=Tracked))
        self._changed.clear()

    def __iter__(self) -> Iterator[Tracked]:
        return (one for of_stream in self._all.values() for one in of_stream.values())

    def __len__(self) -> int:
        return sum(len(of_stream) for of_stream in self._all.values())

    def get(self, stream: str, txid: bytes) -> Tracked | None:
        """The breach with this commitment."""
        return self._all.get(stream, {}).get(txid)

    def of_bid(self, stream: str, bid: bytes) -> Tracked | None:
        """The breach that a bid answers."""
        return next((one for one in self._all.get(stream, {}).values() if one.fee_of(bid) is not None), None)

    def ended_by(self, stream: str, txid: bytes) -> Tracked | None:
        """The breach that a transaction in a block ended."""
        return next((one for one in self._all.get(stream, {}).values() if one.ended_by == txid), None)

    def put(self, one: Tracked) -> None:
        """Keep a breach, or what became of it."""
        self._all.setdefault(one.stream, {})[one.txid] = one
        self._changed[one.key] = one

    def forget(self, stream: str) -> None:
        """The channel is resolved."""
        for one in self._all.pop(stream, {}).values():
            self._changed[one.key] = None

    def changes(self) -> dict[str, bytes | None]:
        """What has to be stored (None: removed) since the last call."""
        changed = {key: None if one is None else msgspec.msgpack.encode(one) for key, one in self._changed.items()}
        self._changed.clear()
        return changed

    def open(self) -> list[Tracked]:
        """Those that stand in a block and are not ended, nearest deadline first."""
        found = [one for one in self if one.deadline is not None and one.ended_by is None]
        return sorted(found, key=lambda one: one.deadline or 0)


def tracked_row(row: OpenBreachRow) -> Tracked:
    """A breach that was there before anybody was told of any."""
    bids = () if row.bid_txid is None else ((row.bid_txid, row.bid_fee),)
    return Tracked(
        stream=row.stream,
        txid=row.commit_txid,
        sequence=row.sequence or 0,
        value=row.value,
        height=row.height,
        deadline=row.deadline,
        bids=bids,
        sent=bool(row.accepted),
        ended_by=row.penalty_txid or row.lost_txid,
    )
