"""What the network's active chain says about the channels: the truth that schedules are kept fair by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from domain.chain import OutPoint, display, from_display, make_outpoint
from domain.deadlines import deadline
from domain.units import Side
from tests.support.parties import Pair
from watchtower.devnode.regtest import RegtestNode

NEVER = 10_000
"""Remaining blocks where nothing is at risk."""


class Spent(NamedTuple):
    """Who spends an outpoint, and at which height."""

    txid: bytes
    height: int


class Breach(NamedTuple):
    """A stale commitment on the chain. `answer` is the confirmed spend of its contest output."""

    pair: Pair
    sequence: int
    txid: bytes
    height: int
    deadline: int
    answer: Spent | None

    @property
    def contest(self) -> OutPoint:
        """The output that the penalty has to take."""
        return make_outpoint(self.txid, 0)


class Ledger:
    """Spends in blocks above `base`, read again where the chain changed."""

    def __init__(self, node: RegtestNode, base: int) -> None:
        self._node = node
        self._base = base
        self._blocks: dict[int, tuple[str, dict[bytes, bytes]]] = {}
        self._spends: dict[bytes, Spent] = {}
        self._tip = ""
        self._stale: dict[tuple[bytes, int], dict[bytes, int]] = {}
        self.height = base

    def refresh(self) -> None:
        """Bring the picture to the network's tip."""
        tip = self._node.rpc("getbestblockhash")
        if tip == self._tip:
            return
        self._tip = tip
        height = int(self._node.rpc("getblockheader", tip)["height"])
        for number in [each for each in self._blocks if each > height]:
            del self._blocks[number]
        for number in range(height, self._base, -1):
            name = self._node.rpc("getblockhash", number)
            if self._blocks.get(number, ("", {}))[0] == name:
                break
            self._blocks[number] = (name, self._read(name))
        self.height = height
        pairs = ((number, spent) for number, (_, spent) in self._blocks.items())
        self._spends = {out: Spent(txid, number) for number, spent in pairs for out, txid in spent.items()}

    def _read(self, name: str) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for tx in self._node.rpc("getblock", name, 2)["tx"][1:]:
            txid = from_display(tx["txid"])
            found.update((make_outpoint(from_display(vin["txid"]), vin["vout"]), txid) for vin in tx["vin"])
        return found

    def spender(self, outpoint: bytes) -> Spent | None:
        """The confirmed spend of an outpoint, as of the last `refresh`."""
        return self._spends.get(outpoint)

    def breach_of(self, pair: Pair, newest: int) -> Breach | None:
        """The stale commitment of A on the chain; states below `newest` are revoked."""
        spent = self.spender(pair.params.funding_outpoint)
        if spent is None:
            return None
        number = self._stale_txids(pair, newest).get(spent.txid)
        if number is None:
            return None
        due = deadline(spent.height, pair.params.challenge_period)
        return Breach(pair, number, spent.txid, spent.height, due, self.spender(make_outpoint(spent.txid, 0)))

    def _stale_txids(self, pair: Pair, newest: int) -> dict[bytes, int]:
        key = (pair.channel_id, newest)
        if key not in self._stale:
            self._stale[key] = {pair.commitment_txid(Side.A, number): number for number in range(newest)}
        return self._stale[key]


def least_remaining(breaches: Iterable[Breach], tip: int, fork: int | None = None) -> int:
    """Blocks that can still take the most urgent penalty when the network's tip is at `tip`.

    With `fork` as it would be after everything above that height was replaced: penalties there are open again, and
    breaches there are the thief's to place anew.
    """
    least = NEVER
    for breach in breaches:
        gone = fork is not None and breach.height > fork
        answered = breach.answer is not None and (fork is None or breach.answer.height <= fork)
        if not gone and not answered:
            least = min(least, breach.deadline - tip)
    return least


def named(txid: bytes) -> str:
    """The beginning of a txid, for what is told."""
    return display(txid)[:8]
