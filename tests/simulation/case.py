"""The harness's own truth about one channel: what the tower was told, and what its client was answered."""

from __future__ import annotations

from functools import cache

import msgspec

from domain.chain import OutPoint, make_outpoint
from domain.transaction import Transaction
from tests.simulation.pool import Prepared, prepared

PLAYED = 3
"""Channels of one schedule."""


class Case:
    """One channel. `revoked` and `newest` are state numbers that are durable at the tower, -1 for none.

    `answers` are the uploads whose receipt the client holds. `excused` are states whose revocation came when hardly
    any block was left: their loss is nobody's fault. `asked` is the highest revoked state for which that was asked.
    `own_out` are states that the owner published. `heights` are those of commitments as the tower's log has them.
    """

    def __init__(self, channel: Prepared, stream: str) -> None:
        self.channel = channel
        self.stream = stream
        self.registered = False
        self.own_out: set[int] = set()
        self.revoked = -1
        self.newest = -1
        self.answers: list[tuple[int, bytes]] = []
        self.excused: set[int] = set()
        self.asked = -1
        self.heights: dict[bytes, int] = {}
        self.fees: dict[bytes, int] = {}
        self.prepared: dict[bytes, int] = {}
        self.sent: dict[bytes, int] = {}
        self.spends: dict[bytes, OutPoint] = {}

    @property
    def funding(self) -> OutPoint:
        """The funding outpoint."""
        return self.channel.params.funding_outpoint

    def is_stale(self, sequence: int) -> bool:
        """Whether the tower holds what it needs to punish this state."""
        return sequence <= self.revoked


class Known(msgspec.Struct, frozen=True):
    """What a transaction of the pool is: `kind` is commit, settle, own, own_settle, coop or funding."""

    index: int
    kind: str
    sequence: int
    raw: bytes


@cache
def parsed(raw: bytes) -> Transaction:
    """A transaction; the same few are asked about all the time."""
    return Transaction.parse(raw)


@cache
def known_transactions(index: int) -> dict[bytes, Known]:
    """All prepared transactions of a channel by txid."""
    channel = prepared(index)
    parts = [("commit", n, raw) for n, raw in enumerate(channel.commitments)]
    parts += [("settle", n, raw) for n, raw in enumerate(channel.settlements)]
    parts += [("own", n, raw) for n, raw in enumerate(channel.own_commitments)]
    parts += [("own_settle", n, raw) for n, raw in enumerate(channel.own_settlements)]
    parts += [("coop", -1, channel.coop), ("funding", -1, channel.funding)]
    return {parsed(raw).txid: Known(index, kind, number, raw) for kind, number, raw in parts}


@cache
def contest_outpoints(index: int) -> dict[OutPoint, Known]:
    """The contest output of every commitment of a channel."""
    found = known_transactions(index).items()
    return {make_outpoint(txid, 0): known for txid, known in found if known.kind in ("commit", "own")}


def contest_of(raw: bytes) -> OutPoint:
    """The contest output of a commitment."""
    return make_outpoint(parsed(raw).txid, 0)
