"""Planted bugs of the bid: other towers' ways to price a penalty, and slips in our own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

import msgspec

import domain.fees
import domain.punishing
from domain.contract.penalty import penalty_vsize
from domain.deadlines import remaining
from domain.punishing import Price
from tests.simulation.mutants.planting import Mutant
from watchtower.responder.punish import Case, Due, Punisher
from watchtower.responder.runs import Run, View

_next, _decide, _shares = Punisher._next, Punisher._decide, domain.fees._shares


def _priced(change: Callable[[Case, Price], int | None]) -> Callable[[Punisher, Case, Price, View], Due | None]:
    """`_next` of a punisher that wants another fee; never below its last bid, which would be another bug."""

    def follow(punisher: Punisher, case: Case, wanted: Price, view: View) -> Due | None:
        if wanted.fee is None:
            return None
        fee = change(case, wanted)
        bids = case.channel.bids_on(case.breach.txid)
        least = bids[-1].fee if bids else 0
        wished = None if fee is None else max(least, min(fee, wanted.limits.highest))
        return _next(punisher, case, msgspec.structs.replace(wanted, fee=wished), view)

    return follow


def _ten_per_vbyte(case: Case, wanted: Price) -> int:
    return 10 * penalty_vsize(case.channel.params, case.channel.sweep_spk)


def _once_estimated(case: Case, wanted: Price) -> int | None:
    bids = case.channel.bids_on(case.breach.txid)
    return bids[-1].fee if bids else wanted.fee


def _from_where_we_began(punisher: Punisher, case: Case, view: View, run: Run) -> Due | None:
    began: dict[bytes, int] = vars(punisher).setdefault("began", {})
    block = case.breach.block
    if block is None:
        return _decide(punisher, case, view, run)
    first = began.setdefault(case.breach.txid, view.highest)
    return _decide(punisher, case, msgspec.structs.replace(view, highest=block.height + view.highest - first), run)


def _low_after_a_start(punisher: Punisher, case: Case, wanted: Price, view: View) -> Due | None:
    ours: set[bytes] = vars(punisher).setdefault("ours", set())
    bids = case.channel.bids_on(case.breach.txid)
    if wanted.fee is not None and bids and bids[-1].txid not in ours:
        vsize = penalty_vsize(case.channel.params, case.channel.sweep_spk)
        lowest = max(wanted.limits.lowest, ceil(view.market.relay_floor * vsize))
        due: Due | None = punisher._sign(case, min(lowest, wanted.limits.highest), wanted)
    else:
        due = _next(punisher, case, wanted, view)
    if due is not None and due.signed is not None:
        ours.add(due.signed.tx.txid)
    return due


def _by_the_clock(punisher: Punisher, case: Case, wanted: Price, view: View) -> Due | None:
    """A raise every four hours by the wall clock, which is what 24 blocks of ten minutes would be good for."""
    raised: dict[bytes, int] = vars(punisher._journal._store).setdefault("raised", {})
    now, bids = punisher._now, case.channel.bids_on(case.breach.txid)
    early = bids and now < raised.get(case.breach.txid, 0) + 4 * 3_600 * 10**6
    if early and wanted.fee is not None:
        wanted = msgspec.structs.replace(wanted, fee=bids[-1].fee)
    due = _next(punisher, case, wanted, view)
    if due is not None and due.signed is not None:
        raised[case.breach.txid] = now
    return due


def _half_at_most(left: int, window: int) -> tuple[float, float]:
    lowest, ceiling = _shares(left, window)
    return min(lowest, 0.5), min(ceiling, 0.5)


def _no_floor(left: int, window: int) -> tuple[float, float]:
    return 0.0, _shares(left, window)[1]


def _without_the_last(**arguments: Any) -> float:
    return domain.fees.bid(**{**arguments, "last": None})


FEES: Sequence[Mutant] = (
    Mutant(
        "ten-per-vbyte",
        "every penalty pays 10 sat/vB",
        "lnd tower policy",
        ("O1", "O5"),
        ((Punisher, "_next", _priced(_ten_per_vbyte)),),
    ),
    Mutant(
        "estimated-once",
        "the fee is the estimate of the first moment and never changes",
        "lnd breach arbiter, #9426",
        ("O1",),
        ((Punisher, "_next", _priced(_once_estimated)),),
    ),
    Mutant(
        "curve-begins-with-the-process",
        "blocks are counted from the first look of this process, not from the breach",
        "lnd sweeper up to 0.18.5",
        ("O1",),
        ((Punisher, "_decide", _from_where_we_began),),
    ),
    Mutant(
        "lower-after-a-restart",
        "the first bid of a process begins at the floor",
        "lnd sweeper up to 0.18.5",
        ("O5",),
        ((Punisher, "_next", _low_after_a_start),),
    ),
    Mutant(
        "half-at-most",
        "no more than half of the value is ever paid",
        "lnd sweeper's budget",
        ("O1",),
        ((domain.fees, "_shares", _half_at_most),),
    ),
    Mutant(
        "estimates-alone",
        "the bid has no floor of its own that rises",
        "own",
        ("O1",),
        ((domain.fees, "_shares", _no_floor),),
    ),
    Mutant(
        "raised-by-the-clock",
        "a bid is raised every four hours of the wall clock",
        "own",
        ("O1",),
        ((Punisher, "_next", _by_the_clock),),
    ),
    Mutant(
        "one-period-for-all",
        "every channel is taken to have the longest challenge period",
        "own",
        ("O1", "O5"),
        ((domain.punishing, "remaining", lambda due, tip: remaining(due, tip) + 24),),
    ),
    Mutant(
        "own-bids-forgotten",
        "a bid takes no notice of the one before it",
        "own",
        ("O5",),
        (
            (domain.punishing, "bid", _without_the_last),
            (Punisher, "_next", _priced(lambda case, wanted: wanted.fee)),
        ),
    ),
)

__all__ = ["FEES"]
