"""Watches what the tower writes and sends, at the moment it does: fees (O5) and accusations (O6).

A violation ends the schedule at once; it is no `Exception`, so that no part of the tower can swallow it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from domain.chain import OutPoint
from domain.contract.penalty import penalty_vsize
from domain.contract.scripts import dust_limit
from domain.events import (
    BreachDetected,
    ChannelRegistered,
    ChannelResolved,
    Envelope,
    PenaltyPrepared,
    SpendConfirmed,
    SpendDisconnected,
    StateRevoked,
    StateUpdated,
)
from domain.fees import Market
from domain.transaction import Transaction
from domain.units import FINAL_DEPTH
from tests.simulation.case import Case, Known, contest_outpoints, known_transactions, parsed
from tests.simulation.pool import Prepared

CALM_MARKET = Market(1.0, 1.0, 1.0)
MEMPOOL_SHARE = 0.1
CRITICAL = 6
"""So many blocks before the deadline everything may be spent."""


class Violation(BaseException):
    """An oracle was broken: its name and what was seen."""

    def __init__(self, oracle: str, text: str) -> None:
        super().__init__(f"{oracle}: {text}")
        self.oracle = oracle


class Judge:
    """Sees every durable event and every transaction that the tower sends.

    `market` is what the node said last, `height` that of the best block. While the store `is_full` bids may be sent
    that stand in no log; nobody knows those after a restart.
    """

    def __init__(
        self,
        cases: Mapping[str, Case],
        *,
        is_full: Callable[[], bool] = lambda: False,
        height: Callable[[], int] = lambda: 0,
    ) -> None:
        self._cases = cases
        self._is_full, self._height = is_full, height
        self.market = CALM_MARKET
        self.breaches: set[bytes] = set()
        self.bids = self.critical_bids = 0
        self.penalties_sent = 0

    # ── durable events ───────────────────────────────────────────────────────────────────────────────────

    def observe(self, event: Envelope) -> None:
        """An event was committed."""
        case = self._cases.get(event.stream)
        if case is None:
            return
        payload = event.payload
        match payload:
            case ChannelRegistered():
                case.registered, case.newest = True, 0
            case StateUpdated():
                case.newest = max(case.newest, payload.sequence)
                if payload.revoked_secret is not None:
                    case.revoked = max(case.revoked, payload.sequence - 1)
            case StateRevoked() if payload.secret is not None:
                case.revoked = max(case.revoked, payload.sequence)
            case ChannelResolved() if payload.depth < FINAL_DEPTH:
                raise Violation("O3", f"channel {case.channel.index} is over after {payload.depth} confirmations")
            case SpendConfirmed():
                case.heights[payload.txid] = payload.block.height
            case SpendDisconnected():
                case.heights.pop(payload.txid, None)
            case BreachDetected():
                self._accused(case, payload)
            case PenaltyPrepared():
                self._prepared(case, payload)

    def _accused(self, case: Case, payload: BreachDetected) -> None:
        known = known_transactions(case.channel.index).get(payload.txid)
        if known is None or known.kind != "commit" or not case.is_stale(known.sequence):
            raise Violation("O6", f"{_name(known)} was called a breach of state {payload.sequence}")
        self.breaches.add(payload.txid)

    def _prepared(self, case: Case, bid: PenaltyPrepared) -> None:
        """O5: never lower, a whole step at least, never above the ceiling of this block."""
        self.bids += 1
        self.critical_bids += bid.remaining is not None and bid.remaining <= CRITICAL
        vsize = penalty_vsize(case.channel.params, case.channel.sweep)
        last, cap = case.fees.get(bid.commit_txid), _cap(case.channel)
        adopted = bid.txid in case.sent
        case.fees[bid.commit_txid] = bid.fee
        case.prepared[bid.txid] = bid.fee
        paid = case.channel.params.contest_value - sum(out.value for out in parsed(bid.raw).outputs)
        if paid != bid.fee:
            raise Violation("O5", f"the bid says {bid.fee} sat and pays {paid}")
        if last is not None and bid.fee <= last:
            raise Violation("O5", f"a bid of {bid.fee} sat follows one of {last}")
        if last is not None and not adopted and bid.fee < min(cap, last + vsize):
            raise Violation("O5", f"a bid of {bid.fee} sat is no valid step above {last}")
        if not adopted:
            self._check_blocks_left(case, bid)
        if not adopted and bid.fee > self._most(case.channel, bid, last, vsize):
            raise Violation("O5", f"a bid of {bid.fee} sat with {bid.remaining} blocks left is above its ceiling")

    def _check_blocks_left(self, case: Case, bid: PenaltyPrepared) -> None:
        """Whoever believes that less is left than there is burns money."""
        height = case.heights.get(bid.commit_txid)
        least = None if height is None else height + case.channel.period - 1 - self._height()
        if (bid.remaining is None) is not (least is None) or (least is not None and (bid.remaining or 0) < least):
            raise Violation("O5", f"a bid was made for {bid.remaining} blocks left, and there are {least}")

    def _most(self, channel: Prepared, bid: PenaltyPrepared, last: int | None, vsize: int) -> float:
        """The ceiling in satoshi, worked out from the table of the protocol and not from `domain.fees`."""
        cap, relayed = _cap(channel), self.market.relay_floor * vsize + 1
        if last is not None and last < relayed:
            relayed = max(relayed, last + max(1.0, self.market.increment) * vsize + 1)
        if bid.remaining is None:
            return channel.params.contest_value * MEMPOOL_SHARE
        share = ceiling_share(bid.remaining, channel.period)
        return min(float(cap), max(relayed, cap * share + 1))

    # ── what is sent ─────────────────────────────────────────────────────────────────────────────────────

    def sent(self, raw: bytes) -> None:
        """The tower hands a transaction to its node."""
        tx = parsed(raw)
        for case in self._cases.values():
            contest = contest_outpoints(case.channel.index).get(tx.inputs[0].outpoint)
            if contest is not None:
                self._contest_taken(case, contest, tx)
            elif tx.inputs[0].outpoint == case.funding:
                self._closed(case, tx)

    def _contest_taken(self, case: Case, contest: Known, tx: Transaction) -> None:
        known = known_transactions(case.channel.index).get(tx.txid)
        stale = contest.kind == "commit" and case.is_stale(contest.sequence)
        if known is not None:
            if stale:
                raise Violation("O6", f"the tower settles the revoked state {contest.sequence} for the cheater")
            return
        if not stale:
            raise Violation("O6", f"a penalty was sent against {_name(contest)}, revoked up to {case.revoked}")
        self._penalty_sent(case, contest, tx)

    def _penalty_sent(self, case: Case, contest: Known, tx: Transaction) -> None:
        if [out.spk for out in tx.outputs] != [case.channel.sweep]:
            raise Violation("O6", f"a penalty of state {contest.sequence} pays somebody else")
        fee = case.channel.params.contest_value - tx.outputs[0].value
        self.penalties_sent += 1
        durable = (f for txid, f in case.sent.items() if txid in case.prepared and _same_commit(case, txid, tx))
        highest = max(durable, default=0)
        if tx.txid not in case.prepared and not self._is_full():
            raise Violation("O5", f"a penalty of {fee} sat was sent before the intent was durable")
        if fee < highest:
            raise Violation("O5", f"a penalty of {fee} sat was sent after one of {highest}")
        case.sent[tx.txid] = fee
        case.spends[tx.txid] = tx.inputs[0].outpoint

    def packed(self, raw: bytes, waiting: Mapping[OutPoint, bytes]) -> None:
        """The tower hands a commitment with its penalty to its node, whose mempool has these spenders."""
        place = parsed(raw).inputs[0].outpoint
        for case in self._cases.values():
            found = waiting.get(place) if place == case.funding else None
            known = None if found is None else known_transactions(case.channel.index).get(found)
            if known is not None and not (known.kind == "commit" and case.is_stale(known.sequence)):
                raise Violation("O6", f"a package goes out against {_name(known)}, to which the cheater retreated")

    def _closed(self, case: Case, tx: Transaction) -> None:
        """A revoked commitment before its penalty, or the owner's newest one that a reorg threw out of its block."""
        known = known_transactions(case.channel.index).get(tx.txid)
        if known is not None and known.kind == "own" and known.sequence in case.own_out - set(range(case.revoked + 1)):
            return
        if known is None or known.kind != "commit" or not case.is_stale(known.sequence):
            raise Violation("O6", f"the tower published {_name(known)}, which nobody asked for")


def ceiling_share(remaining: int, period: int) -> float:
    """The share of the value that may be spent: green 2 to 10 %, amber 50 %, red 75 %, critical everything."""
    if remaining <= CRITICAL:
        return 1.0
    if remaining > period / 2:
        return 0.02 + 0.16 * (1 - remaining / period)
    return 0.5 if remaining > max(18, period // 8) else 0.75


def _cap(channel: Prepared) -> int:
    return channel.params.contest_value - dust_limit(channel.sweep)


def _same_commit(case: Case, txid: bytes, tx: Transaction) -> bool:
    return case.spends.get(txid) == tx.inputs[0].outpoint


def _name(known: Known | None) -> str:
    return "an unknown transaction" if known is None else f"the {known.kind} transaction of state {known.sequence}"
